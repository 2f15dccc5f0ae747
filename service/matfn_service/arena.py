"""Tensors in memory that two processes share: one writes and tells the other where.

An arena is an anonymous file, mapped by both sides as far as each needs it; it has no name, so nothing is left behind
whichever process dies. The two sides take turns: while one fills slots the other does not touch the arena.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Arena", "Slot", "anonymous_file"]

_ALIGNMENT: Final = 64
_LEAST: Final = 1 << 20
_KEPT: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tensor lies."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int


def anonymous_file() -> int:
    """A file descriptor of memory without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("matfn-arena")
    with tempfile.TemporaryFile() as file:  # macOS
        return os.dup(file.fileno())


class Arena:
    """One process's view of the shared memory behind a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.end = 0
        self._map: mmap.mmap | None = None

    def put(self, tensor: Tensor) -> Slot:
        """Copies a tensor behind what has been put before."""
        slot = Slot(tensor.dtype, tuple(tensor.shape), self.end)
        self.end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        self.get(slot).copy_(tensor)
        return slot

    def get(self, slot: Slot) -> Tensor:
        """The tensor itself, in shared memory."""
        like = torch.empty(slot.shape, dtype=slot.dtype, device="meta")
        if not like.numel():
            return torch.empty(slot.shape, dtype=slot.dtype)
        reached = self._mapped(slot.offset + like.nbytes)
        flat = torch.frombuffer(reached, dtype=slot.dtype, count=like.numel(), offset=slot.offset)
        return flat.reshape(slot.shape)

    def clear(self) -> None:
        """Forgets what has been put; memory beyond what is worth keeping goes back to the system.

        For the side that puts first: the other one might do so while that is at work.
        """
        self.end = 0
        self._map = None if self._size() > _KEPT else self._map
        if self._size() > _KEPT:
            os.ftruncate(self.descriptor, _KEPT)

    def _mapped(self, size: int) -> mmap.mmap:
        if self._size() < size:
            os.ftruncate(self.descriptor, max(_LEAST, 1 << (size - 1).bit_length()))
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self.descriptor, self._size())
        return self._map

    def _size(self) -> int:
        return os.fstat(self.descriptor).st_size
