"""The proxy that the environment names for a server: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case.

Rules of this file:
- Names in lower case win, as in curl; HTTP_PROXY in upper case is ignored in a CGI script, where a request sets it.
- A server on this machine is never reached by a proxy, whatever NO_PROXY says.
- NO_PROXY is a list of host names, which stand for their subdomains too, addresses, networks, each with or without a
  port, or `*`.
- A proxy is spoken to by plain HTTP; what goes to an https server passes it encrypted, through CONNECT.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn.endpoint import Endpoint

__all__ = ["Proxy", "proxy_of"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; `authorization` is the value of Proxy-Authorization."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, variable: str) -> Proxy:
        """The proxy of a URL; ValueError names the environment variable that holds another one."""
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            scheme = f"{parts.scheme}://" if parts.hostname else "no host"
            raise ValueError(f"{variable} names a proxy by {scheme}; matfn takes http://host:port")
        if parts.username is None:
            return cls(parts.hostname, parts.port or 80)
        from base64 import b64encode

        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        return cls(parts.hostname, parts.port or 80, f"Basic {b64encode(words).decode()}")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def proxy_of(endpoint: Endpoint, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy by which a server is reached; None for the direct way."""
    if endpoint.socket_path is not None or _is_here(endpoint.host) or _is_excepted(endpoint, environment):
        return None
    for name in (f"{endpoint.scheme}_proxy", "all_proxy"):
        variable, url = _value(name, environment)
        if url:
            return Proxy.parse(url, variable)
    return None


def _value(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The variable that is set, in lower or upper case, and its value."""
    if name in environment:
        return name, environment[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in environment:
        return name, ""
    return name.upper(), environment.get(name.upper(), "").strip()


def _is_here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.endswith(".localhost") or host.startswith("127.")


def _is_excepted(endpoint: Endpoint, environment: Mapping[str, str]) -> bool:
    _, exceptions = _value("no_proxy", environment)
    return any(_covers(one, endpoint) for one in exceptions.replace(",", " ").lower().split())


def _covers(exception: str, endpoint: Endpoint) -> bool:
    host, port = endpoint.host.lower(), str(endpoint.port)
    if "/" in exception:
        return _contains(exception, host)
    name, colon, only = exception.rpartition(":")
    if colon and only.isdigit() and (":" not in name or name.startswith("[")):
        if only != port:
            return False
        exception = name
    exception = exception.strip("[]").removeprefix("*.").removeprefix(".")
    return exception in {"*", host} or (bool(exception) and host.endswith(f".{exception}"))


def _contains(network: str, host: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:  # a name, or no network
        return False
