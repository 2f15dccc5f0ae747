"""The container's health check: exit code 0 if the server that these settings describe is ready, else 1.

Reads MATFN_PORT and MATFN_UDS itself, since a check every few seconds must not import what the service needs.
"""

from __future__ import annotations

import os
import socket
import sys
from http.client import HTTPConnection, HTTPException
from typing import Final

__all__ = ["is_ready"]

_SECONDS: Final = 2.0
_OK: Final = 200


class _UnixConnection(HTTPConnection):
    """HTTP to a unix socket, whose path stands in the place of a host's name."""

    def connect(self) -> None:
        """Connects to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def is_ready(port: int, uds: str | None = None) -> bool:
    """Whether a server on this port of this machine, or at this unix socket, answers that it is ready."""
    connection = HTTPConnection("localhost", port, timeout=_SECONDS)
    if uds:
        connection = _UnixConnection(uds, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        return connection.getresponse().status == _OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_ready(int(os.environ.get("MATFN_PORT") or 8000), os.environ.get("MATFN_UDS")))
