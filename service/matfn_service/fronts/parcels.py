"""Tensors between two processes: large ones stay in memory that both see, small ones travel with their message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn_service.arena import Arena, Slot, numbers_at
from matfn_service.shared_memory import LEAST, SHARED, lent

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Parcels", "shared", "unpacked"]

_ALIGNMENT: Final = 16  # of the widest number


class Parcels:
    """The tensors of one message.

    Attributes:
        numbers: those that travel with it, one behind the other.
    """

    __slots__ = ("_end", "numbers")

    def __init__(self) -> None:
        self.numbers: list[memoryview] = []
        self._end = 0

    def add(self, tensor: Tensor) -> Slot:
        """The place of a tensor for the other process: a large one stays where that sees it, if it lies there."""
        shape, size = tuple(tensor.shape), tensor.nbytes
        found = SHARED.find(tensor) if size >= LEAST else None
        if found is not None:
            return Slot(tensor.dtype, shape, found[1], found[0])
        slot = Slot(tensor.dtype, shape, self._end)
        if size:
            self.numbers.append(_octets(tensor))
            self._end += size
            self._pad()
        return slot

    def _pad(self) -> None:
        missing = -self._end % _ALIGNMENT
        if missing:
            self.numbers.append(memoryview(bytes(missing)))
            self._end += missing


def shared(tensor: Tensor) -> Tensor:
    """A tensor where the other process sees it: a large one that lies elsewhere is copied there, once.

    Raises:
        MemoryError, OSError, ValueError: there is not so much memory.
    """
    if tensor.nbytes < LEAST or SHARED.find(tensor) is not None:
        return tensor
    return numbers_at(lent(tensor.nbytes), tensor.dtype, tuple(tensor.shape)).copy_(tensor)


def unpacked(slot: Slot, numbers: memoryview, seen: Arena) -> Tensor:
    """The tensor, over the memory that came with it or that the other process wrote."""
    if slot.piece is not None:
        return seen.get(slot)
    return numbers_at(numbers, slot.dtype, slot.shape, slot.offset)


def _octets(tensor: Tensor) -> memoryview:
    """A tensor's numbers in memory, where they lie if there are no gaps between them."""
    plain = tensor.resolve_conj().resolve_neg().contiguous()
    if plain.dtype == torch.bfloat16:  # which numpy has not
        plain = plain.view(torch.int16)
    return np.frombuffer(plain.numpy(), np.uint8).data
