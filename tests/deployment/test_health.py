"""The container's health check."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from matfn_service.health import is_ready

if TYPE_CHECKING:
    from pathlib import Path

    from processes import ServerProcess


def check(**settings: str) -> int:
    """The exit code of the command in the image's HEALTHCHECK under these settings."""
    own = {f"MATFN_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "matfn_service.health"]
    return subprocess.run(command, env={**os.environ, **own}, check=False).returncode


def test_ready_server_is_healthy(server: ServerProcess) -> None:
    """The check of a server that takes calls ends with 0."""
    assert check(port=str(server.address[1])) == 0


def test_absent_server_is_not_healthy() -> None:
    """The check ends with 1 where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))

        assert check(port=str(free.getsockname()[1])) == 1


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
def test_only_readiness_is_healthy(tmp_path: Path, status: int, ready: bool) -> None:
    """A server at a unix socket that warms up or drains answers 503, which is not healthy."""
    path = str(tmp_path / "matfn.sock")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor() as pool:
        listener.bind(path)
        listener.listen()
        asked = pool.submit(is_ready, port=0, uds=path)
        with listener.accept()[0] as connection:
            assert connection.recv(1024).startswith(b"GET /readyz ")
            connection.sendall(b"HTTP/1.1 %d .\r\nContent-Length: 0\r\n\r\n" % status)

        assert asked.result() is ready


def test_check_is_light() -> None:
    """The check imports nothing that takes time."""
    code = "import sys, matfn_service.health; print(sorted({'torch', 'numpy', 'fastapi'} & set(sys.modules)))"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
