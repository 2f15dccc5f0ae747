"""Transports to several servers for asyncio: `matfn.failover` with `await` before its I/O."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from matfn.async_transport import StreamTransport
from matfn.observing import AsyncObserved
from matfn.servers import Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matfn.async_transport import AsyncTransport
    from matfn.failover import Wiring
    from matfn.http1 import Request, Response

__all__ = ["AsyncFailover", "async_transport_to"]


def async_transport_to(wiring: Wiring, given: AsyncTransport | None = None) -> AsyncTransport:
    """Streams to one server, or to several of which any may answer; a transport that is given stands for them."""
    if given is not None:
        return AsyncObserved(given, str(wiring.endpoints[0]), wiring.hooks)
    transports = [
        AsyncObserved(StreamTransport(endpoint, **wiring.arguments(endpoint)), str(endpoint), wiring.hooks)
        for endpoint in wiring.endpoints
    ]
    return transports[0] if len(transports) == 1 else AsyncFailover(transports)


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
