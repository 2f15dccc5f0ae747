"""Arrays between margins: a write beside an array is found, with AddressSanitizer a read too."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluating import Array

__all__ = ["Watched", "out_of_bounds", "watched"]

ALIGNMENT: Final = 64
MARGIN: Final = 192
CANARY: Final = 0xC3


@dataclass(frozen=True)
class Watched:
    """An array's bytes between two margins.

    Attributes:
        memory: bytes of all three.
        start: of the array.
        size: of the array, in bytes.
    """

    memory: Array
    start: int
    size: int

    @property
    def address(self) -> int:
        """Of the array."""
        return int(self.memory.ctypes.data) + self.start

    def content(self) -> bytes:
        """Bytes of the array."""
        return self.memory[self.start : self.start + self.size].tobytes()

    def margins(self) -> tuple[Array, Array]:
        """Bytes before and behind it."""
        return self.memory[: self.start], self.memory[self.start + self.size :]

    def is_intact(self) -> bool:
        """Whether nothing was written beside the array."""
        return all(bool((margin == CANARY).all()) for margin in self.margins())


def watched(content: Array, shift: int) -> Watched:
    """A copy of an array, so many of its numbers beyond a multiple of 64 bytes."""
    size, offset = content.nbytes, shift * content.itemsize % ALIGNMENT
    memory = np.full(size + 2 * MARGIN, CANARY, dtype=np.uint8)
    start = -int(memory.ctypes.data) % ALIGNMENT + ALIGNMENT + offset
    memory[start : start + size] = np.frombuffer(content.tobytes(), dtype=np.uint8)
    return Watched(memory, start, size)


@contextmanager
def out_of_bounds(arrays: list[Watched]) -> Iterator[None]:
    """Lets AddressSanitizer, where it runs, report any use of the margins within the block."""
    margins = [margin for array in arrays for margin in array.margins()]
    _each("__asan_poison_memory_region", margins)
    try:
        yield
    finally:
        _each("__asan_unpoison_memory_region", margins)


def _each(name: str, margins: list[Array]) -> None:
    function: Any = getattr(ctypes.CDLL(None), name, None)
    for margin in margins if function else ():
        function(ctypes.c_void_p(margin.ctypes.data), ctypes.c_size_t(margin.nbytes))
