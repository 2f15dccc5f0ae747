"""A fleet of replicas as a sequence of events: who takes a call, when it is batched, computed and answered.

A replica is one event loop, the service's own queue and one device. A call takes the loop twice, for the request and
for the answer; a free device takes the batch that is due first, at once, and is busy for a launch and the matrices'
seconds. Routers know of a queue what Ray's routers know: its length when they last sent there, less what they have sent
and has been answered since. Nothing fails, is refused or has a deadline here.

`simulate` is a pure function of its arguments.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from matfn_service.queue import KeyedQueue, Limit

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

__all__ = ["Fleet", "Kind", "Lengths", "Outcome", "Policy", "Trace", "by_key", "shorter_of_two", "simulate", "uniform"]

_UNBOUNDED: Final = Limit(math.inf, 1 << 62)
_AGING: Final = 10.0
_READY, _DONE = 0, 1


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls that are all alike.

    Attributes:
        hint: the header that routers see.
        key: what must be equal in a batch.
        matrices: in one call.
        seconds: predicted device time of them.
        bytes: held while the call waits or runs.
        received: size of the request.
        sent: size of the answer.
    """

    hint: str
    key: Hashable
    matrices: int
    seconds: float
    bytes: int
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Calls in the order in which they come: when, and the index of each one's kind."""

    kinds: tuple[Kind, ...]
    times: NDArray[np.float64]
    which: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fleet:
    """What calls are sent to.

    Attributes:
        replicas: how many.
        routers: how many; calls come to them in turn.
        launch: seconds of a batch beside its matrices.
        limit: the largest batch.
        loop_call: seconds of the event loop for a call without its bytes.
        loop_byte: seconds of the event loop for each byte received or sent.
        hop: seconds between a caller and a replica, each way.
        byte: seconds that a byte takes on the wire.
    """

    replicas: int
    routers: int = 1
    launch: float = 0.0
    limit: Limit = _UNBOUNDED
    loop_call: float = 0.0
    loop_byte: float = 0.0
    hop: float = 0.0
    byte: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trace.

    Attributes:
        finished: when each call's answer was with its caller.
        replica: which replica each call was sent to.
        batches: rows (launched, calls, matrices, predicted seconds), one a batch.
        device_seconds: that each device was busy.
        loop_seconds: that each event loop was busy.
    """

    finished: NDArray[np.float64]
    replica: NDArray[np.int64]
    batches: NDArray[np.float64]
    device_seconds: NDArray[np.float64]
    loop_seconds: NDArray[np.float64]


class Lengths:
    """The queues as one router knows them."""

    def __init__(self, replicas: int) -> None:
        self.total = 0
        self._known = [0] * replicas

    def __len__(self) -> int:
        """Number of replicas."""
        return len(self._known)

    def __getitem__(self, replica: int) -> int:
        """Calls at a replica."""
        return self._known[replica]

    def learn(self, replica: int, length: int) -> None:
        """Takes the true length, which a replica tells when it accepts a call."""
        self.total += length - self._known[replica]
        self._known[replica] = length

    def forget(self, replica: int) -> None:
        """Counts one call of the router's own that has been answered."""
        self.learn(replica, max(0, self._known[replica] - 1))


class Policy(Protocol):
    """How a router chooses the replica for a call."""

    def __call__(self, hint: str, lengths: Lengths, chance: random.Random, /) -> int:
        """The number of the replica."""


def uniform(hint: str, lengths: Lengths, chance: random.Random) -> int:
    """Any replica."""
    del hint
    return int(chance.random() * len(lengths))


def shorter_of_two(hint: str, lengths: Lengths, chance: random.Random) -> int:
    """The shorter queue of two, as Ray Serve does by itself."""
    one, other = uniform(hint, lengths, chance), uniform(hint, lengths, chance)
    return one if lengths[one] <= lengths[other] else other


def by_key(slack: float) -> Policy:
    """The choice of `matfn_service.affinity.favourite`, with its ranking kept; infinite slack never spreads a key."""

    def choose(hint: str, lengths: Lengths, chance: random.Random) -> int:
        del chance
        bound = slack * (lengths.total + 1) / len(lengths)
        return next(replica for replica in _ranked(hint, len(lengths)) if lengths[replica] < bound)

    return choose


@lru_cache(maxsize=1024)
def _ranked(hint: str, replicas: int) -> tuple[int, ...]:
    def rank(replica: int) -> bytes:
        return blake2b(f"{hint}\0{replica}".encode(), digest_size=8).digest()

    return tuple(sorted(range(replicas), key=rank, reverse=True))


