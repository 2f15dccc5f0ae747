"""The server of a front: it listens where the server does, and starts no others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from matfn_service.server import HttpServer

if TYPE_CHECKING:
    import socket

    import uvicorn

    from matfn_service.app import Application
    from matfn_service.fronts.remote import FrontService
    from matfn_service.listening import Listener

__all__ = ["FrontServer"]

_log = structlog.get_logger(__name__)


class FrontServer(HttpServer):
    """uvicorn's server in a front."""

    def __init__(self, config: uvicorn.Config, app: Application, listener: Listener, service: FrontService) -> None:
        super().__init__(config, app, listener, None)
        self._front = service

    def announce(self) -> None:
        """Says that this front listens too."""
        _log.info("front listening", pid=os.getpid())
        self._front.listens.set()

    def _renew(self) -> None:
        """Nothing: the server tells its fronts what is in force."""

    async def _listen_for_grpc(self, sockets: list[socket.socket] | None) -> None:
        """Nothing: gRPC is served by the server alone."""
