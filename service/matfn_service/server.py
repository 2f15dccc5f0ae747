"""The process: binds, serves until SIGTERM or SIGINT, drains, and ends with exit code 0.

uvicorn's own server raises the signal again after its shutdown, which ends the process by that signal; supervisors
count that as a failure. It also waits for ever for a caller in the middle of a body.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from matfn import wire
from matfn_service.app import create_app
from matfn_service.logs import configure_logs
from matfn_service.problems import Refusal, problem_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import NoReturn

    from fastapi import FastAPI

    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = ["serve"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_BACKLOG: Final = 2048
_LAST_WORDS: Final = 0.1  # of the drain time, for what is on its way to slow readers

_log = structlog.get_logger(__name__)


def serve(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code, 0 after a drain and 1 if it cannot listen."""
    configure_logs(settings)
    _warn_if_open(settings)
    try:
        listener = None if settings.uds else _bound(settings.host, settings.port)
    except OSError as error:
        _log.error("cannot listen", host=settings.host, port=settings.port, reason=str(error))
        return 1
    app = create_app(settings)
    server = _Server(_config(app, settings), app.state.service)
    server.run(None if listener is None else [listener])
    if settings.uds:
        settings.uds.unlink(missing_ok=True)
    if server.has_busy_lanes:
        _leave()
    return 0


def _warn_if_open(settings: Settings) -> None:
    if not settings.api_keys and not settings.uds and not _is_loopback(settings.host):
        _log.warning("open to the network without keys", host=settings.host, hint="set MATFN_API_KEYS")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        uds=None if settings.uds is None else str(settings.uds),
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=settings.keep_alive_seconds,
    )


def _leave() -> NoReturn:
    """Ends the process now: a lane that computes cannot be stopped, and the interpreter would wait for it."""
    _log.warning("left work behind", reason="the drain time was over (MATFN_DRAIN_SECONDS)")
    sys.stderr.flush()
    os._exit(0)


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with a problem document for what is no HTTP at all."""

    def send_400_response(self, msg: str) -> None:
        """Answers a request that could not be parsed, and closes."""
        document = wire.encode_problem(problem_of(Refusal("malformed", msg), ""), wire.Media.JSON)
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: {wire.Media.JSON.problem}\r\ncontent-length: {len(document)}"
        self.transport.write(f"{head}\r\nconnection: close\r\n\r\n".encode() + document)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's server with a drain before its shutdown, and without the signal after it."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining: asyncio.Task[None] | None = None
        self.has_busy_lanes = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Turns SIGTERM and SIGINT into the wish to exit, and does not raise them again."""
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, a second one cuts it short."""
        super().handle_exit(sig, frame)
        if self._draining is not None:
            self.force_exit = True
            self._draining.get_loop().call_soon_threadsafe(self._draining.cancel)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application and says where it listens."""
        await super().startup(sockets)
        _log.info("listening", url=self._url(sockets))

    def _url(self, sockets: list[socket.socket] | None) -> str:
        if not sockets:
            return f"unix://{self.config.uds}"
        host, port = sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains while still listening, so that callers and load balancers hear of it, then closes everything."""
        self._draining = asyncio.get_running_loop().create_task(self._service.drain())
        await asyncio.wait([self._draining])
        self.has_busy_lanes = self._service.batcher.is_busy
        self._draining.get_loop().call_later(self._service.settings.drain_seconds * _LAST_WORDS, self._cut_connections)
        await super().shutdown(sockets)
        _log.info("stopped")

    def _cut_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
