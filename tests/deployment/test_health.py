"""The container's health check, and a start where nothing can be written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from matfn_service.health import is_ready
from processes import running_server

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


def test_unwritable_cache_does_not_hold_the_start(tmp_path: Path) -> None:
    """A server whose profile cannot be kept warns, becomes ready, and is healthy at its socket."""
    (tmp_path / "file").touch()
    uds = str(tmp_path / "matfn.sock")
    with running_server(uds=uds, cache_dir=str(tmp_path / "file" / "cache")) as server:
        assert server.wait_for("the device profile will not be kept")["level"] == "warning"
        assert is_ready(port=0, uds=uds)


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
def test_only_readiness_is_healthy(status: int, ready: bool) -> None:
    """A server that warms up or drains answers 503, which is not healthy."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            del format, args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()

        assert is_ready(server.server_port) is ready


def test_check_is_light() -> None:
    """The check imports nothing that takes time."""
    code = "import sys, matfn_service.health; print(sorted({'torch', 'numpy', 'fastapi'} & set(sys.modules)))"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
