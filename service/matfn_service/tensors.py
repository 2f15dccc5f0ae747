"""Tensors to and from the wire without copying them; triangles become whole matrices."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

import torch

from matfn import wire
from matfn.triangles import rows_in_triangle, whole
from matfn_service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["from_wire", "rows_to_wire"]

_DTYPES: Final[Mapping[str, torch.dtype]] = {name: getattr(torch, name) for name in wire.ITEM_BYTES}
_MATRICES: Final = 3  # dimensions of a batch of them
_MAX_RANK: Final = 64
_MAX_EXTENT: Final = 2**58  # strides in bytes must fit 63 bits, even where another dimension is zero
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}


def from_wire(tensor: wire.Tensor, name: str = "input") -> Tensor:
    """A torch tensor over the message's own memory; copied only where that memory is read-only or not aligned.

    Args:
        tensor: as it was sent.
        name: of the input, for the refusal.

    Raises:
        Refusal: `invalid_shape` for an empty tensor whose shape no library can hold.
    """
    if len(tensor.shape) > _MAX_RANK or prod(size for size in tensor.shape if size) > _MAX_EXTENT:
        raise Refusal("invalid_shape", f"{name}: no tensor can have the shape {list(tensor.shape[:_MAX_RANK])}")
    dtype = _DTYPES[tensor.dtype]
    view = memoryview(whole(tensor).data)
    if not view.nbytes:  # torch.frombuffer takes no empty buffer
        return torch.empty(tensor.shape, dtype=dtype)
    if view.readonly:
        view = memoryview(bytearray(view))
    numbers = torch.frombuffer(view, dtype=dtype)
    if numbers.data_ptr() % dtype.itemsize:  # copied as bytes: torch's own loops crash on numbers off their alignment
        numbers = torch.frombuffer(view, dtype=torch.uint8).clone().view(dtype)
    return numbers.reshape(tensor.shape)


def rows_to_wire(pieces: Sequence[Tensor], lead: tuple[int, ...], uplo: wire.Uplo | None = None) -> wire.Rows:
    """A tensor of the wire, with these leading dimensions, over the memory of its rows (batch, ...) on the CPU.

    With `uplo`, matrices that all equal their transposes bit for bit become that triangle, in new memory.
    """
    first = pieces[0]
    rows = wire.Rows(_NAMES[first.dtype], (*lead, *first.shape[1:]), [_octets(piece) for piece in pieces])
    return rows if uplo is None or first.dim() < _MATRICES else rows_in_triangle(rows, uplo)


def _octets(tensor: Tensor) -> memoryview:
    dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
    # as bytes: numpy has no bfloat16, and memoryview cannot cast a complex format
    return dense.reshape(-1).view(torch.uint8).numpy().data
