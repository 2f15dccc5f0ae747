"""Values in a line: a few numbers as they are, arrays by kind, dtype and shape."""

from __future__ import annotations

from math import prod
from typing import Final

__all__ = ["brief"]

_SHOWN: Final = 64  # numbers, a matrix of order 8


def brief(value: object) -> str:
    """A few numbers as they are, of more the kind, dtype and shape."""
    if isinstance(value, tuple):
        return f"({', '.join(map(brief, value))})"
    if isinstance(value, list):
        return repr(value) if len(value) <= _SHOWN and not any(isinstance(row, list) for row in value) else _rows(value)
    shape = tuple(getattr(value, "shape", ()))
    if prod(shape) <= _SHOWN:
        return repr(value)
    return f"<{type(value).__name__} of {getattr(value, 'dtype', 'numbers')}, {'x'.join(map(str, shape))}>"


def _rows(rows: list[object]) -> str:
    return f"<list of {len(rows)} {'rows' if isinstance(rows[0], list) else 'numbers'}>"
