"""The replica for a call: the one with most calls of its key, unless the queue there is too long.

Calls of one key that wait at one replica share a batch. The queue of a replica is bounded by its share of all calls
under way times a slack, so that a key which everybody calls spreads over as many replicas as it takes, and none of them
stands idle. Cf. Mirrokni, Thorup, Zadimoghaddam: Consistent hashing with bounded loads, 2018.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Placements", "preferred"]


def preferred(queues: Mapping[str, int], alike: Mapping[str, int], slack: float) -> str:
    """The replica that a call goes to; the shorter queue decides between equal numbers of calls of its key.

    Args:
        queues: how many calls wait or run at each replica, by its name.
        alike: how many of them have the key of this call.
        slack: how many times the mean queue one replica may have, at least 1.
    """
    bound = math.ceil(slack * (sum(queues.values()) + 1) / len(queues))
    within = [name for name, length in queues.items() if length < bound]
    return max(within, key=lambda name: (alike.get(name, 0), -queues[name]))


class Placements:
    """The replicas to which one router has sent the calls under way.

    Args:
        clock: seconds that never go back.
        seconds: what was sent longer ago is in no batch that is still forming.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._placed: dict[str, tuple[float, str, str]] = {}

    def add(self, request: str, key: str, replica: str) -> None:
        """A request with a call of this key goes to this replica."""
        self._placed.pop(request, None)
        self._placed[request] = self._clock(), key, replica

    def remove(self, request: str) -> None:
        """A request has ended."""
        self._placed.pop(request, None)

    def alike(self, key: str) -> Counter[str]:
        """How many calls of a key each replica has."""
        self._forget()
        return Counter(replica for _, placed, replica in self._placed.values() if placed == key)

    def _forget(self) -> None:
        oldest = self._clock() - self._seconds
        while self._placed and next(iter(self._placed.values()))[0] < oldest:
            del self._placed[next(iter(self._placed))]
