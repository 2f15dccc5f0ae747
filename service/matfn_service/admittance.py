"""Admittance to the queue: deadlines, room, reservations and Retry-After, without an event loop or a clock.

- A call that cannot be done by its deadline is refused at once.
- A refused caller is given a time at which there will be room, behind all callers that were refused before it.
- While reservations are open, callers without one may use half of the queue only; callers with one may use all of it.
- A large call is divided into pieces, so that it takes turns with others.
"""

from __future__ import annotations

import math
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
_GRACE: Final = 1.0  # how late a caller may come: clients add jitter to what they are told
_MOST_RESERVATIONS: Final = 1 << 14
_CAUTION: Final = 1.1  # a caller that comes a little late finds room, one that comes a little early is refused again
_HORIZON: Final = 8.0  # most reserved work, in bounds of the queue
_NEWCOMERS_SHARE: Final = 0.5  # enough to keep the device busy if no caller with a reservation comes
_PIECE: Final = 1 / 8  # of a batch's seconds: the size of a piece, below what a worker leaves to others


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
        self.reservations = Reservations(_GRACE, _MOST_RESERVATIONS, queue.bound.scaled(_HORIZON))

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

    def backlog_seconds(self, device: Occupancy, priority: int = 0) -> float:
        """Predicted time until all that runs, or waits at this priority or a higher one, is done."""
        return (device.seconds + self._queue.seconds_ahead(priority)) / device.workers

    def held_bytes(self, device: Occupancy) -> int:
        """Bytes of all jobs that wait or run, which are all in memory."""
        return self._queue.bytes + device.bytes

    def _refuse_hopeless(self, job: Job, device: Occupancy, now: float) -> None:
        remaining, wait = job.deadline - now, self.backlog_seconds(device, job.priority)
        if remaining > wait or remaining == math.inf:
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
        return max(1, by_items, -(-job.bytes // limit.bytes), int(job.seconds / (limit.seconds * _PIECE)))

    def _has_room(self, job: Job, caller: str, device: Occupancy, now: float) -> bool:
        """Whether the job fits the bound, or its newcomers' share if others have reservations and its caller none."""
        self.reservations.expire(now)
        bound, held = self._queue.bound, self.held_bytes(device)
        has_reservation = self.reservations.claim(caller, now)
        if self.reservations and not has_reservation and held:
            bound = bound.scaled(_NEWCOMERS_SHARE)
        fits = not len(self._queue) or self._queue.seconds + job.seconds <= bound.seconds
        return fits and held + job.bytes <= bound.bytes

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
        self.reservations.reserve(caller, now + wait, Limit(job.seconds, job.bytes))
        self._statistics.dropped_busy += 1
        waiting, held, backlog = len(self._queue), self.held_bytes(device), self.backlog_seconds(device)
        detail = f"{waiting} jobs wait; {held} bytes and about {backlog:.3g} s are ahead"
        return Refusal("busy", detail, retry_after=wait)

    def _wait(self, job: Job, device: Occupancy) -> float:
        """Seconds until there is room for the job behind all jobs that wait and all reservations."""
        bound, ahead = self._queue.bound.scaled(_NEWCOMERS_SHARE), self.reservations.ahead
        backlog, held = self.backlog_seconds(device), self.held_bytes(device)
        for_seconds = backlog + (ahead.seconds + job.seconds - bound.seconds) / device.workers
        for_bytes = backlog * (held + ahead.bytes + job.bytes - bound.bytes) / max(held, 1)
        return _SHORTEST_WAIT + max(for_seconds, for_bytes, 0.0) * device.cost_ratio * _CAUTION
