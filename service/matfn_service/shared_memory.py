"""Memory for large bodies and answers that the service and its workers see, kept and used again.

New pages cost more than the copies into them, and what lies where a worker sees it need not be copied to it. A piece of
the memory is lent until nothing refers to it any more. Then it is kept, with its pages up to a bound, for the next body
or answer of about its size. A piece never moves and never changes its size, so each process maps it once.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from bisect import bisect_right, insort
from collections import defaultdict, deque
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import numpy as np

from matfn._aligned import address_of, aligned
from matfn_service.mapping import give_back, map_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LEAST", "SHARED", "Piece", "SharedMemory", "anonymous_file", "lent"]

LEAST: Final = 1 << 20
"""Bytes from which a body or an answer lies in shared memory."""
_KEPT: Final = 256 * 2**20
_STEPS: Final = 8  # sizes from a power of two to the next


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the file, by its first byte and its size, as other processes know it."""

    start: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class _Mapped:
    """A piece and where this process sees it."""

    piece: Piece
    memory: memoryview
    address: int


class SharedMemory:
    """The pieces of one anonymous file; its owner lends them, other processes are told where they are."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._bound = kept
        self._lock = threading.Lock()
        self._returned: deque[_Mapped] = deque()  # a piece may come back in any thread, also while the lock is held
        self._all: list[_Mapped] = []  # by address
        self._warm: dict[_Mapped, None] = {}  # free, with their pages, the longest kept first
        self._cold: defaultdict[int, list[_Mapped]] = defaultdict(list)  # free, without pages, by size
        self._end = 0

    @cached_property
    def descriptor(self) -> int:
        """The file, which is made when it is first wanted."""
        return anonymous_file()

    def use(self, descriptor: int) -> None:
        """Takes a file that another process has made, and sees as well."""
        self.descriptor = descriptor

    def keep_at_most(self, bound: int) -> None:
        """Bounds the bytes of free pieces that keep their pages."""
        self._bound = bound

    def lend(self, length: int) -> memoryview:
        """So many bytes of writable memory, lent until nothing refers to them; untouched or used before."""
        with self._lock:
            self._take_back()
            mapped = self._found(_rounded(length))
        numbers = np.frombuffer(mapped.memory, np.uint8, length)
        weakref.finalize(numbers, self._return, mapped).atexit = False
        return numbers.data

    def find(self, tensor: Tensor) -> tuple[Piece, int] | None:
        """The piece that a tensor without gaps lies in, and where in it; None if it lies elsewhere."""
        address = tensor.data_ptr()
        with self._lock:
            index = bisect_right(self._all, address, key=attrgetter("address")) - 1
            mapped = self._all[index] if index >= 0 else None
        if mapped is None or address >= mapped.address + mapped.piece.size or not tensor.is_contiguous():
            return None
        return mapped.piece, address - mapped.address

    def trim(self) -> None:
        """Gives the pages of all free pieces back to the system."""
        with self._lock:
            self._take_back()
            self._cool(0)

    @property
    def kept_bytes(self) -> int:
        """Bytes of free pieces that have their pages."""
        return sum(mapped.piece.size for mapped in self._warm)

    def _return(self, mapped: _Mapped) -> None:
        """Takes a piece back, now or, while the lock is held, perhaps by this very thread, with the next one."""
        self._returned.append(mapped)
        if self._lock.acquire(blocking=False):
            try:
                self._take_back()
            finally:
                self._lock.release()

    def _take_back(self) -> None:
        while self._returned:
            self._warm[self._returned.popleft()] = None
        self._cool(self._bound)

    def _cool(self, bound: int) -> None:
        while self._warm and self.kept_bytes > bound:
            mapped = next(iter(self._warm))
            del self._warm[mapped]
            give_back(mapped.memory)
            self._cold[mapped.piece.size].append(mapped)

    def _found(self, size: int) -> _Mapped:
        """A free piece of this size, the last used first, or a new one."""
        for mapped in reversed(self._warm):
            if mapped.piece.size == size:
                del self._warm[mapped]
                return mapped
        return self._cold[size].pop() if self._cold[size] else self._new(size)

    def _new(self, size: int) -> _Mapped:
        piece = Piece(self._end, size)
        os.ftruncate(self.descriptor, self._end + size)
        memory = map_file(self.descriptor, size, self._end)
        self._end += size
        mapped = _Mapped(piece, memory, address_of(memory))
        insort(self._all, mapped, key=attrgetter("address"))
        return mapped


def anonymous_file() -> int:
    """A file descriptor of memory without a name (Linux)."""
    return os.memfd_create("matfn-memory")


def _rounded(length: int) -> int:
    """The size of the piece for so many bytes: an eighth larger at most, and whole pages."""
    step = max(LEAST, 1 << max(0, length - 1).bit_length()) // _STEPS
    step = -(-step // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
    return -(-max(length, 1) // step) * step


SHARED: Final = SharedMemory()


def lent(length: int, offset: int = 0) -> memoryview:
    """Writable memory whose byte at `offset` lies aligned, shared where it is large.

    Raises:
        MemoryError, OSError, ValueError: there is not so much memory.
    """
    return aligned(length, offset) if length < LEAST else aligned(length, offset, SHARED.lend)
