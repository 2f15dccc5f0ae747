"""Memory for a body, placed so that its numbers lie aligned.

A tensor begins wherever the words before it end; both sides therefore say in a header where the first one does.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OFFSET_HEADER", "KeptMemory", "address_of", "aligned", "offset_in", "received", "untouched"]

OFFSET_HEADER: Final = "x-matfn-offset"
_ALIGNMENT: Final = 64
_OFFSET_DIGITS: Final = 18
_LARGE: Final = 1 << 20
_SPARE: Final = 8  # memory larger by up to an eighth serves as well

_Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"


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


class KeptMemory:
    """Memory of large bodies, used again when nothing refers to it any more; of what is free, so many bytes are kept.

    New pages cost as much as receiving into old ones.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._free: deque[_Bytes] = deque()  # each operation of a deque is atomic: memory comes back in any thread

    def lend(self, length: int) -> memoryview:
        """So many writable bytes, untouched or used before."""
        for _ in range(len(self._free)):
            try:
                kept = self._free.pop()
            except IndexError:  # another thread took the last one
                break
            if length <= kept.size <= length + length // _SPARE:
                return self._lent(kept, length)
            self._free.appendleft(kept)
        return self._lent(np.empty(length, np.uint8), length)

    @property
    def kept_bytes(self) -> int:
        """Bytes that are free."""
        return sum(kept.size for kept in tuple(self._free))

    def _lent(self, memory: _Bytes, length: int) -> memoryview:
        part = np.frombuffer(memory.data, np.uint8, length)  # an object of its own, which dies with the last view of it
        weakref.finalize(part, self._return, memory).atexit = False
        return part.data

    def _return(self, memory: _Bytes) -> None:
        self._free.append(memory)
        while self.kept_bytes > self._bound:
            try:
                self._free.popleft()
            except IndexError:
                return


KEPT: Final = KeptMemory(128 * 2**20)


def received(length: int, offset: int = 0) -> memoryview:
    """`aligned` for a body that is received: where it is large, in memory that was used before."""
    return aligned(length, offset, untouched if length < _LARGE else KEPT.lend)


def address_of(memory: memoryview) -> int:
    """The address of the first byte."""
    address: int = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    return address


def offset_in(header: str) -> int:
    """The offset that a header names; 0 for anything that is none, since it can only cost a copy."""
    return int(header) if header.isascii() and header.isdigit() and len(header) <= _OFFSET_DIGITS else 0
