"""Tensors in memory that two processes share.

An arena is an anonymous file, mapped by both sides as far as each needs it; it has no name, so nothing is left behind
whichever process dies. The two sides take turns: while one fills slots the other does not touch the arena.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from matfn_service.mapping import map_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_service.shared_memory import Piece

__all__ = ["Arena", "Slot", "numbers_at", "tensor_at"]

_ALIGNMENT: Final = 64
_LEAST: Final = 1 << 20
_KEPT: Final = 1 << 26
_IN_NUMPY: Final[Mapping[torch.dtype, Any]] = {
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(np.int16),  # of the same size
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.complex64: np.dtype(np.complex64),
    torch.complex128: np.dtype(np.complex128),
    torch.uint8: np.dtype(np.uint8),
}
_DTYPES: Final = tuple(_IN_NUMPY)
_NUMBERS: Final = {dtype: number for number, dtype in enumerate(_DTYPES)}


@dataclass(frozen=True, slots=True)
class Slot:
    """Position of a tensor in the arena, or in a piece of the memory that all workers share."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    piece: Piece | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a call with the dtype's number, several times as fast as the default."""
        return _slot, (_NUMBERS[self.dtype], self.shape, self.offset, self.piece)

    @property
    def nbytes(self) -> int:
        """Size of the tensor in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def _slot(dtype: int, shape: tuple[int, ...], offset: int, piece: Piece | None) -> Slot:
    return Slot(_DTYPES[dtype], shape, offset, piece)


class Arena:
    """One process's view of the shared memory behind a file descriptor."""

    def __init__(self, descriptor: int, shared: int = -1) -> None:
        self.descriptor = descriptor
        self.end = 0
        self._shared = shared
        self._pieces: dict[Piece, memoryview] = {}
        self._map: mmap.mmap | None = None

    def put(self, tensors: Sequence[Tensor]) -> Slot:
        """Copies tensors (batch, ...) behind what has been put before, as one along their first dimension."""
        first = tensors[0]
        shape = (sum(len(tensor) for tensor in tensors), *first.shape[1:])
        slot = Slot(first.dtype, shape, self.end)
        there = self.get(slot)
        self.end += -(-slot.nbytes // _ALIGNMENT) * _ALIGNMENT
        torch.cat(list(tensors), out=there)
        return slot

    def get(self, slot: Slot) -> Tensor:
        """The tensor itself, in shared memory."""
        if slot.piece is not None:
            return tensor_at(self.piece(slot.piece), slot)
        return tensor_at(self._mapped(max(slot.offset + slot.nbytes, 1)), slot)

    def put_in(self, room: Slot, tensors: Sequence[Tensor]) -> list[Slot] | None:
        """Copies tensors side by side into the room; None if they do not fit."""
        slots, offset = [], room.offset
        for tensor in tensors:
            slots.append(Slot(tensor.dtype, tuple(tensor.shape), offset, room.piece))
            offset += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        if offset > room.offset + math.prod(room.shape):
            return None
        for slot, tensor in zip(slots, tensors, strict=True):
            self.get(slot).copy_(tensor)
        return slots

    def copied(self, slots: Sequence[Slot]) -> list[Tensor]:
        """The tensors of slots that lie side by side, in one copy of the memory between the first and the last."""
        if not slots:
            return []
        start, stop = slots[0].offset, slots[-1].offset + slots[-1].nbytes
        memory = np.frombuffer(self._mapped(max(stop, 1)), np.uint8, stop - start, start).copy()
        return [tensor_at(memory, slot, start) for slot in slots]

    def clear(self) -> None:
        """Forgets all tensors, and gives memory beyond a bound back to the system.

        For the side that puts first: the other one might do so while that is at work.
        """
        self.end = 0
        if self._size() > _KEPT:
            self._map = None
            os.ftruncate(self.descriptor, _KEPT)

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is not None and size <= min(len(self._map), _KEPT):  # no end cuts the file below that
            return self._map
        if self._size() < size:
            os.ftruncate(self.descriptor, max(_LEAST, 1 << (size - 1).bit_length()))
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self.descriptor, self._size())
        return self._map

    def piece(self, piece: Piece) -> memoryview:
        """The piece, with its pages, which all exist, mapped at once."""
        if piece not in self._pieces:
            self._pieces[piece] = map_file(self._shared, piece.size, piece.start, has_pages=True)
        return self._pieces[piece]

    def _size(self) -> int:
        return os.fstat(self.descriptor).st_size


def tensor_at(memory: mmap.mmap | memoryview | np.ndarray, slot: Slot, start: int = 0) -> Tensor:
    """The tensor of a slot in memory that begins at the offset `start`."""
    return numbers_at(memory, slot.dtype, slot.shape, slot.offset - start)


def numbers_at(
    memory: mmap.mmap | memoryview | np.ndarray, dtype: torch.dtype, shape: tuple[int, ...], start: int = 0
) -> Tensor:
    """A tensor over writable memory from the byte `start` on; copied only where it is not aligned there."""
    if not math.prod(shape):
        return torch.empty(shape, dtype=dtype)
    array = np.ndarray(shape, _IN_NUMPY[dtype], memory, start)  # in half the time of torch.frombuffer
    numbers = torch.from_numpy(array)
    if numbers.data_ptr() % dtype.itemsize:  # torch's own loops crash on numbers off their alignment
        numbers = torch.from_numpy(array.copy())
    return numbers if numbers.dtype == dtype else numbers.view(dtype)
