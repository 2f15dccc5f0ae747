"""Readers of one field of a decoded tree: each returns the type it names, or says what was expected where."""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING, Final

from matfn._messages import DecodeError
from matfn._msgpack import Repeated

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "integer",
    "items",
    "mapping",
    "number",
    "only",
    "optional_integer",
    "optional_number",
    "optional_text",
    "shown",
    "text",
]

_SHOWN: Final = 60


def shown(value: object) -> str:
    """The value for a message, short and printable whatever it is."""
    if isinstance(value, list | dict | memoryview | Repeated):
        return f"a {type(value).__name__}"
    text = repr(value[:_SHOWN]) if isinstance(value, str) else repr(value)
    return text[: 2 * _SHOWN]


def mapping(value: object, what: str) -> dict[str, object]:
    """A map without repeated keys."""
    if isinstance(value, Repeated):
        raise DecodeError(f"{what} has the key {shown(value.key)} twice")
    if not isinstance(value, dict):
        raise DecodeError(f"{what} is not a map")
    return value


def only(tree: Mapping[str, object], known: set[str], what: str) -> None:
    """Refuses a map with any key that is not known."""
    unknown = sorted(set(tree) - known)
    if unknown:
        raise DecodeError(f"{what} has the unknown key {shown(unknown[0])}; known are {', '.join(sorted(known))}")


def items(value: object, what: str) -> list[object]:
    """A list."""
    if not isinstance(value, list):
        raise DecodeError(f"{what} is not a list")
    return value


def text(value: object, what: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise DecodeError(f"{what} is not a string")
    return value


def optional_text(value: object, what: str) -> str | None:
    """A string or null."""
    return None if value is None else text(value, what)


def integer(value: object, what: str) -> int:
    """An integer; a boolean is none."""
    if type(value) is not int:
        raise DecodeError(f"{what} is not an integer")
    return value


def optional_integer(value: object, what: str) -> int | None:
    """An integer or null."""
    return None if value is None else integer(value, what)


def number(value: object, what: str) -> float:
    """A number; JSON has null for one that is not finite."""
    if value is None:
        return nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError(f"{what} is not a number")
    try:
        return float(value)
    except OverflowError:
        return inf


def optional_number(value: object, what: str) -> float | None:
    """A number or null."""
    return None if value is None else number(value, what)
