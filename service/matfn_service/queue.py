"""Jobs that wait for the device, by key: a pure structure without an event loop or a clock.

Rules of this file:

- A job's place is fixed when it comes, by the moment it is due: its deadline, or `patience` after its arrival if that
  is earlier, moved forward by `aging` for each level of its priority. Among jobs that come together this is priority,
  then earliest deadline, then oldest. And since it never changes, nothing starves: whatever comes later than
  `9 aging + patience` after a job is behind it, whatever its priority.
- A batch holds jobs of one key, that of the job which is due first, in the order in which they are due.
- What waits is counted in bytes and predicted seconds, as running sums; the sums never exceed the bound.

Removed jobs leave an empty entry in the heaps, dropped when it comes up or when there are too many of them.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["MOST_ITEMS", "MOST_JOBS", "PRIORITIES", "KeyedQueue", "Limit", "Queued"]

PRIORITIES: Final = 10
MOST_JOBS: Final = 256
"""Jobs of a batch: the event loop takes some ten microseconds for each."""
MOST_ITEMS: Final = 4096
"""Matrices of a batch: the event loop takes half a microsecond for each certificate."""

_MOST_HEADS: Final = 1024  # keys that are looked through for a short job
_SLACK: Final = 64  # empty entries that are not worth a rebuild


class Queued(Protocol):
    """The attributes of a job that the queue reads."""

    @property
    def key(self) -> Hashable:
        """Jobs with equal keys may share a batch."""

    @property
    def seconds(self) -> float:
        """Predicted device time."""

    @property
    def bytes(self) -> int:
        """Memory held while it waits."""

    @property
    def items(self) -> int:
        """Number of matrices."""

    @property
    def priority(self) -> int:
        """0 to 9, higher goes first."""

    @property
    def arrived(self) -> float:
        """Time of its arrival."""

    @property
    def deadline(self) -> float:
        """When its answer is no longer of use; infinity if always."""


J = TypeVar("J", bound=Queued)


@dataclass(frozen=True, slots=True)
class Limit:
    """Predicted seconds and bytes, as an amount or as a bound."""

    seconds: float
    bytes: int

    def scaled(self, factor: float) -> Limit:
        """The bound times a factor."""
        return Limit(self.seconds * factor, int(self.bytes * factor))


@dataclass(slots=True, order=True)
class _Entry(Generic[J]):
    due: float
    number: int
    job: J | None = field(compare=False)


class KeyedQueue(Generic[J]):
    """A bounded queue that is pushed single jobs and pops batches of one key."""

    def __init__(self, bound: Limit, aging: float) -> None:
        self.bound = bound
        self.bytes = 0
        self._seconds = [0.0] * PRIORITIES
        self._aging = aging
        self._patience = aging / 2
        self._pushed = 0
        self._entries: dict[J, _Entry[J]] = {}
        self._all: list[_Entry[J]] = []
        self._keys: dict[Hashable, list[_Entry[J]]] = {}
        self._deadlines: list[tuple[float, int, _Entry[J]]] = []

    def __len__(self) -> int:
        """Number of jobs that wait."""
        return len(self._entries)

    @property
    def seconds(self) -> float:
        """Predicted device time of all that waits."""
        return self.seconds_ahead(0)

    def seconds_ahead(self, priority: int) -> float:
        """Predicted device time of what waits at this priority or a higher one."""
        return math.fsum(self._seconds[priority:])

    def has_room(self, seconds: float, size: int) -> bool:
        """Whether so much more may wait; predicted time alone never bars the first job."""
        fits = not self._entries or self.seconds + seconds <= self.bound.seconds
        return fits and self.bytes + size <= self.bound.bytes

    def push(self, *jobs: J) -> bool:
        """Takes all of these jobs in, or returns False and takes none if there is no room for all."""
        if not self.has_room(math.fsum(job.seconds for job in jobs), sum(job.bytes for job in jobs)):
            return False
        for job in jobs:
            self._push(job)
        return True

    def _push(self, job: J) -> None:
        due = min(job.deadline, job.arrived + self._patience) - self._aging * job.priority
        entry = _Entry(due, self._pushed, job)
        self._pushed += 1
        self._entries[job] = entry
        self.bytes += job.bytes
        self._seconds[job.priority] += job.seconds
        heapq.heappush(self._all, entry)
        heapq.heappush(self._keys.setdefault(job.key, []), entry)
        if job.deadline < math.inf:
            heapq.heappush(self._deadlines, (job.deadline, entry.number, entry))

    def discard(self, job: J) -> bool:
        """Forgets a job and frees its room; returns False if it did not wait here."""
        entry = self._entries.pop(job, None)
        if entry is None:
            return False
        entry.job = None
        self.bytes -= job.bytes
        self._seconds[job.priority] -= job.seconds
        if len(self._all) > _SLACK + 2 * len(self._entries) or not self._entries:
            self._compact()
        return True

    def expire(self, now: float) -> list[J]:
        """Forgets the jobs whose deadline has come, and returns them."""
        expired: list[J] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            job = heapq.heappop(self._deadlines)[2].job
            if job is not None:
                expired.append(job)
                self.discard(job)
        return expired

    def first(self) -> J | None:
        """The job that is due first; None if nothing waits."""
        return _head(self._all)

    def first_short(self, seconds: float, priority: int) -> J | None:
        """Of the oldest keys' first jobs below these seconds and not below this priority, the one that is due first."""
        oldest = islice(self._keys.values(), _MOST_HEADS)
        heads = [entries[0] for entries in oldest if _head(entries) is not None]
        short = [
            entry for entry in heads if entry.job and entry.job.seconds < seconds and entry.job.priority >= priority
        ]
        return min(short).job if short else None

    def next_batch(self, now: float, limit: Limit, key: Hashable = None) -> list[J]:
        """Takes a key's first jobs that together stay within the limit; a larger one goes alone.

        Without a key it is that of the job which is due first.

        Jobs whose deadline has come are left for `expire`, which callers use first.
        """
        assert not (self._deadlines and self._deadlines[0][0] <= now and self._deadlines[0][2].job)
        if key is None:
            first = self.first()
            key = None if first is None else first.key
        entries = self._keys.get(key, [])
        taken: list[J] = []
        seconds, size, items = 0.0, 0, 0
        while len(taken) < MOST_JOBS and (job := _head(entries)) is not None:
            seconds, size, items = seconds + job.seconds, size + job.bytes, items + job.items
            if taken and (seconds > limit.seconds or size > limit.bytes or items > MOST_ITEMS):
                break
            taken.append(job)
            heapq.heappop(entries)
        if not entries:
            self._keys.pop(key, None)
        for job in taken:
            self.discard(job)
        return taken

    def _compact(self) -> None:
        """Rebuilds heaps and sums from what waits: without empty entries, and without the rounding of past sums."""
        live = sorted(self._entries.values(), key=attrgetter("due", "number"))
        self._all = live.copy()
        self._keys = {}
        self._deadlines = []
        self._seconds = [0.0] * PRIORITIES
        for entry in live:
            assert entry.job is not None
            self._keys.setdefault(entry.job.key, []).append(entry)
            self._seconds[entry.job.priority] += entry.job.seconds
            if entry.job.deadline < math.inf:
                self._deadlines.append((entry.job.deadline, entry.number, entry))
        heapq.heapify(self._deadlines)


def _head(entries: list[_Entry[J]]) -> J | None:
    """The first job that still waits; empty entries before it are dropped."""
    while entries and entries[0].job is None:
        heapq.heappop(entries)
    return entries[0].job if entries else None
