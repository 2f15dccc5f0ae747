"""Dispatch: each free worker gets the jobs that are due first.

- All state is touched on the event loop only, so there are no locks.
- Work-conserving: a free worker takes what waits at once. There is no timer; batches form while workers are busy. An
  executor that prepares batches ahead is given more batches than it has workers, so that the next one is ready.
- A batch is dealt to the free workers by rows. Each worker comes free by itself; the batch is answered as a whole.
- What waits is shared among all workers: a free one takes at most its part of all work, and a single one half of it, so
  that there is something to compute while answers go out. Of a divided call a worker takes half of its part, so that
  all workers finish together: the caller waits for the last piece.
- A free worker gets its next batch before the answers of the last one are made.
- Long jobs leave one worker to short ones: while a short job waits that is at least as urgent, they take at most all
  workers but one. The short job then waits for the end of one computation, however many long jobs came before.
- Costly batches leave one worker to other tenants: while another tenant waits, or had a call not long ago against the
  time that the batch will take, the last worker takes brief batches only. Whether a batch is brief is told by the worst
  of its key lately. A tenant with a costly batch under way has nothing on the last worker for a moment after the answer
  to another tenant, whose next call is expected then, and nothing there of a key that was never measured.
- Batches are sized by what earlier ones of their key took. A job that takes far longer than it may is cut. What is left
  goes back to the queue's end if its price was too low, else it keeps its place.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from matfn_service.admittance import Occupancy
from matfn_service.assembly import Part, deal, gather
from matfn_service.cost_ratio import CostRatio
from matfn_service.encoding import Encoded
from matfn_service.expectations import Expectations
from matfn_service.isolation import Isolator, ShareRun
from matfn_service.jobs import Job, Served, by_tenant
from matfn_service.prices import UNMEASURED, Prices
from matfn_service.queue import Limit
from matfn_service.tracing import RanBatch, SpanReference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matfn_service.batch_log import BatchRecord
    from matfn_service.executor import Executor
    from matfn_service.queue import KeyedQueue
    from matfn_service.statistics import Statistics

__all__ = ["Callers", "Dispatcher"]

_SHARE_SECONDS: Final = 0.001  # a second worker pays from about ten times the cost of handing over to it
_LEAST_SECONDS: Final = 0.002  # a batch that takes less is mostly launch
_LONG: Final = 0.5  # of a batch's seconds: more than half, so that every piece of a divided job counts
_PIECE: Final = 1 / 8  # of a batch's seconds: what is cut off a job that takes too long
_OVERRUN: Final = 2.0  # times what it should take: a job that is cut, or that was priced too low
_BRIEF_SECONDS: Final = 0.002  # what another tenant's small call may wait for
_RIVAL_SECONDS: Final = 1.0  # after a call, how long its tenant is expected to send another one, at least
_RIVAL_TIMES: Final = 60.0  # the time of a batch: so long a caller need not have been silent that would wait for it


class Callers(Protocol):
    """The callers that wait for the answers to jobs."""

    def deliver(self, job: Job, served: Served) -> None:
        """Gives the job's caller its answer."""

    def fail(self, job: Job, error: Exception) -> None:
        """Gives the job's caller an error."""

    def expire(self, job: Job) -> None:
        """Tells the job's caller that its deadline came."""

    def divide(self, job: Job, pieces: Sequence[Job]) -> None:
        """Puts pieces in the place of a job for which a caller waits."""

    def charge(self, tenant: str, seconds: float) -> None:
        """Charges a tenant device seconds beyond those predicted, or gives them back."""


