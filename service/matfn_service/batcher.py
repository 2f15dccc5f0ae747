"""The batcher: admits jobs to the queue, has them dispatched, and keeps the tickets of their callers.

`Batching` is what the service and its metrics use of it; a front has another one, which sends jobs to the server's.

All state is touched on the event loop only, so there are no locks; `submit` and `abandon` are plain calls.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Protocol

from matfn_service.admittance import Admittance
from matfn_service.dispatcher import Dispatcher
from matfn_service.jobs import Job, Served, Ticket
from matfn_service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from matfn_service.allowances import Allowances
    from matfn_service.executor import Executor
    from matfn_service.queue import KeyedQueue, Limit
    from matfn_service.statistics import Statistics

__all__ = ["Batcher", "Batching"]


class Batching(Protocol):
    """Takes jobs and gives each caller its answer."""

    @property
    def is_busy(self) -> bool:
        """Whether something is being computed."""

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""

    @property
    def backlog_seconds(self) -> float:
        """Predicted time until everything that runs or waits now is done."""

    @property
    def held_bytes(self) -> int:
        """Bytes of all jobs that wait or run."""

    @property
    def corrected(self) -> int:
        """Number of keys whose prices are corrected."""

    async def run(self) -> None:
        """Serves until it is cancelled."""

    def correction(self, key: Hashable) -> float:
        """The factor, found from earlier batches, in the prices of jobs of this key."""

    def submit(self, job: Job, caller: str) -> Ticket:
        """Queues a job of the request with this name, and returns its caller's ticket.

        Raises:
            Refusal: if there is no room or no time for it.
        """

    def abandon(self, ticket: Ticket) -> None:
        """Ends a ticket whose caller has hung up."""

    def fail_all(self, error: Refusal) -> None:
        """Ends every wait with this error."""


class Batcher:
    """Takes jobs and gives each caller its answer.

    Args:
        executor: the device.
        queue: the queue, empty.
        limit: largest batch.
        allowances: what tenants may take.
        statistics: where everything is counted.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        executor: Executor,
        queue: KeyedQueue[Job],
        limit: Limit,
        allowances: Allowances,
        statistics: Statistics,
        clock: Callable[[], float],
    ) -> None:
        self.admittance = Admittance(queue, limit, statistics)
        self.dispatcher = Dispatcher(executor, queue, limit, statistics, clock, callers=self)
        self._queue = queue
        self._allowances = allowances
        self._statistics = statistics
        self._clock = clock
        self._tickets: dict[Job, Ticket] = {}

    async def run(self) -> None:
        """Dispatches jobs until it is cancelled."""
        await self.dispatcher.run()

    @property
    def is_busy(self) -> bool:
        """Whether a worker is computing."""
        return self.dispatcher.is_busy

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue."""
        return len(self._queue)

    @property
    def corrected(self) -> int:
        """Number of keys whose prices are corrected."""
        return len(self.dispatcher.prices.corrections)

    @property
    def backlog_seconds(self) -> float:
        """Predicted time until everything that runs or waits now is done."""
        return self.admittance.backlog_seconds(self.dispatcher.occupancy)

    @property
    def held_bytes(self) -> int:
        """Bytes of all jobs that wait or run."""
        return self.admittance.held_bytes(self.dispatcher.occupancy)

    def correction(self, key: Hashable) -> float:
        """The factor, found from earlier batches, in the prices of jobs of this key."""
        return self.dispatcher.prices.corrections.factor(key)

    def submit(self, job: Job, caller: str) -> Ticket:
        """Queues a job and returns its caller's ticket.

        Args:
            job: the job.
            caller: name of the request, under which a refused caller comes back.

        Raises:
            Refusal: `deadline_exceeded` if it cannot be done in time, `too_large` if the queue could never hold it,
                `busy` if it cannot hold it now, or if its tenant has reached a limit of its own.
        """
        now = self._clock()
        self._allowances.check(job.tenant, job.bytes, now)
        jobs = self.admittance.admit(job, caller, self.dispatcher.occupancy, now)
        loop = asyncio.get_running_loop()
        ticket = Ticket(jobs, loop.create_future())
        self._tickets |= dict.fromkeys(jobs, ticket)
        if job.tenant:
            self._allowances.take(job.tenant, job.bytes, job.seconds)
            ticket.future.add_done_callback(lambda _: self._allowances.release(job.tenant, job.bytes))
        if ticket.deadline < math.inf:
            ticket.timer = loop.call_later(ticket.deadline - now, self._expire, ticket)
        self.dispatcher.wake()
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """Ends a ticket whose caller has hung up; its jobs that still wait are not computed."""
        ticket.abandon()
        self._statistics.dropped_disconnected += self._drop(ticket)

    def fail_all(self, error: Refusal) -> None:
        """Ends every wait with this error."""
        for ticket in set(self._tickets.values()):
            self._drop(ticket)
            ticket.fail(error)

    def deliver(self, job: Job, served: Served) -> None:
        """Gives the job's caller its answer."""
        ticket = self._tickets.pop(job, None)
        if ticket is not None:
            ticket.deliver(job, served)

    def fail(self, job: Job, error: Exception) -> None:
        """Ends the wait of the job's caller with an error."""
        ticket = self._tickets.pop(job, None)
        if ticket is not None:
            self._drop(ticket)
            ticket.fail(error)

    def divide(self, job: Job, pieces: Sequence[Job]) -> None:
        """Puts pieces in the place of a job for which a caller waits."""
        ticket = self._tickets.pop(job)
        ticket.divide(job, pieces)
        self._tickets |= dict.fromkeys(pieces, ticket)

    def charge(self, tenant: str, seconds: float) -> None:
        """Charges a tenant device seconds beyond those predicted, or gives them back."""
        self._queue.charge(tenant, seconds)
        self._allowances.charge(tenant, seconds)

    def expire(self, job: Job) -> None:
        """Ends the wait for a job whose deadline came while it was in the queue."""
        self._expire(self._tickets.pop(job))

    def _expire(self, ticket: Ticket) -> None:
        if ticket.fail(Refusal("deadline_exceeded", "the deadline came before the answer")):
            self._statistics.dropped_deadline += 1
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> bool:
        """Takes a ticket's jobs out of the queue; returns whether all of them were still there."""
        dropped = [self._queue.discard(job) for job in ticket.jobs]
        for job, waited in zip(ticket.jobs, dropped, strict=True):
            if waited:
                del self._tickets[job]
        return all(dropped)
