"""The process: binds, serves until SIGTERM or SIGINT, drains, and ends with exit code 0.

SIGHUP renews the keys and the log level.

uvicorn's own server raises the signal again after its shutdown, which ends the process by that signal; supervisors
count that as a failure. It also waits for ever for a caller in the middle of a body.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import resource
import signal
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn

from matfn_service.app import Application, create_app
from matfn_service.configuration import Misconfigured, configured
from matfn_service.fronts.supervisor import Supervisor
from matfn_service.grpc_server import GrpcServer
from matfn_service.listening import BACKLOG, Listener, listen, listen_beside
from matfn_service.logs import configure_logs
from matfn_service.outflow import Pace
from matfn_service.segments import SideProtocol
from matfn_service.socket_protocol import SocketProtocol
from matfn_service.statistics import NO_FUNCTION

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType
    from typing import NoReturn

    from fastapi import FastAPI

    from matfn_service.executor import Executor
    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = ["HttpServer", "http_config", "most_connections", "serve"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
TURN_SECONDS: Final = 0.0001  # how long the loop waits for a thread that reads a large body, some ten times a call
_COLLECTIONS: Final = (700, 10, 1000)
"""Whole collections are rare under load, since one stops every caller; they come when the server is idle."""
_OWN_DESCRIPTORS: Final = 256  # of workers, shared memory and libraries
_KEYS: Final = "set MATFN_API_KEYS or MATFN_API_KEYS_FILE"
_LAST_WORDS: Final = 0.1  # of the drain time, for what is on its way to slow readers

_log = structlog.get_logger(__name__)


def serve(settings: Settings, executor: Executor | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code, 0 after a drain and 1 if it cannot listen.

    Args:
        settings: all settings.
        executor: the device; None takes the one that the settings name.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to renew
    configure_logs(settings)
    sys.setswitchinterval(TURN_SECONDS)
    connections = most_connections(settings.max_connections // settings.fronts)
    _tell_if_open(settings)
    _warn_if_forgetful(settings.cache_dir)
    try:
        listener = listen(settings)
    except OSError as error:
        place = {"host": settings.host, "port": settings.port} if settings.uds is None else {"uds": str(settings.uds)}
        _log.error("cannot listen", **place, reason=error.strerror or str(error))
        return 1
    side = _side_listener(settings)
    app = create_app(settings, executor=executor)
    server = HttpServer(http_config(app, settings, connections), app, listener, side)
    try:
        server.run([listener.socket])
    finally:
        listener.close()
        if side is not None:
            side.close()
    if server.has_busy_workers:
        _leave()
    return int(server.cannot_listen)


def _side_listener(settings: Settings) -> Listener | None:
    """The side socket; a server without one shares no memory, and works."""
    try:
        return listen_beside(settings)
    except OSError as error:
        _log.warning("no memory is shared", uds=str(settings.uds), reason=error.strerror or str(error))
        return None


def _tell_if_open(settings: Settings) -> None:
    """Says who may compute on a server without keys; a unix socket is guarded by its folder."""
    if settings.api_keys or (settings.uds and settings.grpc_port is None):
        return
    if _is_loopback(settings.host):
        _log.info("open to this machine without keys", host=settings.host, hint=_KEYS)
    else:
        _log.warning("open to the network without keys", host=settings.host, hint=_KEYS)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _warn_if_forgetful(cache_dir: Path | None) -> None:
    """Warns of a cache folder that cannot be written; the server works without one."""
    if cache_dir is None:
        return
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    else:
        reason = None if os.access(cache_dir, os.W_OK | os.X_OK) else "it is not writable"
    if reason is not None:
        _log.warning("kernels compiled for a GPU will not be kept", MATFN_CACHE_DIR=str(cache_dir), reason=reason)


def most_connections(wanted: int) -> int:
    """Raises the limit on descriptors as far as it goes; returns how many connections that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - _OWN_DESCRIPTORS))
    if most < wanted:
        _log.warning("fewer connections", MATFN_MAX_CONNECTIONS=wanted, connections=most, descriptors=soft)
    return most


def http_config(app: FastAPI, settings: Settings, connections: int) -> uvicorn.Config:
    """How uvicorn serves an application, with so many connections at most."""
    statistics = app.state.service.statistics
    protocol = partial(
        SocketProtocol,
        most_connections=connections,
        pace=Pace(settings.write_idle_seconds, settings.write_rate),
        on_unread=statistics.count_unread,
        on_refused=partial(statistics.count_call, NO_FUNCTION),
    )
    return uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type] # any protocol will do, and a buffered one is one
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_seconds,
    )


