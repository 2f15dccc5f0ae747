"""The front processes as the server sees them: started, replaced when they are lost, and ended with it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from matfn_service.fronts.desk import Desk
from matfn_service.fronts.messages import Hello, Renewed
from matfn_service.shared_memory import SHARED, anonymous_file

if TYPE_CHECKING:
    from matfn_service.app import Application
    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = ["Supervisor"]

_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",  # as for workers
}
_PAUSE_SECONDS: Final = 1.0  # before a lost front is replaced: one that cannot start must not take a core
_DYING_SECONDS: Final = 1.0

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
        self.lost = 0
        self._app = app
        self._service = service
        self._listener = listener
        self._settings = service.settings
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._desks: set[Desk] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ending = False

    @property
    def alive(self) -> int:
        """Number of fronts that run."""
        return len(self._processes)

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
        for desk in self._desks:
            desk.pipe.send(Renewed(settings))

    def _end(self, number: signal.Signals) -> None:
        self._is_ending = True
        self._signal(number)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(number)

    async def _keep(self) -> None:
        """Runs one front, and another one in its place whenever it is lost."""
        while not self._is_ending:
            try:
                code = await self._run()
            except OSError as error:
                _log.error("no front can be started", reason=error.strerror)
                code = None
            if self._is_ending:
                return
            self.lost += 1
            _log.warning("front lost", code=code)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _run(self) -> int:
        """Starts a front, serves it, and returns the code with which it ended."""
        memory = anonymous_file()
        try:
            near, far = socket.socketpair()
            with near, far:
                process = self._started(far, memory)
                far.close()  # so that the end of the front is that of the stream
                return await self._served(process, near, memory)
        finally:
            os.close(memory)

    async def _served(self, process: subprocess.Popen[bytes], near: socket.socket, memory: int) -> int:
        """Serves a front until it is lost, and returns the code with which it ended."""
        over = asyncio.Event()
        desk = Desk(self._app, self._service, memory, over.set)
        loop = asyncio.get_running_loop()
        self._processes.add(process)
        telling = None
        try:
            near.setblocking(False)  # noqa: FBT003 - socket's own
            await loop.create_unix_connection(lambda: desk.pipe, sock=near)
            desk.pipe.send(Hello(self._settings))
            self._desks.add(desk)
            telling = loop.create_task(desk.tell_when_warm())
            await over.wait()
        finally:
            if telling is not None:
                telling.cancel()
            self._desks.discard(desk)
            desk.pipe.close()
            await _ended(process)
            self._processes.discard(process)
        return process.returncode

    def _started(self, far: socket.socket, memory: int) -> subprocess.Popen[bytes]:
        ends = far.fileno(), self._listener.fileno(), memory, SHARED.descriptor
        command = [sys.executable, "-P", "-m", "matfn_service.fronts.process", *map(str, (*ends, os.getpid()))]
        # a group of its own: an interrupt at the terminal is the server's to pass on
        return subprocess.Popen(  # noqa: S603 - our own command
            command, pass_fds=ends, env={**os.environ, **_ENVIRONMENT}, process_group=0
        )


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of a process that has closed its end of the pipe; kills it if that does not come."""
    with suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, _DYING_SECONDS)
        return
    process.kill()
    await asyncio.to_thread(process.wait)