def simulate(trace: Trace, fleet: Fleet, policy: Policy, seed: int) -> Outcome:
    """Plays the trace to its end, when every call has been answered."""
    return _Run(trace, fleet, policy, random.Random(seed)).outcome()  # noqa: S311 - a simulation's chance, repeatable


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A call in a replica's queue."""

    number: int
    kind: Kind
    arrived: float

    @property
    def key(self) -> Hashable:
        return self.kind.key

    @property
    def seconds(self) -> float:
        return self.kind.seconds

    @property
    def bytes(self) -> int:
        return self.kind.bytes

    @property
    def priority(self) -> int:
        return 0

    @property
    def deadline(self) -> float:
        return math.inf


class _Replica:
    """An event loop, a queue and a device."""

    def __init__(self) -> None:
        self.queue: KeyedQueue[_Waiting] = KeyedQueue(_UNBOUNDED, _AGING)
        self.is_computing = False
        self.device_seconds = 0.0
        self.loop_seconds = 0.0
        self._loop_free = 0.0

    def take_loop(self, now: float, seconds: float) -> float:
        """When the loop has done work of so many seconds, after all that came before."""
        self._loop_free = max(self._loop_free, now) + seconds
        self.loop_seconds += seconds
        return self._loop_free


class _Run:
    """One simulation under way."""

    def __init__(self, trace: Trace, fleet: Fleet, policy: Policy, chance: random.Random) -> None:
        self._trace, self._fleet, self._policy, self._chance = trace, fleet, policy, chance
        self._replicas = [_Replica() for _ in range(fleet.replicas)]
        self._lengths = [0] * fleet.replicas
        self._routers = [Lengths(fleet.replicas) for _ in range(fleet.routers)]
        self._events: list[tuple[float, int, int, int, Sequence[_Waiting]]] = []
        self._batches: list[tuple[float, int, int, float]] = []
        self._sent = np.full(len(trace.times), -1)
        self._finished = np.full(len(trace.times), np.nan)

    def outcome(self) -> Outcome:
        """Everything that happens, in the order of time."""
        for number, now in enumerate(self._trace.times.tolist()):
            self._until(now)
            self._route(number, now)
        self._until(math.inf)
        return Outcome(
            self._finished,
            self._sent,
            np.array(self._batches).reshape(-1, 4),
            np.array([replica.device_seconds for replica in self._replicas]),
            np.array([replica.loop_seconds for replica in self._replicas]),
        )

    def _until(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            at, event, _, index, calls = heapq.heappop(self._events)
            (self._ready if event == _READY else self._done)(at, index, calls)

    def _route(self, number: int, now: float) -> None:
        """Sends a call to a replica, whose loop reads it."""
        kind = self._trace.kinds[self._trace.which[number]]
        known = self._routers[number % self._fleet.routers]
        index = self._policy(kind.hint, known, self._chance)
        self._lengths[index] += 1
        known.learn(index, self._lengths[index])
        self._sent[number] = index
        there = now + self._fleet.hop + kind.received * self._fleet.byte
        read = self._replicas[index].take_loop(there, self._loop_seconds(kind.received))
        self._push(read, _READY, index, [_Waiting(number, kind, read)])

    def _loop_seconds(self, size: int) -> float:
        """Half of a call's, and its bytes'."""
        return self._fleet.loop_call / 2 + size * self._fleet.loop_byte

    def _push(self, at: float, event: int, index: int, calls: Sequence[_Waiting]) -> None:
        heapq.heappush(self._events, (at, event, calls[0].number, index, calls))

    def _ready(self, now: float, index: int, calls: Sequence[_Waiting]) -> None:
        """A call has been read: it waits, or is computed at once."""
        self._replicas[index].queue.push(*calls)
        self._launch(now, index)

    def _launch(self, now: float, index: int) -> None:
        replica = self._replicas[index]
        calls = [] if replica.is_computing else replica.queue.next_batch(now, self._fleet.limit)
        if not calls:
            return
        seconds = math.fsum(call.seconds for call in calls)
        replica.is_computing = True
        replica.device_seconds += self._fleet.launch + seconds
        self._batches.append((now, len(calls), sum(call.kind.matrices for call in calls), seconds))
        self._push(now + self._fleet.launch + seconds, _DONE, index, calls)

    def _done(self, now: float, index: int, calls: Sequence[_Waiting]) -> None:
        """A batch is done: the device takes the next one, the loop answers."""
        replica = self._replicas[index]
        replica.is_computing = False
        self._launch(now, index)
        self._lengths[index] -= len(calls)
        for call in calls:
            self._routers[call.number % self._fleet.routers].forget(index)
            answered = replica.take_loop(now, self._loop_seconds(call.kind.sent))
            self._finished[call.number] = answered + self._fleet.hop + call.kind.sent * self._fleet.byte
