"""A connection through a proxy, by HTTP's CONNECT."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Final

from matfn.errors import ProtocolError, TransportError

if TYPE_CHECKING:
    from matfn.endpoint import Endpoint
    from matfn.proxies import Proxy

__all__ = ["connect_head", "refusal_in", "tunnelled"]

_MOST_BYTES: Final = 64 * 1024
_BLANK_LINE: Final = b"\r\n\r\n"
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_UNAUTHENTICATED: Final = 407
_GATEWAY: Final = 500  # from here on the proxy did not reach the server, which may pass


def tunnelled(proxy: Proxy, endpoint: Endpoint, timeout: float) -> socket.socket:
    """A socket on which the endpoint listens, behind the proxy.

    Raises:
        OSError: the proxy is not reached, or gives no answer in time.
        TransportError: the proxy refuses.
    """
    until = time.monotonic() + timeout
    sock = socket.create_connection((proxy.host, proxy.port), timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(connect_head(proxy, endpoint))
        refusal = refusal_in(_answered(sock, until), proxy, endpoint)
    except BaseException:
        sock.close()
        raise
    if refusal is not None:
        sock.close()
        raise refusal
    return sock


def connect_head(proxy: Proxy, endpoint: Endpoint) -> bytes:
    """The request for a connection."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    target = f"{host}:{endpoint.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def refusal_in(head: bytes, proxy: Proxy, endpoint: Endpoint) -> TransportError | None:
    """The reason why a proxy refuses a connection; None where there is one."""
    line = _STATUS_LINE.match(head)
    if line is None:
        return ProtocolError(f"{proxy} is no HTTP proxy")
    status = int(line[1])
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own class
        return None
    if status == _UNAUTHENTICATED:
        return ProtocolError(f"the proxy {proxy} asks for credentials: name it as http://user:password@host:port")
    words = f"the proxy {proxy} does not connect to {endpoint}: HTTP {status}"
    return TransportError(words) if status >= _GATEWAY else ProtocolError(words)


def _answered(sock: socket.socket, until: float) -> bytes:
    """The head of the proxy's answer; the server behind it says nothing before it is spoken to."""
    head = b""
    while _BLANK_LINE not in head:
        remaining = until - time.monotonic()
        if remaining <= 0 or len(head) > _MOST_BYTES:
            raise TimeoutError("the proxy does not answer")
        sock.settimeout(remaining)
        piece = sock.recv(4096)
        if not piece:
            raise ConnectionResetError("the proxy hung up")
        head += piece
    return head
