"""Transports to several servers: thin shells of I/O around `servers`."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from matfn.async_transport import StreamTransport
from matfn.servers import Servers
from matfn.transport import SocketTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matfn.async_transport import AsyncTransport
    from matfn.endpoint import Endpoint
    from matfn.http1 import Request, Response
    from matfn.transport import Transport

__all__ = ["AsyncFailover", "Failover", "async_transport_to", "transport_to"]


def transport_to(endpoints: Sequence[Endpoint], max_connections: int) -> Transport:
    """Sockets to one server, or to several of which any may answer."""
    _require_some(max_connections)
    transports = [SocketTransport(endpoint, max_connections=max_connections) for endpoint in endpoints]
    return transports[0] if len(transports) == 1 else Failover(transports)


def async_transport_to(endpoints: Sequence[Endpoint], max_connections: int) -> AsyncTransport:
    """Streams to one server, or to several of which any may answer."""
    _require_some(max_connections)
    transports = [StreamTransport(endpoint, max_connections=max_connections) for endpoint in endpoints]
    return transports[0] if len(transports) == 1 else AsyncFailover(transports)


def _require_some(max_connections: int) -> None:
    if max_connections < 1:
        raise ValueError(f"max_connections={max_connections} lets no call through; it is at least 1")


class Failover:
    """Requests to several servers, any of which may answer."""

    def __init__(self, transports: Sequence[Transport], clock: Callable[[], float] = time.monotonic) -> None:
        self._transports = transports
        self._servers = Servers(len(transports), clock)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies begin without a memory."""
        return partial(type(self), clock=self._servers.clock), (self._transports,)

    def send(self, request: Request, timeout: float | None) -> Response:
        """Sends a request and waits for its response.

        Raises:
            TransportTimeout: a server took too long, or all together did.
            TransportError: the last server that was tried gave no answer.
        """
        journey = self._servers.journey(request, timeout)
        while True:
            with journey:
                response = self._transports[journey.server].send(request, journey.remaining)
                if journey.ends_with(response):
                    return response

    def close(self) -> None:
        """Closes the kept connections to all servers."""
        for transport in self._transports:
            transport.close()


class AsyncFailover:
    """`Failover` for asyncio."""

    def __init__(self, transports: Sequence[AsyncTransport], clock: Callable[[], float] = time.monotonic) -> None:
        self._transports = transports
        self._servers = Servers(len(transports), clock)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies begin without a memory."""
        return partial(type(self), clock=self._servers.clock), (self._transports,)

    async def send(self, request: Request, timeout: float | None) -> Response:  # noqa: ASYNC109 - bounds one attempt
        """Sends a request and awaits its response.

        Raises:
            TransportTimeout: a server took too long, or all together did.
            TransportError: the last server that was tried gave no answer.
        """
        journey = self._servers.journey(request, timeout)
        while True:
            with journey:
                response = await self._transports[journey.server].send(request, journey.remaining)
                if journey.ends_with(response):
                    return response

    async def close(self) -> None:
        """Closes the kept connections to all servers."""
        for transport in self._transports:
            await transport.close()
