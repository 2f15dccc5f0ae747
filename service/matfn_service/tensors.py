"""Tensors to and from the wire without copying them; triangles become whole matrices."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn import wire
from matfn.triangles import rows_in_triangle, whole
from matfn_kernels import Layout
from matfn_service.arena import numbers_at
from matfn_service.problems import Refusal
from matfn_service.shared_memory import LEAST, lent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["from_wire", "layout_of", "rows_to_wire", "spread"]

_DTYPES: Final[Mapping[str, torch.dtype]] = {name: getattr(torch, name) for name in wire.ITEM_BYTES}
_MATRICES: Final = 3  # dimensions of a batch of them
_MAX_RANK: Final = 64
_MAX_EXTENT: Final = 2**58  # strides in bytes must fit 63 bits, even where another dimension is zero
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}


def layout_of(tensor: wire.Tensor, name: str = "input") -> Layout:
    """Shape and dtype of a tensor as it was sent.

    Args:
        tensor: as it was sent.
        name: of the input, for the refusal.

    Raises:
        Refusal: `invalid_shape` for an empty tensor whose shape no library can hold.
    """
    _require_possible(tensor.shape, name)
    return Layout(tensor.shape, _DTYPES[tensor.dtype])


def from_wire(tensor: wire.Tensor, name: str = "input") -> Tensor:
    """A torch tensor over the message's own memory; copied only where that memory is read-only or not aligned.

    Args:
        tensor: as it was sent.
        name: of the input, for the refusal.

    Raises:
        Refusal: `invalid_shape` for an empty tensor whose shape no library can hold.
    """
    _require_possible(tensor.shape, name)
    dtype = _DTYPES[tensor.dtype]
    view = memoryview(whole(tensor).data)
    if not view.nbytes:  # torch.frombuffer takes no empty buffer
        return torch.empty(tensor.shape, dtype=dtype)
    if view.readonly:
        view = memoryview(bytearray(view))
    return numbers_at(view, dtype, tensor.shape)


def _require_possible(shape: tuple[int, ...], name: str) -> None:
    if len(shape) > _MAX_RANK or prod(size for size in shape if size) > _MAX_EXTENT:
        raise Refusal("invalid_shape", f"{name}: no tensor can have the shape {list(shape[:_MAX_RANK])}")


def spread(tensor: Tensor, lead: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The tensor broadcast to the leading dimensions and reshaped to (items, ...).

    Its numbers are not copied where strides of 0 will do. A large copy lies where workers see it.
    """
    size = prod(shape)
    if tensor.numel() == size:
        return tensor.reshape(shape)
    wide = tensor.expand(*lead, *shape[1:])
    try:
        return wide.view(shape)
    except RuntimeError:  # no strides describe it
        nbytes = size * tensor.itemsize
    if nbytes < LEAST:
        return wide.reshape(shape)
    copy = torch.frombuffer(lent(nbytes), dtype=tensor.dtype)
    copy.view(wide.shape).copy_(wide)
    return copy.view(shape)


def rows_to_wire(pieces: Sequence[Tensor], lead: tuple[int, ...], uplo: wire.Uplo | None = None) -> wire.Rows:
    """A tensor of the wire, with these leading dimensions, over the memory of its rows (batch, ...) on the CPU.

    With `uplo`, matrices that all equal their transposes bit for bit become that triangle, in new memory.
    """
    first = pieces[0]
    rows = wire.Rows(_NAMES[first.dtype], (*lead, *first.shape[1:]), [_octets(piece) for piece in pieces])
    return rows if uplo is None or first.dim() < _MATRICES else rows_in_triangle(rows, uplo)


def _octets(tensor: Tensor) -> memoryview:
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor  # which numpy does not know
    # as bytes: memoryview cannot cast a complex format
    return np.ascontiguousarray(plain.numpy(force=True)).reshape(-1).view(np.uint8).data
