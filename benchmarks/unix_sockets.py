"""A server on a unix socket, and a bare echo between two processes to compare it with."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import matfn

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

from demo import wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["bare_echo", "service"]


@contextmanager
def service(path: Path) -> Iterator[str]:
    """The URL of the real service on a unix socket, stopped with SIGTERM at the end."""
    command = [str(Path(sys.executable).with_name("matfn")), "serve", "--uds", str(path)]
    process = subprocess.Popen(command, env={**os.environ, "MATFN_LOG_LEVEL": "warning"})  # noqa: S603 - our own command
    try:
        with matfn.Client(f"unix://{path}") as client:
            wait_until_ready(client, process)
        yield f"unix://{path}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@contextmanager
def bare_echo(size: int) -> Iterator[Callable[[], None]]:
    """Sends so many bytes to a process and receives them from it, in memory that both keep."""
    near, far = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=_return, args=(near, far, size), daemon=True)
    process.start()
    far.close()
    sent, received = memoryview(bytearray(os.urandom(1) * size)), memoryview(bytearray(size))

    def there_and_back() -> None:
        near.sendall(sent)
        _receive(near, received)

    with near:
        yield there_and_back
    process.join()


def _return(near: socket.socket, far: socket.socket, size: int) -> None:
    near.close()
    buffer = memoryview(bytearray(size))
    while _receive(far, buffer):
        far.sendall(buffer)


def _receive(connection: socket.socket, buffer: memoryview) -> bool:
    """Fills the buffer; returns whether the connection lasted so long."""
    filled = 0
    while filled < len(buffer):
        count = connection.recv_into(buffer[filled:])
        if not count:
            return False
        filled += count
    return True
