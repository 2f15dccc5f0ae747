"""Requests over sockets: HTTP, HTTPS and unix sockets, with kept connections, safe to share between threads.

Rules of this file:
- A connection belongs to one request at a time: taken from the pool, and put back only when its answer is complete
  and the server keeps it open. Any error, and any interruption, closes it.
- A server may close a kept connection just as it is used; a request that fails so, before any byte of an answer, is
  sent once more at once, on a new connection.
- `timeout` bounds the whole attempt, not each read.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from matfn.errors import ProtocolError, TransportError, TransportTimeout
from matfn.forks import Slots
from matfn.http1 import ResponseParser, coalesced, head_of
from matfn.pool import MAX_CONNECTIONS, Pool, hang_up
from matfn.segments import Segments, open_unix
from matfn.tunnel import tunnelled

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from matfn.endpoint import Endpoint
    from matfn.http1 import Request, Response
    from matfn.proxies import Proxy
    from matfn.wire import Buffer

__all__ = ["CONNECT_S", "SocketTransport", "Transport", "tls_to", "unconnected"]

CONNECT_S: Final = 5.0  # a machine that is gone says nothing; another may be asked


class Transport(Protocol):
    """The seam between the client and the network."""

    def send(self, request: Request, timeout: float | None) -> Response:
        """Sends a request and waits for its response; raises TransportError if none comes."""

    def close(self) -> None:
        """Closes all connections."""


@dataclass(frozen=True, slots=True)
class _Connection:
    socket: socket.socket
    born: float


def tls_to(endpoint: Endpoint, given: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """The settings of TLS: those given, else the system's; None for a server without TLS."""
    if endpoint.scheme != "https":
        return None
    import ssl  # slow to import

    return given or ssl.create_default_context()


def unconnected(endpoint: Endpoint, proxy: Proxy | None, error: OSError) -> TransportError:
    """Why there is no connection; a certificate that is not trusted will not be trusted the next time either."""
    distrust = getattr(error, "verify_message", None)  # of ssl.SSLCertVerificationError
    if distrust is not None:
        return ProtocolError(f"{endpoint} cannot be trusted: {distrust}")
    way = f" by the proxy {proxy}" if proxy else ""
    return TransportError(f"cannot connect to {endpoint}{way}: {str(error) or 'timed out'}")


class SocketTransport:
    """Requests to one endpoint, over at most `max_connections` at a time, some of which are kept."""

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
        self._pool = Pool[_Connection](clock)
        self._max_connections = max_connections
        self._slots = Slots(max_connections)
        self._segments = Segments(endpoint.socket_path, clock)
        self._closed = False

    def __reduce__(self) -> tuple[object, ...]:
        """Copies share the address, never a connection."""
        if self._own_tls:
            raise TypeError("an ssl.SSLContext cannot be copied to another process; open a new client there")
        made = partial(type(self), clock=self._clock, max_connections=self._max_connections, proxy=self._proxy)
        return made, (self._endpoint,)

    def send(self, request: Request, timeout: float | None) -> Response:
        """Sends a request and waits for its response.

        Raises:
            TransportTimeout: no complete response within `timeout` seconds of being connected.
            TransportError: the server was not reached, or the connection ended before the response did.
        """
        until = None if timeout is None else self._clock() + timeout
        try:
            with self._segments.lent(request, timeout) as segment:
                response = None if segment is None else segment.fetched(self._send(segment.filled(request), until))
            return self._send(request, until) if response is None else response
        except OSError as error:
            raise TransportError(f"{self._endpoint}: {error}") from error

    def close(self) -> None:
        """Closes the kept connections; those in use close as their answers come."""
        self._closed = True
        self._pool.close()
        self._segments.close()

    def _send(self, request: Request, until: float | None) -> Response:
        if not self._slots.acquire(None if until is None else max(until - self._clock(), 0.0)):
            raise TransportTimeout(f"{self._endpoint}: none of the {self._max_connections} connections became free")
        try:
            return replace(self._connected(request, until), url=f"{self._endpoint}{request.target}")
        finally:
            self._slots.release()

    def _connected(self, request: Request, until: float | None) -> Response:
        buffers = coalesced([head_of(request, self._endpoint, self._proxy), *request.body])
        kept = self._pool.take()
        if kept is not None:
            parser = ResponseParser()
            try:
                return self._exchange(kept, buffers, parser, until)
            except TransportError as error:
                if parser.started or isinstance(error, TransportTimeout):
                    raise
            self._pool.close()
        return self._exchange(self._connect(until), buffers, ResponseParser(), until)

    def _connect(self, until: float | None) -> _Connection:
        try:
            remaining = self._remaining(until)
        except TimeoutError as error:
            raise TransportTimeout(f"{self._endpoint} did not answer in time") from error
        try:
            return _Connection(self._open(CONNECT_S if remaining is None else min(remaining, CONNECT_S)), self._clock())
        except OSError as error:
            raise unconnected(self._endpoint, self._proxy, error) from error

    def _open(self, timeout: float) -> socket.socket:
        endpoint, proxy = self._endpoint, self._proxy
        if endpoint.socket_path is not None:
            return open_unix(endpoint.socket_path, timeout)
        if proxy is not None and self._tls is not None:
            plain = tunnelled(proxy, endpoint, timeout)
        else:
            plain = socket.create_connection(
                (proxy.host, proxy.port) if proxy else (endpoint.host, endpoint.port), timeout
            )
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._tls.wrap_socket(plain, server_hostname=endpoint.host) if self._tls else plain
        except BaseException:
            plain.close()
            raise

    def _exchange(
        self, connection: _Connection, buffers: list[Buffer], parser: ResponseParser, until: float | None
    ) -> Response:
        try:
            self._converse(connection.socket, buffers, parser, until)
        except TransportError as error:
            raise type(error)(f"{self._endpoint}: {error}") from error
        except TimeoutError as error:
            raise TransportTimeout(f"{self._endpoint} did not answer in time") from error
        except OSError as error:
            raise TransportError(f"{self._endpoint}: {error}") from error
        finally:
            if parser.done and parser.reusable:
                self._pool.put(connection)
            else:
                hang_up(connection.socket)
            if self._closed:
                self._pool.close()
        return parser.response

    def _converse(
        self, sock: socket.socket, buffers: list[Buffer], parser: ResponseParser, until: float | None
    ) -> None:
        # a server may refuse a body before its end, close, and have its reason on the way: read before complaining
        unsent = self._write(sock, buffers, until)
        try:
            while not parser.done:
                sock.settimeout(self._remaining(until))
                count = sock.recv_into(parser.buffer())
                if count:
                    parser.received(count)
                else:
                    parser.closed()
        except (ConnectionError, TransportError) as error:
            if unsent is not None and not parser.started:
                raise unsent from error
            raise

    def _write(self, sock: socket.socket, buffers: list[Buffer], until: float | None) -> ConnectionError | None:
        try:
            for buffer in buffers:
                sock.settimeout(self._remaining(until))
                sock.sendall(buffer)
        except ConnectionError as error:
            return error
        return None

    def _remaining(self, until: float | None) -> float | None:
        if until is None:
            return None
        remaining = until - self._clock()
        if remaining <= 0:
            raise TimeoutError("timed out")
        return remaining
