"""Which process of a server holds a connection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from http.client import HTTPConnection

    from processes import ServerProcess

__all__ = ["fronts_of", "owner_of"]


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
