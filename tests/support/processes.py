"""Real server processes: started, waited for and stopped within bounds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from matfn_service.serve import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ServerProcess", "running_server"]

_START_SECONDS = 55.0  # of a test's own 60: a busy machine is no failure
_STOP_SECONDS = 30.0


class ServerProcess:
    """A server in a process of its own, as `matfn serve` starts it, or a script instead.

    Attributes:
        patience: seconds to wait for a line of its log.
    """

    patience = _START_SECONDS

    def __init__(self, script: Path | None = None, /, **settings: str) -> None:
        own = {"MATFN_PORT": "0", "MATFN_LOG_FORMAT": "json", "MATFN_WORKERS": "1"}
        own |= {f"MATFN_{name.upper()}": value for name, value in settings.items()}
        own |= {} if script is None else ENVIRONMENT  # the command sets it for itself
        program = ["-c", "from matfn.cli import main; main()", "serve"] if script is None else [str(script)]
        self.process = subprocess.Popen(
            [sys.executable, *program], env={**os.environ, **own}, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[dict[str, Any]] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._ended = False
        self._reader.start()

    def started(self) -> ServerProcess:
        """This server, once it listens and is ready."""
        self.url = str(self.wait_for("listening")["url"])
        self.wait_for("ready")
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._grown:
                    self.lines.append(_parsed(line))
                    self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def wait_for(self, event: str, times: int = 1, **fields: object) -> dict[str, Any]:
        """The first log line of this event with these fields, or the one of this number, as soon as there is one."""
        wanted = {"event": event, **fields}.items()
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [line for line in self.lines if all(line.get(name) == value for name, value in wanted)]
            return len(found) >= times or self._ended

        with self._grown:
            self._grown.wait_for(look, self.patience)
        assert len(found) >= times, f"no {event} in the server's log: {self.lines}"
        return found[times - 1]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(self.address, timeout=_STOP_SECONDS)

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON body of a GET."""
        status, content = self._get(path)
        return status, json.loads(content)

    def metrics(self, key: str = "") -> str:
        """What a scrape with this key gets."""
        return self._get("/metrics", key)[1].decode()

    def _get(self, path: str, key: str = "") -> tuple[int, bytes]:
        connection = HTTPConnection(*self.address, timeout=_STOP_SECONDS)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    @property
    def resident_bytes(self) -> int:
        """Memory that the process occupies."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    @property
    def resident_bytes_of_all(self) -> int:
        """Memory that the process and its workers occupy, what they share counted for each."""
        return sum(_resident(pid) for pid in (self.process.pid, *_children(self.process.pid)))

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds: float = _STOP_SECONDS) -> int:
        """The exit code, once the process has ended."""
        code = self.process.wait(seconds)
        self._reader.join(_STOP_SECONDS)
        return code

    def stop(self) -> None:
        """Ends the process, whatever its state."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(_STOP_SECONDS)
        self._reader.join(_STOP_SECONDS)


def _parsed(line: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"event": "unstructured", "line": line}
    return entry


@contextmanager
def running_server(script: Path | None = None, /, **settings: str) -> Iterator[ServerProcess]:
    """A server with these settings, gone afterwards."""
    server = ServerProcess(script, **settings)
    try:
        yield server.started()
    finally:
        server.stop()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident(pid: int) -> int:
    """Memory of a process, 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
