"""The transport for asyncio: the same parser and the same rules of the pool as `matfn.transport`.

A cancelled request closes its connection, which tells the server that nobody waits any more.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from matfn.errors import MatfnError, TransportError, TransportTimeout
from matfn.http1 import ResponseParser, coalesced, head_of
from matfn.loops import ByLoop
from matfn.pool import MAX_AGE_S, MAX_CONNECTIONS, MAX_KEPT
from matfn.segments import Segments
from matfn.transport import CONNECT_S, tls_to, unconnected
from matfn.tunnel import tunnelled

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from matfn.endpoint import Endpoint
    from matfn.http1 import Request, Response
    from matfn.proxies import Proxy
    from matfn.wire import Buffer

__all__ = ["AsyncTransport", "StreamTransport"]

_WRITE_BYTES: Final = 1 << 20  # the event loop copies what the socket does not take at once


class AsyncTransport(Protocol):
    """The seam between the asynchronous client and the network."""

    async def send(self, request: Request, timeout: float | None) -> Response:  # noqa: ASYNC109 - bounds one attempt
        """Sends a request and awaits its response; raises TransportError if none comes."""

    async def close(self) -> None:
        """Closes all connections."""


class _Connection(asyncio.BufferedProtocol):
    """One connection, receiving straight into the parser's buffer."""

    def __init__(self, born: float) -> None:
        self.born = born
        self.loop = asyncio.get_running_loop()
        self.parser = ResponseParser()
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self._answered: asyncio.Future[None] = self.loop.create_future()
        self._answered.set_result(None)
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None

    @property
    def quiet(self) -> bool:
        """Open, and nothing came unasked."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, buffers: list[Buffer], parser: ResponseParser) -> None:
        self.parser = parser
        self._answered = self.loop.create_future()
        if not self.quiet:
            parser.closed()
        await self._write(buffers)
        await self._answered

    async def _write(self, buffers: list[Buffer]) -> None:
        """Sends until done, or until the server answers early or goes away."""
        for buffer in buffers:
            view = memoryview(buffer)
            for start in range(0, len(view), _WRITE_BYTES):
                await self._writable.wait()
                if self._answered.done() or self._transport is None:
                    return
                self._transport.write(view[start : start + _WRITE_BYTES])

    def abort(self) -> None:
        """Closes at once; a loop that has ended has closed its connections."""
        if self._transport is not None:
            with suppress(RuntimeError):
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self.parser.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._answered.done():
            self.abort()
            return
        try:
            self.parser.received(nbytes)
        except MatfnError as error:
            self._settle(error)
        if self.parser.done:
            self._settle(None)

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _end(self, reason: Exception | None) -> None:
        try:
            self.parser.closed()
        except MatfnError as error:
            self._settle(TransportError(str(reason)) if reason else error)
        else:
            self._settle(None)

    def _settle(self, error: MatfnError | None) -> None:
        self._writable.set()
        if self._answered.done():
            return
        if error is None:
            self._answered.set_result(None)
        else:
            self._answered.set_exception(error)
            self._answered.exception()  # on an idle connection no task may be waiting


@dataclass(frozen=True, slots=True, eq=False)
class _Connections:
    """The connections of one event loop: those that are kept, and slots for those in use."""

    slots: asyncio.Semaphore
    kept: list[_Connection] = field(default_factory=list)

    def drained(self) -> list[_Connection]:
        """Empties what is kept and closes it."""
        connections = [*self.kept]
        self.kept.clear()
        for connection in connections:
            connection.abort()
        return connections


class StreamTransport:
    """Requests to one endpoint; each event loop has connections of its own, at most `max_connections` at a time."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_connections: int = MAX_CONNECTIONS,
        proxy: Proxy | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self._own_tls = tls is not None
        self._tls = tls_to(endpoint, tls)
        self._clock = clock
        self._max_connections = max_connections
        self._loops = ByLoop(lambda: _Connections(asyncio.Semaphore(max_connections)), _Connections.drained)
        self._segments = Segments(endpoint.socket_path, clock)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies share the address, never a connection."""
        if self._own_tls:
            raise TypeError("an ssl.SSLContext cannot be copied to another process; open a new client there")
        made = partial(type(self), clock=self._clock, max_connections=self._max_connections, proxy=self._proxy)
        return made, (self._endpoint,)

    async def send(self, request: Request, timeout: float | None) -> Response:  # noqa: ASYNC109 - bounds one attempt
        """Sends a request and awaits its response.

        Raises:
            TransportTimeout: no complete response within `timeout` seconds.
            TransportError: the server was not reached, or the connection ended before the response did.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._shared(request, timeout) or await self._send(request)
        except TimeoutError as error:
            raise TransportTimeout(f"{self._endpoint} did not answer in time") from error
        except OSError as error:
            raise TransportError(f"{self._endpoint}: {error}") from error

    async def close(self) -> None:
        """Closes the kept connections; those in use close as their answers come."""
        self._segments.close()
        await self._disconnect()
        running = asyncio.get_running_loop()
        for loop, connections in self._loops.all():
            if loop is not running:
                with suppress(RuntimeError):  # it has just been closed
                    loop.call_soon_threadsafe(connections.drained)

    async def _disconnect(self) -> None:
        await asyncio.gather(*(connection.lost for connection in self._loops.here().drained()))

    async def _shared(self, request: Request, timeout: float | None) -> Response | None:  # noqa: ASYNC109 - of a hand-over
        """The response to a request whose body passes through shared memory; None if it cannot."""
        with self._segments.lent(request, timeout) as segment:
            if segment is None:
                return None
            filled = await asyncio.to_thread(segment.filled, request)
            return await asyncio.to_thread(segment.fetched, await self._send(filled))

    async def _send(self, request: Request) -> Response:
        async with self._loops.here().slots:
            return replace(await self._connected(request), url=f"{self._endpoint}{request.target}")

    async def _connected(self, request: Request) -> Response:
        buffers = coalesced([head_of(request, self._endpoint, self._proxy), *request.body])
        kept = self._take()
        if kept is not None:
            parser = ResponseParser()
            try:
                return await self._exchange(kept, buffers, parser)
            except TransportError:
                if parser.started:
                    raise
            await self._disconnect()
        return await self._exchange(await self._connect(), buffers, ResponseParser())

    async def _exchange(self, connection: _Connection, buffers: list[Buffer], parser: ResponseParser) -> Response:
        try:
            await connection.exchange(buffers, parser)
        except TransportError as error:
            raise type(error)(f"{self._endpoint}: {error}") from error
        finally:
            if parser.done and parser.reusable and connection.quiet and len(kept := self._loops.here().kept) < MAX_KEPT:
                kept.append(connection)
            else:
                connection.abort()
        return parser.response

    def _take(self) -> _Connection | None:
        kept = self._loops.here().kept
        while kept:
            connection = kept.pop()
            if connection.quiet and self._clock() - connection.born < MAX_AGE_S:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._open()
        except OSError as error:
            raise unconnected(self._endpoint, self._proxy, error) from error

    async def _open(self) -> _Connection:
        loop, endpoint, proxy = asyncio.get_running_loop(), self._endpoint, self._proxy

        def connection() -> _Connection:
            return _Connection(self._clock())

        if endpoint.socket_path is not None:
            return (await loop.create_unix_connection(connection, endpoint.socket_path))[1]
        if proxy is None:
            return (await loop.create_connection(connection, endpoint.host, endpoint.port, ssl=self._tls))[1]
        if self._tls is None:
            return (await loop.create_connection(connection, proxy.host, proxy.port))[1]
        sock = await asyncio.to_thread(tunnelled, proxy, endpoint, CONNECT_S)
        sock.settimeout(0)
        return (await loop.create_connection(connection, sock=sock, ssl=self._tls, server_hostname=endpoint.host))[1]
