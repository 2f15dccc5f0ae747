"""Memory for a body, placed so that its numbers lie aligned.

A tensor begins wherever the words before it end; both sides therefore say in a header where the first one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OFFSET_HEADER", "address_of", "aligned", "offset_in", "untouched"]

OFFSET_HEADER: Final = "x-matfn-offset"
_ALIGNMENT: Final = 64
_OFFSET_DIGITS: Final = 18


def untouched(length: int) -> memoryview:
    """New memory, whose pages come as it is written."""
    return np.empty(length, np.uint8).data


def aligned(length: int, offset: int = 0, allocate: Callable[[int], memoryview] = untouched) -> memoryview:
    """Writable memory whose byte at `offset` has an address that is a multiple of 64.

    Raises:
        MemoryError, ValueError: there is not so much memory.
    """
    memory = allocate(length + _ALIGNMENT)
    start = -(address_of(memory) + offset) % _ALIGNMENT
    return memory[start : start + length]


def address_of(memory: memoryview) -> int:
    """The address of the first byte."""
    address: int = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    return address


def offset_in(header: str) -> int:
    """The offset that a header names; 0 for anything that is none, since it can only cost a copy."""
    return int(header) if header.isascii() and header.isdigit() and len(header) <= _OFFSET_DIGITS else 0
