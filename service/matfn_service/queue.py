"""Jobs that wait for the device, by tenant and key: a pure structure without an event loop or a clock.

Rules of this file:

- Tenants take turns by start-time fair queueing. Each has a virtual time, the predicted seconds that it was given over
  its weight. The tenant with the earliest one is next; one that had nothing to do begins at the present virtual time
  and has saved nothing up. Cf. Goyal, Vin, Cheng: Start-time fair queueing, 1996.
- Within a tenant, a job's place is fixed when it comes, by the moment it is due: its deadline, or `patience` after
  its arrival if that is earlier, moved forward by `aging` for each level of its priority. Among jobs that come together
  this is priority, then earliest deadline, then oldest. And since it never changes, nothing starves: whatever comes
  later than `9 aging + patience` after a job is behind it, whatever its priority.
- A batch holds jobs of one key, that of the job which is first, one after the other of the tenant whose turn it is.
- What waits is counted in bytes and predicted seconds, as running sums. The bytes never exceed the bound, nor do the
  seconds of a tenant its share of the bound, the one by its weight among the tenants that wait.

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
    from collections.abc import Callable, Hashable, Iterable, Iterator

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
    def tenant(self) -> str:
        """The owner of the job: tenants share the device by their weights."""

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


@dataclass(slots=True)
class _Tenant(Generic[J]):
    """The jobs of one tenant, all and by key, and its virtual time."""

    virtual: float = 0.0
    latest: float = -math.inf
    jobs: int = 0
    seconds: list[float] = field(default_factory=lambda: [0.0] * PRIORITIES)
    all: list[_Entry[J]] = field(default_factory=list)
    keys: dict[Hashable, list[_Entry[J]]] = field(default_factory=dict)

    def add(self, entry: _Entry[J], job: J) -> None:
        """Puts a job in its place."""
        heapq.heappush(self.all, entry)
        heapq.heappush(self.keys.setdefault(job.key, []), entry)

    def take(self, key: Hashable) -> None:
        """Removes the first entry of a key."""
        heapq.heappop(self.keys[key])
        if not self.keys[key]:
            del self.keys[key]


class KeyedQueue(Generic[J]):
    """A bounded queue that is pushed single jobs and pops batches of one key.

    Args:
        bound: most bytes and seconds that may wait.
        aging: seconds of waiting that weigh as much as one level of priority.
        weight_of: the weight of a tenant.
    """

    def __init__(self, bound: Limit, aging: float, weight_of: Callable[[str], float] = lambda _: 1.0) -> None:
        self.bound = bound
        self.bytes = 0
        self._weight_of = weight_of
        self._aging = aging
        self._patience = aging / 2
        self._pushed = 0
        self._virtual = 0.0
        self._entries: dict[J, _Entry[J]] = {}
        self._tenants: dict[str, _Tenant[J]] = {}
        self._deadlines: list[tuple[float, int, _Entry[J]]] = []

    def __len__(self) -> int:
        """Number of jobs that wait."""
        return len(self._entries)

    @property
    def seconds(self) -> float:
        """Predicted device time of all that waits."""
        return math.fsum(seconds for tenant in self._tenants.values() for seconds in tenant.seconds)

    def seconds_ahead(self, priority: int, tenant: str = "") -> float:
        """Predicted device time until all that a tenant has waiting at this priority or a higher one is done.

        The other tenants get their shares meanwhile.
        """
        own = self._tenants.get(tenant)
        if own is None:
            return 0.0
        ahead = math.fsum(own.seconds[priority:])
        return min(ahead / self.share(tenant), self.seconds - math.fsum(own.seconds) + ahead)

    def share(self, tenant: str) -> float:
        """The part of the device that a tenant has while all wait that wait now."""
        others = [name for name, other in self._tenants.items() if other.jobs and name != tenant]
        own = self._weight_of(tenant)
        return own / (own + math.fsum(map(self._weight_of, others))) if others else 1.0

    def has_rivals(self, tenant: str, since: float) -> bool:
        """Whether another tenant has jobs that wait, or had one come since that time."""
        return any(other.jobs > 0 or other.latest >= since for name, other in self._tenants.items() if name != tenant)

    def has_jobs(self, tenant: str) -> bool:
        """Whether a tenant has jobs that wait."""
        return tenant in self._tenants and self._tenants[tenant].jobs > 0

    def waiting_by_key(self, most: int) -> list[tuple[J, int]]:
        """A job of each of the oldest keys, and how many jobs of the key wait, of all tenants together."""
        found: dict[Hashable, tuple[J, int]] = {}
        for tenant in self._waiting():
            for key, entries in islice(tenant.keys.items(), most):
                if (job := _head(entries)) is not None:
                    first, number = found.get(key, (job, 0))
                    found[key] = first, number + len(entries)
        return list(found.values())[:most]

    def charge(self, tenant: str, seconds: float) -> None:
        """Moves a tenant's virtual time by seconds that it took beyond those predicted, or did not take."""
        if tenant in self._tenants:
            self._tenants[tenant].virtual += seconds / self._weight_of(tenant)

    def has_room(self, tenant: str, seconds: float, size: int, part: float = 1.0) -> bool:
        """Whether so much more may wait within this part of a tenant's seconds; those never bar its first job."""
        own = self._tenants.get(tenant)
        most = self.bound.seconds * self.share(tenant) * part
        fits = own is None or not own.jobs or math.fsum(own.seconds) + seconds <= most
        return fits and self.bytes + size <= self.bound.bytes

    def push(self, *jobs: J) -> bool:
        """Takes all of these jobs of one tenant in, or returns False and takes none if there is no room for all."""
        seconds, size = math.fsum(job.seconds for job in jobs), sum(job.bytes for job in jobs)
        if not self.has_room(jobs[0].tenant, seconds, size):
            return False
        for job in jobs:
            self._push(job, self._due(job, job.arrived))
        tenant = self._tenants[jobs[0].tenant]
        tenant.latest = max(tenant.latest, jobs[0].arrived)
        return True

    def replace(self, job: J, pieces: Iterable[J], now: float | None) -> None:
        """Puts pieces of a job that waits in its place; with a time, all but the first as if they came then."""
        first, *others = pieces
        due = self._entries[job].due
        self.discard(job)
        self._push(first, due)
        for other in others:
            self._push(other, due if now is None else self._due(other, now))

    def _due(self, job: J, now: float) -> float:
        return min(job.deadline, now + self._patience) - self._aging * job.priority

    def _push(self, job: J, due: float) -> None:
        entry = _Entry(due, self._pushed, job)
        self._pushed += 1
        self._entries[job] = entry
        self.bytes += job.bytes
        tenant = self._tenants.setdefault(job.tenant, _Tenant())
        if not tenant.jobs:
            tenant.virtual = max(tenant.virtual, self._virtual)
        tenant.jobs += 1
        tenant.seconds[job.priority] += job.seconds
        tenant.add(entry, job)
        if job.deadline < math.inf:
            heapq.heappush(self._deadlines, (job.deadline, entry.number, entry))

    def discard(self, job: J) -> bool:
        """Forgets a job and frees its room; returns False if it did not wait here."""
        entry = self._entries.pop(job, None)
        if entry is None:
            return False
        entry.job = None
        self.bytes -= job.bytes
        tenant = self._tenants[job.tenant]
        tenant.jobs -= 1
        tenant.seconds[job.priority] -= job.seconds
        if max(len(tenant.all), len(tenant.keys)) > _SLACK + 2 * tenant.jobs or not tenant.jobs:
            self._compact(job.tenant)
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
        """The job that is due first of the tenant whose turn it is; None if nothing waits."""
        tenant = _next(self._waiting())
        return None if tenant is None else _head(tenant.all)

    def first_short(self, seconds: float, priority: int, tenant: str = "") -> J | None:
        """Of the keys whose first job is below these seconds, the first job.

        Those of this tenant count if they are not below this priority, and come after those of the others.
        """
        least = {name: priority if name == tenant else 0 for name in self._tenants}
        found = [
            (name == tenant, own.virtual, entry)
            for name, own in self._tenants.items()
            if own.jobs
            for entry in _heads(own)
            if entry.job and entry.job.seconds < seconds and entry.job.priority >= least[name]
        ]
        return min(found, key=lambda one: (one[0], one[1], one[2]))[2].job if found else None

    def next_batch(
        self, now: float, limit: Limit, first: J | None = None, seconds_of: Callable[[J], float] | None = None
    ) -> list[J]:
        """Takes a key's first jobs that together stay within the limit; a larger one goes alone.

        Args:
            now: jobs whose deadline has come by then are left for `expire`, which callers use first.
            limit: of the batch.
            first: the job whose key it is and whose tenant begins; None takes the one which is first.
            seconds_of: what counts against the limit; None takes the seconds that were predicted when a job came.
        """
        assert not (self._deadlines and self._deadlines[0][0] <= now and self._deadlines[0][2].job)
        first = first or self.first()
        if first is None:
            return []
        key = first.key
        turn: _Tenant[J] | None = self._tenants[first.tenant]
        self._virtual = max(self._virtual, self._tenants[first.tenant].virtual)
        taken: list[J] = []
        seconds, size, items = 0.0, 0, 0
        while turn is not None and len(taken) < MOST_JOBS and (job := _head(turn.keys[key])) is not None:
            seconds += job.seconds if seconds_of is None else seconds_of(job)
            size, items = size + job.bytes, items + job.items
            if taken and (seconds > limit.seconds or size > limit.bytes or items > MOST_ITEMS):
                break
            taken.append(job)
            turn.take(key)
            turn.virtual += job.seconds / self._weight_of(job.tenant)
            self.discard(job)
            turn = _next(other for other in self._waiting() if _has(other, key))
        return taken

    def _waiting(self) -> Iterator[_Tenant[J]]:
        return (tenant for tenant in self._tenants.values() if tenant.jobs)

    def _compact(self, name: str) -> None:
        """Rebuilds a tenant's heaps and sums: without empty entries, and without the rounding of past sums."""
        tenant = self._tenants[name]
        live = sorted((entry for entry in tenant.all if entry.job is not None), key=attrgetter("due", "number"))
        tenant.all, tenant.keys, tenant.seconds = live, {}, [0.0] * PRIORITIES
        for entry in live:
            assert entry.job is not None
            tenant.keys.setdefault(entry.job.key, []).append(entry)
            tenant.seconds[entry.job.priority] += entry.job.seconds
        self._deadlines = [entry for entry in self._deadlines if entry[2].job is not None]
        heapq.heapify(self._deadlines)


def _next(tenants: Iterable[_Tenant[J]]) -> _Tenant[J] | None:
    """The tenant with the earliest virtual time; between equal ones, the job which is due first decides."""
    waiting = list(tenants)
    if len(waiting) < 2:  # noqa: PLR2004 - as nearly always
        return waiting[0] if waiting else None
    return min(waiting, key=lambda tenant: (tenant.virtual, _head(tenant.all) and tenant.all[0]))


def _has(tenant: _Tenant[J], key: Hashable) -> bool:
    return key in tenant.keys and _head(tenant.keys[key]) is not None


def _heads(tenant: _Tenant[J]) -> Iterator[_Entry[J]]:
    """The first entry of each of the oldest keys."""
    oldest = islice(tenant.keys.values(), _MOST_HEADS)
    return (entries[0] for entries in oldest if _head(entries) is not None)


def _head(entries: list[_Entry[J]]) -> J | None:
    """The first job that still waits; empty entries before it are dropped."""
    while entries and entries[0].job is None:
        heapq.heappop(entries)
    return entries[0].job if entries else None
