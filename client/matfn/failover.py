"""Transports to several servers: thin shells of I/O around `servers`."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from matfn.observing import Observed
from matfn.proxies import proxy_of
from matfn.servers import Servers
from matfn.transport import SocketTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from matfn.endpoint import Endpoint
    from matfn.http1 import Request, Response
    from matfn.observing import Hooks
    from matfn.transport import Transport

__all__ = ["Failover", "Wiring", "transport_to"]


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a client is connected to its servers.

    Attributes:
        endpoints: where they are.
        max_connections: to each, at a time.
        tls: settings of TLS for https, in place of the system's.
        hooks: who is told of requests.
    """

    endpoints: Sequence[Endpoint]
    max_connections: int
    tls: ssl.SSLContext | None
    hooks: Hooks

    def __post_init__(self) -> None:
        if self.max_connections < 1:
            raise ValueError(f"max_connections={self.max_connections} lets no call through; it is at least 1")
        if self.tls is not None and all(endpoint.scheme != "https" for endpoint in self.endpoints):
            raise ValueError(f"ssl_context is given, but {self.endpoints[0]} is not https")

    def arguments(self, endpoint: Endpoint) -> dict[str, Any]:
        """The keywords of a transport to one of them, by the proxy that the environment names."""
        proxy = proxy_of(endpoint, os.environ)
        return {"tls": self.tls, "max_connections": self.max_connections, "proxy": proxy}


def transport_to(wiring: Wiring, given: Transport | None = None) -> Transport:
    """Sockets to one server, or to several of which any may answer; a transport that is given stands for them."""
    if given is not None:
        return Observed(given, str(wiring.endpoints[0]), wiring.hooks)
    transports = [
        Observed(SocketTransport(endpoint, **wiring.arguments(endpoint)), str(endpoint), wiring.hooks)
        for endpoint in wiring.endpoints
    ]
    return transports[0] if len(transports) == 1 else Failover(transports)


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