def _leave() -> NoReturn:
    """Ends the process now: a worker that computes cannot be stopped, and the interpreter would wait for it."""
    _log.warning("left work behind", reason="the drain time was over (MATFN_DRAIN_SECONDS)")
    sys.stderr.flush()
    os._exit(0)


class HttpServer(uvicorn.Server):
    """uvicorn's server with a drain before its shutdown, and without the signal after it."""

    def __init__(self, config: uvicorn.Config, app: Application, listener: Listener, side: Listener | None) -> None:
        super().__init__(config)
        self._side = side
        self._app = app
        self._service: Service = app.state.service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener = listener
        self._draining: asyncio.Task[None] | None = None
        self._fronts = Supervisor(app, self._service, listener.socket)
        self._service.fronts = self._fronts
        self._grpc: GrpcServer | None = None
        self.cannot_listen = False
        self.has_busy_workers = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles SIGTERM, SIGINT and SIGHUP within the context; ignores them after it.

        The process is about to end then, with the exit code of its drain: that of a signal would hide it.
        """
        for number in _SIGNALS:
            signal.signal(number, self.handle_exit)
        signal.signal(signal.SIGHUP, self._handle_renewal)
        try:
            yield
        finally:
            for number in (*_SIGNALS, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, a second one cuts it short."""
        super().handle_exit(sig, frame)
        if self._draining is not None:
            self.force_exit = True
            self._draining.get_loop().call_soon_threadsafe(self._draining.cancel)

    def _handle_renewal(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._renew)

    def _renew(self) -> None:
        """Reads the settings again and takes keys and log level from them; keeps those in force where that fails."""
        try:
            settings = configured({})
        except Misconfigured as error:  # its faults name settings and show no key
            _log.error("settings not renewed", reason="; ".join(error.faults))
            return
        configure_logs(settings)
        self._app.renew_keys(settings)
        self._fronts.renew(settings)
        _log.info("settings renewed", keys=len(settings.api_keys), log_level=settings.log_level)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application and says where it listens."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self._side is not None:
            loop, segments = asyncio.get_running_loop(), self._service.segments
            await loop.create_unix_server(lambda: SideProtocol(segments), sock=self._side.socket)
        if self._service.settings.grpc_port is not None:
            await self._listen_for_grpc(sockets)
            if self.cannot_listen:
                return
        gc.freeze()  # what is imported by now stays; looking through it stops every caller for a tenth of a second
        gc.set_threshold(*_COLLECTIONS)
        self.announce()

    def announce(self) -> None:
        """Says where the server listens, and has the fronts listen there too."""
        _log.info("listening", url=self._listener.url)
        self._fronts.start()

    async def _listen_for_grpc(self, sockets: list[socket.socket] | None) -> None:
        """Listens on the port for gRPC as well; ends the server where that fails, as where it cannot listen at all."""
        server = GrpcServer(self._app, self._service)
        try:
            address = await server.start(self._service.settings)
        except OSError as error:
            _log.error("cannot listen for gRPC", reason=str(error))
            self.cannot_listen = self.should_exit = True
            await self.shutdown(sockets)
        else:
            self._grpc = server
            _log.info("listening for gRPC", address=address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains while still listening, so that callers and load balancers hear of it, then closes everything."""
        loop = asyncio.get_running_loop()
        fronts = loop.create_task(self._fronts.stop())  # first, so that the drain waits for it
        self._draining = loop.create_task(self._service.drain())
        await asyncio.wait([self._draining])
        if self._draining.cancelled():
            self._fronts.hurry()
            await self._service.give_up()
            self._cut_connections()
        self._fronts.kill()
        await fronts
        self.has_busy_workers = self._service.batcher.is_busy
        self._draining.get_loop().call_later(self._service.settings.drain_seconds * _LAST_WORDS, self._cut_connections)
        if self._grpc is not None:
            words = 0.0 if self._draining.cancelled() else self._service.settings.drain_seconds * _LAST_WORDS
            await self._grpc.stop(words)
        await super().shutdown(sockets)
        _log.info("stopped")

    def _cut_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
