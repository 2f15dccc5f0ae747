"""Tensors between two processes: large ones stay in memory that both see, small ones travel as their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matfn_service.arena import Arena, Slot, numbers_at
from matfn_service.shared_memory import LEAST, SHARED, lent

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Parcel", "packed", "shared", "unpacked"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A tensor by its numbers."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    content: bytearray

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call, several times as fast as the default."""
        return Parcel, (self.dtype, self.shape, self.content)


def shared(tensor: Tensor) -> Tensor:
    """A tensor where the other process sees it: a large one that lies elsewhere is copied there, once.

    Raises:
        MemoryError, OSError, ValueError: there is not so much memory.
    """
    if tensor.nbytes < LEAST or SHARED.find(tensor) is not None:
        return tensor
    return numbers_at(lent(tensor.nbytes), tensor.dtype, tuple(tensor.shape)).copy_(tensor)


def packed(tensor: Tensor) -> Parcel | Slot:
    """A tensor as it travels: a large one as its place, where the other process sees that."""
    found = SHARED.find(tensor) if tensor.nbytes >= LEAST else None
    if found is not None:
        return Slot(tensor.dtype, tuple(tensor.shape), found[1], found[0])
    content = bytearray(tensor.nbytes)
    numbers_at(memoryview(content), tensor.dtype, tuple(tensor.shape)).copy_(tensor)
    return Parcel(tensor.dtype, tuple(tensor.shape), content)


def unpacked(parcel: Parcel | Slot, seen: Arena) -> Tensor:
    """The tensor, over the memory that came with it or that the other process wrote."""
    if isinstance(parcel, Slot):
        return seen.get(parcel)
    return numbers_at(memoryview(parcel.content), parcel.dtype, parcel.shape)
