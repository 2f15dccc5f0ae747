"""Cuts of a dimension into consecutive blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["blocks"]


def blocks(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` entries that cover a dimension; the last may be shorter."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
