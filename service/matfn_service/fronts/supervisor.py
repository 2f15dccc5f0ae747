"""The front processes of a server: started, replaced when they are lost, and ended with it."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from matfn_service.fronts.desk import Desk
from matfn_service.fronts.front_process import FrontProcess
from matfn_service.fronts.messages import Hello, Renewed
from matfn_service.pulse import LOOK_SECONDS

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from matfn_service.app import Application
    from matfn_service.pulse import Loss
    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = ["Supervisor"]

_PAUSE_SECONDS: Final = 1.0  # before a lost front is replaced: one that cannot start must not take a core

_log = structlog.get_logger(__name__)


class Supervisor:
    """Keeps the fronts of a server running.

    Args:
        app: the server's application.
        service: the server's service.
        listener: the socket that all accept from.
    """

    def __init__(self, app: Application, service: Service, listener: socket.socket) -> None:
        self.wanted = service.settings.fronts - 1
        self._losses: Counter[Loss] = Counter()
        self._app = app
        self._service = service
        self._listener = listener
        self._settings = service.settings
        self._fronts: dict[FrontProcess, Desk] = {}
        self._serving: set[FrontProcess] = set()
        self._all_serve = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ending = False

    @property
    def alive(self) -> int:
        """Number of fronts that run, as far as is known."""
        return sum(front.is_alive for front in self._fronts)

    @property
    def losses(self) -> Mapping[Loss, int]:
        """Fronts that were lost and replaced, by reason."""
        return self._losses

    async def all_serve(self) -> None:
        """Waits until every front has taken calls."""
        if self.wanted:
            await self._all_serve.wait()

    def start(self) -> None:
        """Starts all fronts."""
        loop = asyncio.get_running_loop()
        self._tasks = {loop.create_task(self._keep()) for _ in range(self.wanted)}

    async def stop(self) -> None:
        """Has every front drain, and waits for its end; the server's own drain waits for this."""
        leave = self._service.enter()
        try:
            self._end(signal.SIGTERM)
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            leave()

    def kill(self) -> None:
        """Ends every front at once."""
        self._end(signal.SIGKILL)

    def hurry(self) -> None:
        """Has every front that drains tell its callers, and end."""
        self._end(signal.SIGTERM)

    def renew(self, settings: Settings) -> None:
        """Has every front take these settings, those that are still to come as well."""
        self._settings = settings
        for desk in self._fronts.values():
            desk.pipe.send(Renewed(settings))

    def _end(self, number: signal.Signals) -> None:
        self._is_ending = True
        for front in self._fronts:
            front.signal(number)

    async def _keep(self) -> None:
        """Runs one front, and another one in its place whenever it is lost."""
        while not self._is_ending:
            try:
                front = FrontProcess(self._listener)
            except OSError as error:
                _log.error("no front can be started", reason=error.strerror)
            else:
                await self._serve(front)
                if front.verdict is not None or not self._is_ending:
                    self._losses[front.loss] += 1
                    _log.warning("front lost", pid=front.pid, reason=front.loss, code=front.code)
            if not self._is_ending:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _serve(self, front: FrontProcess) -> None:
        """Serves a front until it has ended."""
        over = asyncio.Event()
        desk = Desk(self._app, self._service, front.memory, partial(self._takes_calls, front), front.beat, over.set)
        loop = asyncio.get_running_loop()
        self._fronts[front] = desk
        tasks = [loop.create_task(_watch(front))]
        try:
            await front.connect(desk.pipe)
            desk.pipe.send(Hello(self._settings))
            tasks.append(loop.create_task(desk.tell_when_warm()))
            await over.wait()
        finally:
            self._serving.discard(front)
            desk.pipe.close()
            await front.ended()
            del self._fronts[front]
            for task in tasks:
                task.cancel()

    def _takes_calls(self, front: FrontProcess) -> None:
        self._serving.add(front)
        if len(self._serving) == self.wanted:
            self._all_serve.set()


async def _watch(front: FrontProcess) -> None:
    """Looks after a front once a second until it is cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        front.look()
