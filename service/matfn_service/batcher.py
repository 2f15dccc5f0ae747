"""The batcher: one task owns the queue and the workers, and gives every free worker what is due first.

Rules of this file:

- All state is touched on the event loop only, so there are no locks; `submit` and `abandon` are plain calls.
- Work-conserving: a free worker takes what waits at once. There is no timer; batches form while workers are busy. A
  device that lies elsewhere is given one batch more than it has workers, so that the next is there when it is done.
- A batch is dealt to the free workers by rows. Each worker comes free by itself; the batch is answered as a whole.
- What waits is shared among all workers: a free one takes no more than its part of all work, and a lone one half of
  it, so that there is something to compute while answers go out. Of a call that was divided a worker takes half of its
  part, so that all come to the end together: the caller waits for the last of the pieces.
- A worker that is free gets its next batch before the answers of the last one are made.
- Long jobs leave one worker to short ones: while a short job waits that is at least as urgent, they take no more than
  all workers but one. Then it waits for the end of one computation, however many long ones came before.
- What raises is cut in two until it stands alone, on the worker where it raised, so that one failure fails alone.
- A batch that is too large for the device's memory is cut in two as well, and its key's batches stay smaller for a
  while: the cap is halved, and grows back by a step with each batch that fits.
- Who finds the queue full is told when there will be room, after all who were told so before. While any of them are on
  their way, newcomers keep off the second half of the queue; who comes back when told may use all of it.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from matfn_service.assembly import Part, deal, gather, halves
from matfn_service.cost_ratio import CostRatio
from matfn_service.executor import DeviceMemoryError
from matfn_service.jobs import Job, Served, Ticket
from matfn_service.problems import Refusal
from matfn_service.queue import Limit
from matfn_service.reservations import Reservations

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from matfn_service.encoding import Encoded
    from matfn_service.executor import Executor
    from matfn_service.queue import KeyedQueue
    from matfn_service.statistics import Statistics

__all__ = ["Batcher"]

_SHARE_SECONDS: Final = 0.001  # a second worker pays from about ten times the cost of handing over to it
_LEAST_SECONDS: Final = 0.002  # a batch that takes less is mostly launch
_RECOVERY: Final = 1 / 16
_SHORTEST_WAIT: Final = 0.001
_GRACE: Final = 1.0  # how late a caller may come: clients add jitter to what they are told
_MOST_RESERVATIONS: Final = 1 << 14
_CAUTION: Final = 1.1  # who comes a little late finds room; who comes a little early is refused again
_HORIZON: Final = 8.0  # queues full of reserved work
_NEWCOMERS_SHARE: Final = 0.5  # enough to keep the device busy if nobody comes who was told to
_PIECE: Final = 1 / 8  # of a batch's seconds: what a call is divided into, and less than a worker leaves to others
_LONG: Final = 0.5  # of a batch's seconds: more than half, so that every piece of a divided job counts


@dataclass(frozen=True, slots=True)
class _WorkerRun:
    """What one worker gave: an evaluation or an exception for each part, and the time it took."""

    answered: list[tuple[Part, Encoded | Exception]]
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Launch:
    """A batch on the device: its jobs, what each worker has of them, what they take, and when they went."""

    jobs: Sequence[Job]
    shares: Sequence[Sequence[Part]]
    load: Limit
    at: float


class Batcher:
    """Takes jobs, forms batches, keeps the workers busy and tells each caller."""

    def __init__(
        self,
        executor: Executor,
        queue: KeyedQueue[Job],
        limit: Limit,
        statistics: Statistics,
        clock: Callable[[], float],
    ) -> None:
        self.queue = queue
        self._executor = executor
        self._limit = limit
        self._statistics = statistics
        self._clock = clock
        self._free = executor.workers + executor.ahead
        self._taken_by_long = 0
        self._long = limit.seconds * _LONG
        self._tickets: dict[Job, Ticket] = {}
        self._caps: dict[Hashable, float] = {}
        self._reservations = Reservations(_GRACE, _MOST_RESERVATIONS, queue.bound.scaled(_HORIZON))
        self._cost_ratio = CostRatio()
        self._wake = asyncio.Event()
        self._running: set[_Launch] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, job: Job, caller: str) -> Ticket:
        """Queues a job and returns its caller's ticket.

        Args:
            job: what is to be computed.
            caller: the name of the request; a caller that was refused is known by it when it comes back.

        Raises:
            Refusal: `deadline_exceeded` if it cannot be done in time, `too_large` if the queue could never hold it,
                `busy` if it cannot hold it now.
        """
        now = self._clock()
        self._refuse_hopeless(job, now)
        jobs = job.divided(self._pieces(job))
        if not self._has_room(job, caller, now) or not self.queue.push(*jobs):
            raise self._full(job, caller, now)
        loop = asyncio.get_running_loop()
        ticket = Ticket(jobs, loop.create_future())
        self._tickets |= dict.fromkeys(jobs, ticket)
        if ticket.deadline < math.inf:
            ticket.timer = loop.call_later(ticket.deadline - now, self._expire, ticket)
        self._wake.set()
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """Forgets a ticket whose caller has hung up; what still waits of it never reaches the device."""
        ticket.abandon()
        self._statistics.dropped_disconnected += self._drop(ticket)

    def fail_all(self, error: Refusal) -> None:
        """Ends every wait with this error."""
        for ticket in set(self._tickets.values()):
            self._drop(ticket)
            ticket.fail(error)

    @property
    def is_busy(self) -> bool:
        """Whether a worker is computing."""
        return bool(self._running)

    @property
    def backlog_seconds(self) -> float:
        """Predicted time until everything that runs or waits now is done."""
        return self._seconds_ahead(0)

    @property
    def held_bytes(self) -> int:
        """What waits and what is on the device: both are in memory."""
        return self.queue.bytes + sum(launch.load.bytes for launch in self._running)

    async def run(self) -> None:
        """Owns queue and workers until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._launch()

    def _seconds_ahead(self, priority: int) -> float:
        return (self._running_seconds + self.queue.seconds_ahead(priority)) / self._executor.workers

    @property
    def _running_seconds(self) -> float:
        return math.fsum(launch.load.seconds for launch in self._running)

    def _refuse_hopeless(self, job: Job, now: float) -> None:
        left, wait = job.deadline - now, self._seconds_ahead(job.priority)
        if left > wait or left == math.inf:
            return
        self._statistics.dropped_deadline += 1
        if left <= 0:
            raise Refusal("deadline_exceeded", "the deadline had passed before the call could be queued")
        raise Refusal(
            "deadline_exceeded",
            f"about {wait:.3g} s of work are ahead of this call; its deadline is in {left:.3g} s",
            "allow more time, or raise the call's priority",
        )

    def _full(self, job: Job, caller: str, now: float) -> Refusal:
        if job.bytes > self.queue.bound.bytes:
            return Refusal(
                "too_large",
                f"inputs and outputs of the call take {job.bytes} bytes; the server holds {self.queue.bound.bytes}"
                " (MATFN_QUEUE_BYTES)",
                "send fewer matrices per call",
            )
        wait = self._wait(job)
        self._reservations.reserve(caller, now + wait, Limit(job.seconds, job.bytes))
        self._statistics.dropped_busy += 1
        waiting, held = len(self.queue), self.held_bytes
        detail = f"{waiting} jobs wait; {held} bytes and about {self.backlog_seconds:.3g} s are ahead"
        return Refusal("busy", detail, retry_after=wait)

    def _has_room(self, job: Job, caller: str, now: float) -> bool:
        """Whether the job may be queued: in all of the bound if its caller has a reservation, else in most of it."""
        self._reservations.expire(now)
        bound = self.queue.bound
        has_reservation = self._reservations.claim(caller, now)
        if self._reservations and not has_reservation and self.held_bytes:
            bound = bound.scaled(_NEWCOMERS_SHARE)
        fits = not len(self.queue) or self.queue.seconds + job.seconds <= bound.seconds
        return fits and self.held_bytes + job.bytes <= bound.bytes

    def _wait(self, job: Job) -> float:
        """Seconds until there is room for the job behind all that waits or has been told to come back."""
        bound, ahead = self.queue.bound.scaled(_NEWCOMERS_SHARE), self._reservations.ahead
        backlog = self.backlog_seconds
        held = self.held_bytes
        for_seconds = backlog + (ahead.seconds + job.seconds - bound.seconds) / self._executor.workers
        for_bytes = backlog * (held + ahead.bytes + job.bytes - bound.bytes) / max(held, 1)
        return _SHORTEST_WAIT + max(for_seconds, for_bytes, 0.0) * self._cost_ratio.value * _CAUTION

    def _pieces(self, job: Job) -> int:
        limit = self._limit
        return max(1, -(-job.bytes // limit.bytes), int(job.seconds / (limit.seconds * _PIECE)))

    def _fair(self, job: Job, workers: int) -> Limit:
        """What so many workers may take when this job's turn has come.

        Callers that wait for their answers send nothing new: with all of them in one batch, the workers would wait for
        the answers to go out and the next calls to come in.
        """
        is_piece = len(self._tickets[job].jobs) > 1
        parts = 2 * self._executor.workers if is_piece else max(2, self._executor.workers)
        share = (self.queue.seconds + self._running_seconds) * workers / parts
        return Limit(min(self._limit.seconds, max(share, _LEAST_SECONDS)), self._limit.bytes)

    def _expire(self, ticket: Ticket) -> None:
        if ticket.fail(Refusal("deadline_exceeded", "the deadline came before the answer")):
            self._statistics.dropped_deadline += 1
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> bool:
        """Takes a ticket's jobs out of the queue; returns whether the device has seen none of them."""
        dropped = [self.queue.discard(job) for job in ticket.jobs]
        for job, waited in zip(ticket.jobs, dropped, strict=True):
            if waited:
                del self._tickets[job]
        return all(dropped)

    def _launch(self) -> None:
        """Gives free workers what waits."""
        while self._free and len(self.queue):
            self._launch_next()

    def _launch_next(self) -> None:
        now = self._clock()
        for job in self.queue.expire(now):
            self._expire(self._tickets.pop(job))
        choice = self._choice()
        if choice is None:
            return
        job, workers = choice
        jobs = self.queue.next_batch(now, self._fair(job, workers).scaled(self._caps.get(job.key, 1.0)), job.key)
        load = Limit(sum(job.seconds for job in jobs), sum(job.bytes for job in jobs))
        parts = [Part(owner, job.program, job.batch) for owner, job in enumerate(jobs)]
        shares = deal(parts, min(workers, 1 + int(load.seconds / _SHARE_SECONDS)))
        self._free -= len(shares)
        self._taken_by_long += len(shares) * self._is_long(job)
        self._count(jobs, load, now)
        launch = _Launch(jobs, shares, load, now)
        self._running.add(launch)
        task = asyncio.get_running_loop().create_task(self._serve(launch))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._finish(task, launch))

    def _choice(self) -> tuple[Job, int] | None:
        """The job whose key goes next, and the number of workers it may take."""
        first = self.queue.first()
        if first is None:
            return None
        only_worker = self._executor.workers == 1  # there, waiting for short jobs to pass could last for ever
        short = self.queue.first_short(self._long, first.priority) if self._is_long(first) and not only_worker else None
        if short is None:
            return first, min(self._free, self._executor.workers)
        room = min(self._free, self._executor.workers - 1 - self._taken_by_long)
        return (first, room) if room > 0 else (short, self._free)

    def _is_long(self, job: Job) -> bool:
        return job.seconds >= self._long

    def _count(self, jobs: Sequence[Job], load: Limit, now: float) -> None:
        matrices: Counter[str] = Counter()
        for job in jobs:
            matrices[job.function] += job.batch.items
        fill = max(load.seconds / self._limit.seconds, load.bytes / self._limit.bytes)
        self._statistics.count_batch(matrices, [now - job.arrived for job in jobs], fill)

    async def _serve(self, launch: _Launch) -> None:
        """Computes the shares side by side and delivers each job its answer."""
        jobs = launch.jobs
        workers = [self._on_worker(jobs[0], share) for share in launch.shares]
        # a lone share needs no task of its own, nor the two turns of the loop that joining one takes
        runs = await asyncio.gather(*workers) if len(workers) > 1 else [await workers[0]]
        self._running.discard(launch)
        self._launch()  # not by waking `run`: the worker would wait for all that a busy loop does before
        await asyncio.sleep(
            0
        )  # the freed worker first gets its next batch: to make and send these answers takes longer
        pieces = gather(len(jobs), [pair for run in runs for pair in run.answered])
        predicted, measured = sum(job.seconds for job in jobs), sum(run.seconds for run in runs)
        if len(self.queue):  # what a lone small batch takes says nothing of full ones
            self._cost_ratio.count(predicted, measured)
        device_seconds = max(run.seconds for run in runs)
        self._statistics.count_run(predicted, device_seconds, measured)
        batch_size = sum(job.batch.items for job in jobs)
        for job, answered in zip(jobs, pieces, strict=True):
            error = next((piece for piece in answered if isinstance(piece, Exception)), None)
            if error is not None:
                self._fail(job, error)
                continue
            evaluations = tuple(piece for piece in answered if not isinstance(piece, Exception))
            for piece in evaluations:
                self._statistics.count_outcomes(job.function, piece.statuses)
            self._deliver(job, Served(evaluations, launch.at - job.arrived, device_seconds, batch_size))

    async def _on_worker(self, first: Job, share: Sequence[Part]) -> _WorkerRun:
        """Computes one share of the batch that begins with `first`, and frees its worker."""
        try:
            return await self._isolate(first.key, share, depth=0)
        finally:
            self._free += 1
            self._taken_by_long -= self._is_long(first)
            self._wake.set()

    async def _isolate(self, key: Hashable, parts: Sequence[Part], depth: int) -> _WorkerRun:
        """An evaluation or an exception for each part; what fails is cut in two until it stands alone."""
        try:
            run = await self._executor.run(parts)
            pieces = zip(parts, run.evaluations, strict=True)
        except DeviceMemoryError:
            self._statistics.halvings += 1
            self._caps[key] = min(self._caps.get(key, 1.0), 0.5 ** (depth + 1))
            both = halves(parts)
            failure: Exception = Refusal(
                "out_of_memory", "the device has too little memory for one matrix of this call"
            )
        except Exception as error:  # noqa: BLE001 - whatever a kernel raises must not reach its batch-mates
            both = halves(parts) if len(parts) > 1 else None
            self._statistics.bisections += both is not None
            failure = error
        else:
            if not depth:
                self._relax(key)
            return _WorkerRun(list(pieces), run.seconds)
        if both is None:
            self._statistics.isolated += 1
            return _WorkerRun([(parts[0], failure)], 0.0)
        first, second = [await self._isolate(key, half, depth + 1) for half in both]
        return _WorkerRun(first.answered + second.answered, first.seconds + second.seconds)

    def _relax(self, key: Hashable) -> None:
        """Lets a key's batches grow back after one that fitted."""
        cap = self._caps.pop(key, 1.0) + _RECOVERY
        if cap < 1.0:
            self._caps[key] = cap

    def _deliver(self, job: Job, served: Served) -> None:
        ticket = self._tickets.pop(job, None)
        if ticket is not None:
            ticket.deliver(job, served)

    def _fail(self, job: Job, error: Exception) -> None:
        ticket = self._tickets.pop(job, None)
        if ticket is not None:
            self._drop(ticket)
            ticket.fail(error)

    def _finish(self, task: asyncio.Task[None], launch: _Launch) -> None:
        """Nobody waits for ever, even if this file is wrong."""
        self._tasks.discard(task)
        self._running.discard(launch)
        if not task.cancelled() and (error := task.exception()) is not None:
            for job in launch.jobs:
                self._fail(job, error if isinstance(error, Exception) else RuntimeError(str(error)))
