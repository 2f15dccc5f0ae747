"""Admittance to the queue: deadlines, room, reservations and Retry-After, without an event loop or a clock.

- A call that cannot be done by its deadline is refused at once.
- A refused caller is given a time at which there will be room, behind all callers of its tenant that were refused
  before it. It is told to come back after a minute at most, since no prediction holds for longer.
- While reservations are open, callers without one may use half of the queue only; callers with one may use all of it.
- What other tenants have waiting delays a call by their shares of the device only, and takes none of its room.
- A large call is divided into pieces, so that it takes turns with others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from matfn_service.problems import Refusal
from matfn_service.queue import MOST_ITEMS, Limit
from matfn_service.reservations import Reservations

if TYPE_CHECKING:
    from matfn_service.jobs import Job
    from matfn_service.queue import KeyedQueue
    from matfn_service.statistics import Statistics

__all__ = ["Admittance", "Occupancy"]

_SHORTEST_WAIT: Final = 0.001
_LONGEST_WAIT: Final = 60.0
_GRACE: Final = 1.0  # how late a caller may come: clients add jitter to what they are told
_MOST_RESERVATIONS: Final = 1 << 14
_CAUTION: Final = 1.1  # a caller that comes a little late finds room, one that comes a little early is refused again
_HORIZON: Final = 8.0  # most reserved work, in bounds of the queue
_NEWCOMERS_SHARE: Final = 0.5  # enough to keep the device busy if no caller with a reservation comes
_PIECE: Final = 1 / 8  # of a batch's seconds: the size of a piece, below what a worker leaves to others
_MOST_PIECES: Final = 64  # made when a job comes; longer pieces are cut when their turn comes


@dataclass(frozen=True, slots=True)
class Occupancy:
    """The work on the device.

    Attributes:
        seconds: predicted time of all batches under way.
        bytes: size of their inputs and outputs.
        workers: number of workers.
        cost_ratio: measured seconds for each predicted one.
    """

    seconds: float
    bytes: int
    workers: int
    cost_ratio: float


class Admittance:
    """Puts jobs into the queue, or refuses them.

    Args:
        queue: the queue.
        limit: largest batch.
        statistics: where refusals are counted.
    """

    def __init__(self, queue: KeyedQueue[Job], limit: Limit, statistics: Statistics) -> None:
        self._queue = queue
        self._limit = limit
        self._statistics = statistics
        self.reservations: defaultdict[str, Reservations] = defaultdict(
            lambda: Reservations(_GRACE, _MOST_RESERVATIONS, queue.bound.scaled(_HORIZON))
        )

    def admit(self, job: Job, caller: str, device: Occupancy, now: float) -> tuple[Job, ...]:
        """Queues a job; returns the pieces that wait in its place.

        Args:
            job: the job.
            caller: name of the request, under which a refused caller comes back.
            device: the work on the device.
            now: seconds on the clock of the job's deadline.

        Raises:
            Refusal: `deadline_exceeded` if it cannot be done in time, `too_large` if the queue could never hold it,
                `busy` if it cannot hold it now.
        """
        self._refuse_hopeless(job, device, now)
        jobs = job.divided(self._pieces(job))
        if not self._has_room(job, caller, device, now) or not self._queue.push(*jobs):
            raise self._full(job, caller, device, now)
        return jobs

    def backlog_seconds(self, device: Occupancy) -> float:
        """Predicted time until all that runs or waits is done."""
        return (device.seconds + self._queue.seconds) / device.workers

    def _seconds_before(self, job: Job, device: Occupancy, priority: int = 0) -> float:
        """Predicted time until all is done that runs, or waits for the job's tenant at this priority or above."""
        return (device.seconds + self._queue.seconds_ahead(priority, job.tenant)) / device.workers

    def held_bytes(self, device: Occupancy) -> int:
        """Bytes of all jobs that wait or run, which are all in memory."""
        return self._queue.bytes + device.bytes

    def _refuse_hopeless(self, job: Job, device: Occupancy, now: float) -> None:
        remaining = job.deadline - now
        if remaining == math.inf or remaining > (wait := self._seconds_before(job, device, job.priority)):
            return
        self._statistics.dropped_deadline += 1
        if remaining <= 0:
            raise Refusal("deadline_exceeded", "the deadline had passed before the call could be queued")
        raise Refusal(
            "deadline_exceeded",
            f"about {wait:.3g} s of work are ahead of this call; its deadline is in {remaining:.3g} s",
            "allow more time, or raise the call's priority",
        )

    def _pieces(self, job: Job) -> int:
        limit = self._limit
        by_items = -(-job.items // MOST_ITEMS)
        by_seconds = min(_MOST_PIECES, int(job.seconds / (limit.seconds * _PIECE)))
        return max(1, by_items, -(-job.bytes // limit.bytes), by_seconds)

    def _has_room(self, job: Job, caller: str, device: Occupancy, now: float) -> bool:
        """Whether the job fits the bound, or its newcomers' share if others have reservations and its caller none."""
        reservations = self.reservations[job.tenant]
        part, held = 1.0, self.held_bytes(device)
        if reservations:
            reservations.expire(now)
            has_reservation = reservations.claim(caller, now)
            if reservations and not has_reservation and held:
                part = _NEWCOMERS_SHARE
        fits = held + job.bytes <= int(self._queue.bound.bytes * part)
        return fits and self._queue.has_room(job.tenant, job.seconds, 0, part)

    def _full(self, job: Job, caller: str, device: Occupancy, now: float) -> Refusal:
        """The refusal of a job for which there is no room; reserves room if there ever will be."""
        bound = self._queue.bound
        if job.bytes > bound.bytes:
            return Refusal(
                "too_large",
                f"inputs and outputs of the call take {job.bytes} bytes; the server holds {bound.bytes}"
                " (MATFN_QUEUE_BYTES)",
                "send fewer matrices per call",
            )
        wait = self._wait(job, device)
        told = min(wait, _LONGEST_WAIT)
        self.reservations[job.tenant].reserve(caller, now + told, Limit(job.seconds, job.bytes))
        self._statistics.dropped_busy += 1
        waiting, held, backlog = len(self._queue), self.held_bytes(device), self._seconds_before(job, device)
        detail = f"{waiting} jobs wait; {held} bytes and about {backlog:.3g} s are ahead"
        if wait > told:
            detail += f"; there may be room in about {wait:.3g} s, which is too far ahead to be told exactly"
        return Refusal("busy", detail, retry_after=told)

    def _wait(self, job: Job, device: Occupancy) -> float:
        """Seconds until there is room for the job behind all jobs that wait and all reservations."""
        bound, ahead = self._queue.bound.scaled(_NEWCOMERS_SHARE), self.reservations[job.tenant].ahead
        backlog, held = self._seconds_before(job, device), self.held_bytes(device)
        more = (ahead.seconds + job.seconds) / self._queue.share(job.tenant)
        for_seconds = backlog + (more - bound.seconds) / device.workers
        for_bytes = self.backlog_seconds(device) * (held + ahead.bytes + job.bytes - bound.bytes) / max(held, 1)
        return _SHORTEST_WAIT + max(for_seconds, for_bytes, 0.0) * device.cost_ratio * _CAUTION
