"""The service of a front: its own heads, bodies, plans and answers; the queue and the devices are the server's."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from matfn_service.allowances import Allowances
from matfn_service.app import Application
from matfn_service.fronts.heartbeat import BEAT_SECONDS
from matfn_service.fronts.messages import Counted, Serving
from matfn_service.logs import configure_logs
from matfn_service.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from matfn_kernels import Profile
    from matfn_service.assembly import Part
    from matfn_service.fronts.server import Server
    from matfn_service.jobs import Job, Ticket
    from matfn_service.problems import Refusal
    from matfn_service.pulse import Loss
    from matfn_service.settings import Settings
    from matfn_service.tracing import Telemetry
    from matfn_service.worker_process import Run

__all__ = ["FrontApplication", "FrontService"]

_READ: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Request:
    """A request that is being served, by a number that its caller cannot choose."""

    number: int
    is_counted: bool = False


_REQUEST: Final[ContextVar[_Request]] = ContextVar("matfn_front_request")


class RemoteExecutor:
    """The server's devices, as a front knows them."""

    ahead = 0
    losses: Mapping[Loss, int] = {}

    def __init__(self, server: Server) -> None:
        self.device = ""
        self.workers = 1
        self._server = server

    @property
    def alive(self) -> int:
        """How many workers the server had when it was ready; it replaces lost ones itself."""
        return self.workers

    async def load_profile(self, path: Path | None) -> Profile:
        """The server's profile, once it is warm."""
        del path
        ready = await self._server.ready
        self.device, self.workers = ready.device, ready.workers
        return ready.profile

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes nothing: no job comes to the queue of a front."""
        raise RuntimeError(f"{len(parts)} parts for a front, which computes nothing")

    async def watch(self) -> None:
        """Nothing to look after."""

    def close(self) -> None:
        """Nothing to end."""


class RemoteBatcher:
    """The server's batcher, as a front knows it: jobs that were sent there wait until their answers come."""

    def __init__(self, service: FrontService, server: Server) -> None:
        self._executor = service.executor
        self._statistics = service.statistics
        self._ledger = service.ledger
        self._server = server

    @property
    def is_busy(self) -> bool:
        """Whether a caller waits for an answer."""
        return bool(self.waiting)

    @property
    def waiting(self) -> int:
        """Number of jobs without an answer."""
        return len(self._server.tickets)

    @property
    def backlog_seconds(self) -> float:
        """Predicted time until this front's own jobs are done."""
        return sum(job.seconds for job in self._jobs()) / self._executor.workers

    @property
    def held_bytes(self) -> int:
        """Bytes of this front's own jobs."""
        return sum(job.bytes for job in self._jobs())

    @property
    def corrected(self) -> int:
        """None: the server corrects prices itself."""
        return 0

    async def run(self) -> None:
        """Tells the server twice a second what was counted and is held, and what is left when it is cancelled."""
        try:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                self._tell()
        finally:
            self._tell()

    def _tell(self) -> None:
        self._server.pipe.send(Counted(self._statistics.taken_edge(), self._ledger.charges))

    def correction(self, key: Hashable) -> float:
        """One: the server corrects prices itself."""
        del key
        return 1.0

    def submit(self, job: Job, caller: str) -> Ticket:
        """Sends a job to the server's queue; what that refuses, the ticket tells."""
        request = _REQUEST.get()
        request.is_counted = bool(job.tenant)
        return self._server.submit(job, caller, request.number)

    def abandon(self, ticket: Ticket) -> None:
        """Ends a ticket whose caller has hung up."""
        ticket.abandon()

    def fail_all(self, error: Refusal) -> None:
        """Ends every wait with this error."""
        self._server.fail_all(error)

    def _jobs(self) -> Iterator[Job]:
        return (job for ticket in tuple(self._server.tickets.values()) for job in ticket.jobs)


class RemoteAllowances(Allowances):
    """The limits of keys are the server's: a request is counted where its jobs are queued."""

    def enter(self, name: str) -> None:
        """Counts nothing."""

    def leave(self, name: str) -> None:
        """Counts nothing."""


class FrontService(Service):
    """The service of a front."""

    def __init__(
        self, settings: Settings, server: Server, clock: Callable[[], float], telemetry: Telemetry | None
    ) -> None:
        super().__init__(settings, RemoteExecutor(server), clock, telemetry)
        self.allowances = RemoteAllowances([], settings.queue_bytes)
        self.listens = asyncio.Event()
        self._server = server

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hears of the server as long as it lasts."""
        await self._server.connect()
        async with super().running():
            yield

    def enter(self) -> Callable[[], None]:
        """Marks the current task as one that a drain waits for, and begins a request of it."""
        leave, request = super().enter(), _Request(self._server.new_request())
        _REQUEST.set(request)

        def end() -> None:
            leave()
            if request.is_counted:
                self._server.end_request(request.number)

        return end

    def _export_counts(self) -> None:
        """Nothing: the server exports what all have counted, of which a front keeps the last half second."""

    def _made_batcher(self) -> RemoteBatcher:
        return RemoteBatcher(self, self._server)

    async def _compute_first(self, profile: Profile) -> None:
        """Nothing: the server has computed before it told its profile."""

    async def _tell_ready(self) -> None:
        """Tells the server that this front takes calls; the log hears of it from the server."""
        await self.listens.wait()
        self._server.pipe.send(Serving())

    def _fail(self, error: Exception) -> None:
        """Says what the server says, whose log has the reason."""
        self.failure = str(error)
        _log.error("front without a server that computes", reason=self.failure)


class FrontApplication(Application):
    """The application of a front: calls are its own, reports are the server's."""

    def __init__(self, service: Service, server: Server, **arguments: Any) -> None:
        super().__init__(service, **arguments)
        self._server = server
        server.on_renewal(self._take)

    def _take(self, settings: Settings) -> None:
        """Takes keys and log level from settings that the server has renewed."""
        configure_logs(settings)
        self.renew_keys(settings)
        _log.info("front renewed", pid=os.getpid())

    async def report(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the server answer what is read; answers what is posted."""
        if scope["type"] == "http" and scope["method"] in _READ:
            await self._server.ask(scope, receive, send)
        else:
            await super().report(scope, receive, send)
