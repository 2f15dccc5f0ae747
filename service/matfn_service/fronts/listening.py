"""The server of a front: it listens where the server does, and starts no others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from matfn_service.server import HttpServer

if TYPE_CHECKING:
    import socket

__all__ = ["FrontServer"]

_log = structlog.get_logger(__name__)


class FrontServer(HttpServer):
    """uvicorn's server in a front."""

    def announce(self) -> None:
        """Says that this front listens too."""
        _log.info("front listening", pid=os.getpid())

    def _renew(self) -> None:
        """Nothing: the server tells its fronts what is in force."""

    async def _listen_for_grpc(self, sockets: list[socket.socket] | None) -> None:
        """Nothing: gRPC is served by the server alone."""
