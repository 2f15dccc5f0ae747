"""Requests of web pages from other origins (CORS, in the Fetch standard): which may read answers, and their preflights.

Off by default. A key is a header that a page's script sets, so no cookie or other credential is ever allowed along.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from matfn._aligned import OFFSET_HEADER
from matfn.triangles import TRIANGLE_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ANY", "Cors", "origins_in"]

ANY: Final = "*"
_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
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
    """The origins in a setting, with commas between, or `*` for any.

    Raises:
        ValueError: if one of them is no origin, or is beside `*`.
    """
    origins = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for origin in origins:
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin such as https://example.org or http://localhost:3000, without a path"
            )
    if ANY in origins and len(origins) > 1:
        raise ValueError("* stands for all origins: name it alone")
    return origins


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
        if allowed is None or method != "OPTIONS" or b"access-control-request-method" not in headers:
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
