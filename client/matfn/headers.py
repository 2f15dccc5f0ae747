"""Headers that a caller adds to requests, checked once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["checked_headers", "overridden"]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[^\0\r\n]*")
_OWN: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers by which bodies are read: the client's own."""


def checked_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The headers as they are sent; ValueError for one that HTTP, or this client, does not allow."""
    for name, value in headers.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ValueError(f"headers: {name!r} is no name of a header")
        if not (isinstance(value, str) and value.isascii() and _VALUE.fullmatch(value)):
            raise ValueError(f"headers: the value of {name} is no string of ASCII in one line")
        if name.lower() in _OWN or name.lower().startswith("x-matfn-"):
            raise ValueError(f"headers: {name} is set by the client itself")
    return tuple(headers.items())


def overridden(headers: Iterable[tuple[str, str]], by: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Headers with others in place of those of the same name."""
    later = tuple(by)
    names = {name.lower() for name, _ in later}
    return (*(header for header in headers if header[0].lower() not in names), *later)
