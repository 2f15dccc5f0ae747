"""The server of a front: it listens where the server does, and starts no others."""

from __future__ import annotations

import os

import structlog

from matfn_service.server import HttpServer

__all__ = ["FrontServer"]

_log = structlog.get_logger(__name__)


class FrontServer(HttpServer):
    """uvicorn's server in a front."""

    def announce(self) -> None:
        """Says that this front listens too."""
        _log.info("front listening", pid=os.getpid())