@dataclass(frozen=True, slots=True, eq=False)
class _Launch:
    """A batch on the device.

    Attributes:
        jobs: in it.
        shares: each worker's.
        load: that is predicted.
        worst: seconds that it takes if it is as bad as the worst of its key lately.
        fill: the load against the largest allowed.
        at: when it was launched.
        record: what is told of it.
    """

    jobs: Sequence[Job]
    shares: Sequence[Sequence[Part]]
    load: Limit
    worst: float
    fill: float
    at: float
    record: BatchRecord

    @property
    def priced(self) -> float:
        """Predicted seconds without corrections."""
        return sum(job.priced for job in self.jobs)

    @property
    def is_costly(self) -> bool:
        """Whether another tenant's small call should not wait for it."""
        return self.worst > _BRIEF_SECONDS * len(self.shares)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The first job of the next batch, the number of workers it may take, and the most seconds it may last."""

    job: Job
    workers: int
    seconds: float = math.inf


class Dispatcher:
    """Forms batches and keeps the workers busy.

    Args:
        executor: the device.
        queue: the jobs that wait.
        limit: largest batch.
        statistics: where batches are counted.
        clock: seconds that never go back.
        callers: where the answers go.
    """

    def __init__(
        self,
        executor: Executor,
        queue: KeyedQueue[Job],
        limit: Limit,
        statistics: Statistics,
        clock: Callable[[], float],
        callers: Callers,
    ) -> None:
        self.prices = Prices(limit.seconds)
        self.isolator = Isolator(executor, statistics)
        self._executor = executor
        self._queue = queue
        self._limit = limit
        self._statistics = statistics
        self._clock = clock
        self._callers = callers
        self._free = executor.workers + executor.ahead
        self._taken_by_long = 0
        self._taken_by_costly = 0
        self._long = limit.seconds * _LONG
        self._cost_ratio = CostRatio()
        self._expectations = Expectations()
        self._alarm: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._running: set[_Launch] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether a worker is computing."""
        return bool(self._running)

    @property
    def occupancy(self) -> Occupancy:
        """The work on the device now."""
        held = sum(launch.load.bytes for launch in tuple(self._running))  # a copy: readers' threads ask as well
        return Occupancy(self._running_seconds, held, self._executor.workers, self._cost_ratio.value)

    @property
    def _running_seconds(self) -> float:
        return math.fsum(launch.load.seconds for launch in tuple(self._running))

    def wake(self) -> None:
        """Makes `run` look at the queue."""
        self._wake.set()

    async def run(self) -> None:
        """Launches batches whenever jobs or free workers come, until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._launch()

    def _launch(self) -> None:
        """Launches batches while there are free workers and jobs for them."""
        while self._free and len(self._queue) and self._launch_next():
            pass

    def _launch_next(self) -> bool:
        """Launches a batch, or cuts the job that would begin it; returns whether to go on."""
        now = self._clock()
        for job in self._queue.expire(now):
            self._callers.expire(job)
        choice = self._choice(now)
        if choice is None:
            return False
        if not self._cuts(choice, now):
            self._take(choice, now)
        return True

    def _take(self, choice: _Choice, now: float) -> None:
        job, workers = choice.job, choice.workers
        rate = self._rate(choice)
        jobs = self._queue.next_batch(now, self._most(choice), job, lambda one: one.priced * rate)
        factor, priced = self.prices.corrections.factor(job.key), sum(one.priced for one in jobs)
        load = Limit(priced * factor, sum(one.bytes for one in jobs))
        parts = [
            Part(owner, one.program, one.batch, one.answer_bytes, one.priced * factor / max(1, one.batch.items))
            for owner, one in enumerate(jobs)
        ]
        shares = deal(parts, min(workers, 1 + int(load.seconds / _SHARE_SECONDS)))
        self._free -= len(shares)
        worst = priced * self.prices.corrections.highest(job.key)
        fill = max(load.seconds / self._limit.seconds, load.bytes / self._limit.bytes)
        record = self._statistics.log.launched(jobs, len(shares), fill, now)
        launch = _Launch(jobs, shares, load, worst, fill, now, record)
        self._taken_by_long += len(shares) * self._is_long(job)
        self._taken_by_costly += len(shares) * launch.is_costly
        self._count(jobs, fill, now)
        self._start(launch)

    def _cuts(self, choice: _Choice, now: float) -> bool:
        """Whether the job that would begin the batch is too long for it; its first rows then wait by themselves.

        The rest keeps its place, or goes to the queue's end if its price was far too low.
        """
        job = choice.job
        seconds = job.priced * self._rate(choice)
        most = min(self._limit.seconds * _PIECE, choice.seconds)
        rows = max(1, int(job.batch.items * most / seconds)) if seconds > _OVERRUN * most else job.batch.items
        if rows >= job.batch.items:
            return False
        factor = self.prices.corrections.factor(job.key)
        pieces = job.corrected(factor).cut(rows)
        self._queue.replace(job, pieces, now if factor > _OVERRUN * job.correction else None)
        self._callers.divide(job, pieces)
        return True

    def _rate(self, choice: _Choice) -> float:
        """The correction of the prices by which a batch is sized: where it must be brief, that at worst."""
        corrections, key = self.prices.corrections, choice.job.key
        return corrections.factor(key) if choice.seconds == math.inf else corrections.highest(key)

    def _start(self, launch: _Launch) -> None:
        self._running.add(launch)
        task = asyncio.get_running_loop().create_task(self._serve(launch))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._finish(task, launch))

    def _choice(self, now: float) -> _Choice | None:
        """The job whose key goes next, and what its batch may take; None if it has to wait."""
        first = self._queue.first()
        if first is None:
            return None
        if self._queue.has_rivals(first.tenant, now - max(_RIVAL_SECONDS, _RIVAL_TIMES * self.prices.lasting(first))):
            return self._among_rivals(first, now)
        only_worker = self._executor.workers == 1  # there, waiting for short jobs to pass could last for ever
        short = (
            self._queue.first_short(self._long, first.priority, first.tenant)
            if self._is_long(first) and not only_worker
            else None
        )
        if short is None:
            return _Choice(first, min(self._free, self._executor.workers))
        room = min(self._free, self._executor.workers - 1 - self._taken_by_long)
        return _Choice(first, room) if room > 0 else _Choice(short, self._free)

    def _among_rivals(self, first: Job, now: float) -> _Choice | None:
        """The choice while several tenants share the device, whose last worker takes brief batches only."""
        room = min(self._free, self._executor.workers - 1 - self._taken_by_costly)
        if room > 0:
            return _Choice(first, room, self._limit.seconds * _PIECE if self.prices.is_new(first) else math.inf)
        brief = _BRIEF_SECONDS / (UNMEASURED if self.prices.is_new(first) else 1.0)
        is_barred = self._is_barred(first, now)
        if not is_barred and (not self._running or self.prices.at_worst(first) <= brief * first.batch.items):
            return _Choice(first, 1, brief)
        short = self._queue.first_short(_BRIEF_SECONDS, first.priority, first.tenant)
        if short is None or self._is_barred(short, now):
            return None
        return _Choice(short, 1, _BRIEF_SECONDS)

    def _is_barred(self, job: Job, now: float) -> bool:
        """Whether a tenant with a costly batch under way may not have the last worker for this job.

        It may not while another tenant is expected, nor for what was never measured: that may take any time.
        """
        if not any(one.is_costly and one.jobs[0].tenant == job.tenant for one in self._running):
            return False
        until = self._expectations.until(job.tenant, now)
        if until is not None:
            self._wake_at(until, now)
        return until is not None or self.prices.is_new(job)

    def _wake_at(self, moment: float, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(moment - now, self.wake)

    def _is_long(self, job: Job) -> bool:
        return job.seconds >= self._long

    def _most(self, choice: _Choice) -> Limit:
        """The largest batch that so many workers may take when it is this job's turn.

        Callers that wait for their answers send nothing new: with all of them in one batch, the workers would wait for
        the answers to go out and the next calls to come in.
        """
        job, workers = choice.job, self._executor.workers
        parts = 2 * workers if job.is_piece else max(2, workers)
        share = (self._queue.seconds + self._running_seconds) * choice.workers / parts
        most = min(self._limit.seconds, choice.seconds)
        fair = Limit(min(most, max(share, _LEAST_SECONDS)), self._limit.bytes)
        return fair.scaled(self.isolator.caps.of(job.key))

    def _count(self, jobs: Sequence[Job], fill: float, now: float) -> None:
        matrices: Counter[str] = Counter()
        for job in jobs:
            matrices[job.function] += job.batch.items
        self._statistics.count_batch(matrices, [now - job.arrived for job in jobs], fill)

    async def _serve(self, launch: _Launch) -> None:
        """Computes the shares side by side and delivers each job its answer."""
        shares = [self._on_worker(launch, share) for share in launch.shares]
        # a single share needs no task of its own, nor the two turns of the loop that joining one takes
        runs = await asyncio.gather(*shares) if len(shares) > 1 else [await shares[0]]
        ended = self._clock()
        self._running.discard(launch)
        launch.record.seconds = ended - launch.at
        if not launch.is_costly:
            gone = {job.tenant for job in launch.jobs if not self._queue.has_jobs(job.tenant)}
            self._expectations.answered(gone, ended)
        self._learn(launch, runs)
        self._launch()  # not by waking `run`: the worker would wait for all that a busy loop does before
        await asyncio.sleep(0)  # the freed worker first gets its next batch: making and sending answers takes longer
        self._count_run(launch, runs)
        self._settle(launch, runs, ended)

    async def _on_worker(self, launch: _Launch, share: Sequence[Part]) -> ShareRun:
        """Computes one share of a batch, and frees its worker."""
        first = launch.jobs[0]
        try:
            return await self.isolator.run(first.key, share)
        finally:
            self._free += 1
            self._taken_by_long -= self._is_long(first)
            self._taken_by_costly -= launch.is_costly
            self._wake.set()

    def _learn(self, launch: _Launch, runs: Sequence[ShareRun]) -> None:
        """Corrects prices and virtual times by what a batch took, before the next one is formed."""
        measured = sum(run.seconds for run in runs)
        if measured and not any(isinstance(answer, Exception) for run in runs for _, answer in run.answered):
            self.prices.corrections.count(launch.jobs[0].key, launch.priced, measured)
        ratio = measured / launch.priced if launch.priced else 1.0
        for tenant, jobs in by_tenant(launch.jobs).items():
            taken = ratio * sum(job.priced for job in jobs)
            self._statistics.tenant_seconds[tenant] += taken
            self._callers.charge(tenant, taken - sum(job.seconds for job in jobs))

    def _count_run(self, launch: _Launch, runs: Sequence[ShareRun]) -> None:
        predicted, measured = launch.load.seconds, sum(run.seconds for run in runs)
        if len(self._queue):  # the time of a small batch on an idle device says nothing of full ones
            self._cost_ratio.count(predicted, measured)
        slowest, copying = max(run.seconds for run in runs), max(run.copying for run in runs)
        self._statistics.count_run(launch.priced, predicted, slowest, measured, copying)

    def _settle(self, launch: _Launch, runs: Sequence[ShareRun], ended: float) -> None:
        """Delivers each job of a batch that ended then its answer, or the first of its pieces' errors."""
        jobs = launch.jobs
        pieces = gather(len(jobs), [pair for run in runs for pair in run.answered])
        span = ended - max(run.seconds for run in runs), ended
        batch_size = sum(job.batch.items for job in jobs)
        batches = _recorded(launch, batch_size, ended)
        for job, answered in zip(jobs, pieces, strict=True):
            evaluations = tuple(piece for piece in answered if isinstance(piece, Encoded))
            if len(evaluations) < len(answered):
                self._callers.fail(job, next(piece for piece in answered if isinstance(piece, Exception)))
                continue
            self._count_outcomes(job, evaluations)
            served = Served(evaluations, launch.at - job.arrived, (span,), batch_size, launch.fill, batches)
            self._callers.deliver(job, served)

    def _count_outcomes(self, job: Job, evaluations: Sequence[Encoded]) -> None:
        for piece in evaluations:
            self._statistics.count_outcomes(job.function, piece.statuses)

    def _finish(self, task: asyncio.Task[None], launch: _Launch) -> None:
        """Fails the jobs of a launch whose task raised."""
        self._tasks.discard(task)
        self._running.discard(launch)
        if launch.record.seconds is None:  # its task raised
            launch.record.seconds = self._clock() - launch.at
        if not task.cancelled() and (error := task.exception()) is not None:
            for job in launch.jobs:
                self._callers.fail(job, error if isinstance(error, Exception) else RuntimeError(str(error)))


def _recorded(launch: _Launch, matrices: int, ended: float) -> tuple[SpanReference, ...]:
    """The span of a batch that ended then, for links from the requests in it that are recorded; empty without one."""
    traces = [job.trace for job in launch.jobs if job.trace is not None]
    if not traces:
        return ()
    functions = tuple(dict.fromkeys(job.function for job in launch.jobs))
    return (traces[0].record_batch(traces, RanBatch(functions, matrices, launch.fill, launch.at, ended)),)
