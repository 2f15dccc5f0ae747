"""Connections to the processes of one server, each to one that is known."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processes import ServerProcess

__all__ = ["Caller", "fronts_of", "one_of_each", "owner_of"]

_MOST_TRIES: Final = 400


class Caller:
    """A connection, and the process that has accepted it."""

    def __init__(self, server: ServerProcess) -> None:
        self._connection = HTTPConnection(*server.address, timeout=30)
        self.get("/healthz")
        self.process = owner_of(self._connection, [server.process.pid, *fronts_of(server)])

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def send_octets(self, octets: bytes) -> None:
        """Sends octets as they are."""
        self._connection.sock.sendall(octets)

    def get(self, path: str, key: str = "") -> tuple[int, bytes]:
        """Status and body of a GET."""
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        response = self._connection.getresponse()
        return response.status, response.read()

    def post(self, path: str, document: dict[str, Any], key: str = "") -> tuple[int, dict[str, Any]]:
        """Status and JSON body of a POST; all have one name."""
        self.send(path, document, key)
        return self.received()

    def send(self, path: str, document: dict[str, Any], key: str = "") -> None:
        """Sends a POST whose answer is to be received."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", "X-Request-Id": "one"}
        self._connection.request("POST", path, json.dumps(document), headers)

    def received(self) -> tuple[int, dict[str, Any]]:
        """Status and JSON body of the answer."""
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def status_of(self, path: str, body: bytes) -> int:
        """Status of a POST in msgpack."""
        self._connection.request("POST", path, body, {"Content-Type": "application/msgpack"})
        response = self._connection.getresponse()
        response.read()
        return response.status


@contextmanager
def one_of_each(server: ServerProcess) -> Iterator[list[Caller]]:
    """A connection to every process of a server with fronts, its own first."""
    wanted = [server.process.pid, *fronts_of(server)]
    with ExitStack() as opened:
        found: dict[int, Caller] = {}
        for _ in range(_MOST_TRIES):
            caller = opened.enter_context(closing(Caller(server)))
            found.setdefault(caller.process, caller)
            if len(found) == len(wanted):
                yield [found[pid] for pid in wanted]
                return
        raise AssertionError(f"{_MOST_TRIES} connections went to {len(found)} of {len(wanted)} processes")


def fronts_of(server: ServerProcess) -> list[int]:
    """Process numbers of the fronts that the log has named, those that still run."""
    named = [line["pid"] for line in server.lines if line["event"] == "front listening"]
    return [pid for pid in named if Path(f"/proc/{pid}").exists()]


def owner_of(connection: HTTPConnection, processes: Sequence[int]) -> int:
    """The process that has accepted a connection."""
    port = connection.sock.getsockname()[1]
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    inodes = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}
    for pid in processes:
        if inodes & set(map(_link, Path(f"/proc/{pid}/fd").iterdir())):
            return pid
    raise AssertionError(f"nobody has the connection of port {port}")


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:  # closed meanwhile
        return ""
