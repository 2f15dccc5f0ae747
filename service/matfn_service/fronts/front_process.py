"""One front as the server sees it: its process, its end of the pipe, its memory and its signs of life."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from matfn_service.fronts.heartbeat import Heartbeat
from matfn_service.pulse import Loss, loss_of, memory_kills
from matfn_service.shared_memory import SHARED, anonymous_file

if TYPE_CHECKING:
    from signal import Signals

    from matfn_service.fronts.pipe import Pipe

__all__ = ["FrontProcess"]

_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",  # as for workers
}
_DYING_SECONDS: Final = 1.0


class FrontProcess:
    """A front process, from its start to its end.

    Args:
        listener: the socket that all accept from.

    Attributes:
        memory: descriptor of its shared memory.
        verdict: why it was killed; None if it was not.

    Raises:
        OSError: if the system has no room for it.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._heartbeat = Heartbeat()
        self.verdict: Loss | None = None
        self._memory_kills = memory_kills()
        with ExitStack() as undo:
            self.memory = anonymous_file()
            undo.callback(os.close, self.memory)
            near, far = socket.socketpair()
            undo.callback(near.close)
            with far:  # which is closed here, so that the end of the front is that of the stream
                self._process = _started(far, listener, self.memory)
            undo.pop_all()
        self._end = near

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The code with which it ended; None while it runs."""
        return self._process.returncode

    @property
    def loss(self) -> Loss:
        """Why it ended."""
        return self.verdict or loss_of(self.code, self._memory_kills)

    @property
    def is_alive(self) -> bool:
        """Whether it runs, as far as is known."""
        return self._process.poll() is None and not self._heartbeat.is_stopped

    async def connect(self, pipe: Pipe) -> None:
        """Makes this pipe the server's end of the stream."""
        self._end.setblocking(False)  # noqa: FBT003 - socket's own
        await asyncio.get_running_loop().create_unix_connection(lambda: pipe, sock=self._end)

    def beat(self) -> None:
        """Takes a sign of life."""
        self._heartbeat.beat()

    def look(self) -> None:
        """Kills a front that will not answer; called once a second."""
        if self._process.poll() is None:
            self.verdict = self.verdict or self._heartbeat.look(self.pid)
            if self.verdict is not None:
                self._process.kill()  # the server hears of that from the pipe

    def signal(self, number: Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    async def ended(self) -> None:
        """Waits for the end of a front that has closed its end of the pipe; kills it if that does not come."""
        try:
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, _DYING_SECONDS)
                return
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        finally:
            self._end.close()
            os.close(self.memory)


def _started(far: socket.socket, listener: socket.socket, memory: int) -> subprocess.Popen[bytes]:
    ends = far.fileno(), listener.fileno(), memory, SHARED.descriptor
    command = [sys.executable, "-P", "-m", "matfn_service.fronts.process", *map(str, (*ends, os.getpid()))]
    # a group of its own: an interrupt at the terminal is the server's to pass on
    return subprocess.Popen(  # noqa: S603 - our own command
        command, pass_fds=ends, env={**os.environ, **_ENVIRONMENT}, process_group=0
    )
