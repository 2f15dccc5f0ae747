"""The service behind the routes: its state, and everything that lives as long as it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
import torch

from matfn_kernels import Limits, batch_key, variant
from matfn_service.admission import Admission, Prepared
from matfn_service.allowances import Allowances
from matfn_service.batcher import Batcher
from matfn_service.body import REST_SECONDS
from matfn_service.executor import computing_threads, make_executor
from matfn_service.ledger import Bounds, Charges, Ledger
from matfn_service.memory import DeviceMemoryError, trim_when_idle
from matfn_service.problems import Refusal
from matfn_service.pulse import WorkerLost
from matfn_service.queue import KeyedQueue, Limit
from matfn_service.segments import Segments
from matfn_service.shared_memory import SHARED
from matfn_service.statistics import Statistics
from matfn_service.tracing import close_in_time, recorded_trace
from matfn_service.warm_up import warm_up_surely
from matfn_service.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import ThreadPoolExecutor

    from matfn_kernels import Profile
    from matfn_service.batcher import Batching
    from matfn_service.executor import Executor
    from matfn_service.fronts.supervisor import Supervisor
    from matfn_service.jobs import Job, Ticket
    from matfn_service.settings import Settings
    from matfn_service.tracing import Telemetry

__all__ = ["Service", "State"]

_READERS: Final = 2  # threads that read large bodies and write large answers
_BODIES_SHARE, _ANSWERS_SHARE = 0.5, 0.8  # of the drain time: when bodies, and when queued work, are given up

_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 30.0  # seconds until there is room for a refused request
_LAST_SECONDS: Final = 1.0  # for answers on their way when a drain is cut short

_log = structlog.get_logger(__name__)


class State(StrEnum):
    """State of the service: while warming up calls wait, when ready they are taken, then they are refused."""

    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Service:
    """Owns executor, queue, batcher and the threads that read bodies; `running` is its life."""

    def __init__(
        self,
        settings: Settings,
        executor: Executor | None,
        clock: Callable[[], float],
        telemetry: Telemetry | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.telemetry = telemetry
        self.started = clock()
        self.state = State.WARMING
        self.statistics = Statistics()
        self.watchdog = Watchdog(self.statistics.loop_lag_seconds, clock)
        self.segments = Segments(settings.most_shared_bytes, settings.most_shared_client_bytes)
        self.limits = Limits(settings.max_order, settings.max_items, settings.max_elements)
        self.charges_of_fronts: dict[object, Charges] = {}
        self.ledger = Ledger(Bounds(settings.held_bytes // settings.fronts, settings.queue_bytes), self._wait_for_room)
        self.allowances = Allowances([key.tenant for key in settings.api_keys], settings.queue_bytes)
        self.fronts: Supervisor | None = None
        self.profile: Profile | None = None
        self.profile_label = ""
        self.failure = "the service could not warm up; its log has the reason"
        self._executor = executor
        self._batcher: Batching | None = None
        self._queue: KeyedQueue[Job] | None = None
        self._admission: Admission | None = None
        self._warm = asyncio.Event()
        self._drain_ends: float | None = None
        self._serving: set[asyncio.Task[object]] = set()
        self._reading: set[asyncio.Timeout] = set()

    @property
    def executor(self) -> Executor:
        """The device; there is one while the service is running."""
        assert self._executor is not None
        return self._executor

    @property
    def batcher(self) -> Batching:
        """The batcher; there is one while the service is running."""
        assert self._batcher is not None
        return self._batcher

    @property
    def charges(self) -> list[Charges]:
        """Bytes that every process holds for its callers."""
        return [self.ledger.charges, *self.charges_of_fronts.values()]

    @property
    def queue(self) -> KeyedQueue[Job]:
        """The queue; there is one while the service is running, unless that is a front's."""
        assert self._queue is not None
        return self._queue

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts everything and warms up in the background; stops everything at the end."""
        _warn_of_deprecated(self.settings)
        torch.set_num_threads(1)  # this thread screens small calls itself
        self._executor = self._executor or make_executor(self.settings)
        self._batcher = self._made_batcher()
        SHARED.keep_at_most(self.settings.kept_bytes // self.settings.fronts)
        readers = computing_threads(_READERS, "matfn-reader")
        loop = asyncio.get_running_loop()
        lives = (
            self._batcher.run(),
            self._warm_up(readers),
            self._executor.watch(),
            trim_when_idle(self._work_done),
            self.watchdog.run(),
        )
        tasks = [loop.create_task(life) for life in lives]
        self._export_counts()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._executor.close()
            readers.shutdown(wait=False, cancel_futures=True)
            if self.telemetry is not None:
                await close_in_time(self.telemetry)

    def _export_counts(self) -> None:
        """Has what is counted here exported."""
        if self.telemetry is not None:
            self.telemetry.watch(self)

    def _made_batcher(self) -> Batching:
        settings, weight_of = self.settings, self.allowances.weight_of
        bound = Limit(settings.queue_seconds, settings.queue_bytes)
        self._queue = KeyedQueue(bound, settings.aging_seconds, weight_of)
        limit = Limit(settings.batch_seconds, settings.batch_bytes)
        return Batcher(self.executor, self._queue, limit, self.allowances, self.statistics, self.clock)

    async def _warm_up(self, readers: ThreadPoolExecutor) -> None:
        try:
            self.profile = await self.executor.load_profile(self.settings.profile)
            self.profile_label = self.profile.label  # in every answer, so it is hashed once
            self._admission = Admission(self.limits, self.profile, readers, self.settings.worker_bytes)
            await self._compute_first(self.profile)
        except Exception as error:  # noqa: BLE001 - a server that cannot compute still answers, and says why
            self._fail(error)
            self.state = State.FAILED
        else:
            if self.state is State.WARMING:
                self.state = State.READY
        finally:
            self._warm.set()
        if self.state is State.READY:
            await self._tell_ready()

    async def _tell_ready(self) -> None:
        """Logs that calls are taken, once all fronts take them too."""
        if self.fronts is not None:
            await self.fronts.all_serve()
        _log.info(
            "ready",
            device=self.executor.device,
            workers=self.executor.workers,
            kernels=variant(),
            profile=self.profile_label,
        )

    def _fail(self, error: Exception) -> None:
        """Says why nothing can be computed."""
        _log.error("warm-up failed", exc_info=error)
        if isinstance(error, (WorkerLost, DeviceMemoryError)):
            self.failure = f"the service could not warm up: {error}"

    async def _compute_first(self, profile: Profile) -> None:
        """Computes every function once."""
        await warm_up_surely(self.executor, profile)

    def _wait_for_room(self) -> float:
        """Seconds until a refused request may find room: those of the work ahead, within bounds."""
        ahead = 0.0 if self._batcher is None else self._batcher.backlog_seconds
        return min(max(ahead, _SHORTEST_WAIT), _LONGEST_WAIT)

    def _work_done(self) -> int | None:
        """Batches so far; None while there is work, or a body on its way."""
        is_busy = self._serving or self.batcher.is_busy or self.state is State.WARMING
        return None if is_busy else self.statistics.batch_sizes.total()

    async def warmed_up(self) -> None:
        """Waits for the end of the warm-up, also of a failed one."""
        await self._warm.wait()

    async def admission(self) -> Admission:
        """The admission, once the service is warm.

        Raises:
            Refusal: if it will not be, or is draining.
        """
        self.refuse_while_draining()
        await self.warmed_up()
        self.refuse_while_draining()
        if self.state is State.FAILED or self._admission is None:
            raise Refusal("internal", self.failure)
        return self._admission

    def refuse_while_draining(self) -> None:
        """Turns new calls away while the service is shutting down.

        Raises:
            Refusal: `draining`.
        """
        if self.state is State.DRAINING:
            raise Refusal("draining", "the server is shutting down", retry_after=1.0)

    def require_ready(self) -> None:
        """Tells a probe that calls are not taken now.

        Raises:
            Refusal: `busy` while the service warms up or has no worker, `draining` or `internal` later.
        """
        if self.state is State.DRAINING:
            raise Refusal("draining", "the server is shutting down")
        if self.state is State.FAILED:
            raise Refusal("internal", self.failure, status=503)
        if self.state is State.WARMING:
            raise Refusal("busy", "the server is warming up", status=503, retry_after=1.0)
        if not self.executor.alive:
            raise Refusal("busy", "no worker computes; lost ones are being replaced", status=503, retry_after=1.0)

    @property
    def is_ready(self) -> bool:
        """Whether calls are taken now."""
        return self.state is State.READY and bool(self.executor.alive)

    def submit(self, prepared: Prepared, arrived: float, caller: str, tenant: str = "") -> Ticket:
        """Queues a call of the request with this name, for the tenant of an API key.

        Raises:
            Refusal: if there is no room or no time for it.
        """
        key = batch_key(prepared.plan.program)
        correction = self.batcher.correction(key)
        job = prepared.job(arrived, self.clock(), tenant, correction, recorded_trace(), key)
        return self.batcher.submit(job, caller)

    def enter(self) -> Callable[[], None]:
        """Marks the current task as one that a drain waits for; returns what ends that."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        return partial(self._serving.discard, task)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Bounds the time in which a body must have come, drains included.

        Raises:
            Refusal: when that time is over.
        """
        try:
            async with asyncio.timeout(self.settings.body_seconds) as timeout:
                self._reading.add(timeout)
                self._hurry(timeout)
                try:
                    yield
                finally:
                    self._reading.discard(timeout)
        except TimeoutError:
            self.refuse_while_draining()
            raise Refusal(
                "malformed", f"the body had not come after {self.settings.body_seconds:g} s (MATFN_BODY_SECONDS)"
            ) from None

    def rest_seconds(self) -> float:
        """Seconds in which the rest of a refused body may be discarded."""
        if self._drain_ends is None:
            return REST_SECONDS
        remaining = self._drain_ends - asyncio.get_running_loop().time()
        return max(0.0, min(REST_SECONDS, remaining * (1 - _ANSWERS_SHARE)))

    async def drain(self) -> None:
        """Refuses new calls and finishes bodies and queued work under way, within the drain time."""
        self.state = State.DRAINING
        self._warm.set()
        seconds = self.settings.drain_seconds
        self._drain_ends = asyncio.get_running_loop().time() + seconds
        _log.info("draining", calls=len(self._serving), jobs=self.batcher.waiting, seconds=seconds)
        for timeout in self._reading:
            self._hurry(timeout)
        if self._serving:
            await asyncio.wait(self._serving, timeout=seconds * _ANSWERS_SHARE)
        self.batcher.fail_all(Refusal("draining", "the server shut down before this call's turn came"))
        if self._serving:
            await asyncio.wait(self._serving, timeout=seconds * (1 - _ANSWERS_SHARE) / 2)

    async def give_up(self) -> None:
        """Ends a drain at once: everyone who waits is told, and has a moment to hear of it."""
        self.state = State.DRAINING
        self._warm.set()
        for timeout in self._reading:
            timeout.reschedule(asyncio.get_running_loop().time())
        self.batcher.fail_all(Refusal("draining", "the server shut down before this call was answered"))
        if self._serving:
            await asyncio.wait(self._serving, timeout=_LAST_SECONDS)

    def _hurry(self, timeout: asyncio.Timeout) -> None:
        if self._drain_ends is None:
            return
        ends = self._drain_ends - self.settings.drain_seconds * (1 - _BODIES_SHARE)
        timeout.reschedule(min(ends, timeout.when() or ends))


def _warn_of_deprecated(settings: Settings) -> None:
    if settings.lanes is not None:
        _log.warning("MATFN_LANES is deprecated", use="MATFN_WORKERS", workers=settings.workers)
