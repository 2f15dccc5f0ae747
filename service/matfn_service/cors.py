"""Requests of web pages from other origins (CORS, in the Fetch standard): which may read answers, and their preflights.

Off by default. A key is a header that a page's script sets, so no cookie or other credential is ever allowed along.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, TypeAlias

from matfn._aligned import OFFSET_HEADER
from matfn.triangles import TRIANGLE_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ANY", "Cors", "is_preflight", "origins_in"]

ANY: Final = "*"
_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?:(?P<name>[a-z0-9._-]+)|\[(?P<six>[0-9a-f:.]+)\])(?::(?P<port>[0-9]+))?"
)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as the last label it makes the name an IPv4 address, to browsers
_USUAL_PORTS: Final = {"http": 80, "https": 443}  # which browsers leave out
_LAST_PORT: Final = 65535
_METHODS: Final = b"GET, HEAD, POST"
_SENT: Final = (
    "accept, authorization, content-type, inference-header-content-length, traceparent, tracestate, "
    f"{OFFSET_HEADER.lower()}, x-matfn-key, {TRIANGLE_HEADER.lower()}, x-request-id"
).encode()
_READ: Final = (
    "inference-header-content-length, retry-after, traceparent, tracestate, www-authenticate, "
    f"{OFFSET_HEADER.lower()}, x-request-id"
).encode()
_SECONDS: Final = b"600"  # for which a browser keeps the answer to a preflight; Chromium keeps none longer than 7200

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]


def origins_in(text: str) -> tuple[str, ...]:
    """The origins in a setting, with commas between, as browsers send them; or `*` for any.

    Raises:
        ValueError: if one of them is no origin, or is beside `*`.
    """
    origins = tuple(dict.fromkeys(_as_sent(part.strip().lower()) for part in text.split(",") if part.strip()))
    if ANY in origins and len(origins) > 1:
        raise ValueError("* stands for all origins: name it alone")
    return origins


def _as_sent(written: str) -> str:
    """An origin as browsers serialise it: addresses in their shortest form, no port that the scheme has anyway."""
    if written == ANY:
        return written
    found = _ORIGIN.fullmatch(written)
    if found is None:
        raise ValueError(
            f"{written!r} is no origin such as https://example.org or http://localhost:3000, without a path"
        )
    try:
        host = _name(found["name"]) if found["name"] else _address(found["six"])
    except ValueError as error:
        raise ValueError(f"{written!r} has a host that is no name and no address: {error}") from None
    port = int(found["port"] or _USUAL_PORTS[found["scheme"]])
    if not 1 <= port <= _LAST_PORT:
        raise ValueError(f"{written!r} has a port that is none: they go from 1 to {_LAST_PORT}")
    return f"{found['scheme']}://{host}" + (f":{port}" if port != _USUAL_PORTS[found["scheme"]] else "")


def _name(written: str) -> str:
    """The name of a host, or its address in IPv4.

    Raises:
        ValueError: with the part that is wrong.
    """
    labels = written.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return str(IPv4Address(written))
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"{label!r} is no part of a name")
    return written


def _address(written: str) -> str:
    """An address in IPv6; one that stands for an IPv4 address is written like all others, unlike by Python."""
    address = IPv6Address(written)
    mapped = address.ipv4_mapped
    return f"[{address}]" if mapped is None else f"[::ffff:{int(mapped) >> 16:x}:{int(mapped) & 0xFFFF:x}]"


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks by this request if a page of another origin may send one."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


@dataclass(frozen=True, slots=True)
class Cors:
    """The origins whose pages may read answers.

    Attributes:
        origins: each as browsers send it; or only `*`, for any.
        vary: tells caches that an answer is for the origin that asked, where not all are answered alike.
    """

    origins: frozenset[bytes]
    vary: Headers

    @classmethod
    def of(cls, origins: Sequence[str]) -> Cors | None:
        """The rule for these origins; None for none."""
        if not origins:
            return None
        return cls(frozenset(map(str.encode, origins)), () if ANY in origins else ((b"vary", b"Origin"),))

    def of_answer(self, headers: Mapping[bytes, bytes]) -> Headers:
        """The headers of an answer to a request with these headers."""
        allowed = self._allowed(headers)
        return self.vary if allowed is None else (*self.vary, allowed, (b"access-control-expose-headers", _READ))

    def of_preflight(self, method: str, headers: Mapping[bytes, bytes]) -> Headers | None:
        """The headers that answer a preflight of an allowed origin; None for any other request."""
        allowed = self._allowed(headers)
        if allowed is None or not is_preflight(method, headers):
            return None
        return (
            *self.vary,
            allowed,
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _SENT),
            (b"access-control-max-age", _SECONDS),
        )

    def _allowed(self, headers: Mapping[bytes, bytes]) -> tuple[bytes, bytes] | None:
        """The header by which a browser hands the answer to the page; None for an origin that is not allowed."""
        origin = headers.get(b"origin", b"")
        granted = b"*" if origin and b"*" in self.origins else origin
        return (b"access-control-allow-origin", granted) if granted in self.origins else None
