"""Symmetric matrices as one triangle on the wire: n (n + 1) / 2 numbers a matrix instead of n^2.

    Tensor (..., n, n) --in_triangle--> the same tensor, uplo "L" --whole--> Tensor (..., n, n), the same bits

Only real dtypes: a Hermitian matrix's mirror image is a conjugate, whose zeros differ in sign. The numbers are moved,
never computed with, so that NaN, signed zeros and every dtype come out as they went in.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from matfn._aligned import aligned
from matfn.wire import ITEM_BYTES, Tensor, Uplo

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["in_triangle", "whole"]

_Words: TypeAlias = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
_Places: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]

_STRIP: Final = 64  # so many rows and columns of a matrix fit a core's cache
_BLOCK_ENTRIES: Final = 1 << 20  # bounds the index tables, which are larger than what they index
_TABLES: Final = 8


def in_triangle(tensor: Tensor) -> Tensor:
    """The lower triangle of real matrices that equal their transposes bit for bit; any other tensor as it is."""
    if not _is_square(tensor) or tensor.dtype.startswith("complex"):
        return tensor
    matrices = _words(tensor).reshape(-1, *tensor.shape[-2:])
    if not _is_symmetric(matrices):
        return tensor
    items, order, _ = matrices.shape
    memory = aligned(items * order * (order + 1) // 2 * matrices.itemsize)
    packed = np.frombuffer(memory, matrices.dtype).reshape(items, -1)
    for start, stop in _blocks(order):
        rows = matrices[:, start:stop].reshape(items, -1)
        packed[:, _entries(start) : _entries(stop)] = rows.take(_kept(order, start, stop), axis=1)
    return Tensor(tensor.dtype, tensor.shape, memory, "L")


def whole(tensor: Tensor) -> Tensor:
    """The symmetric matrices of which the tensor holds a triangle, in new memory; a whole tensor as it is."""
    if tensor.uplo is None:
        return tensor
    if not tensor.nbytes:  # its order may be any, and nothing may be as long as that
        return replace(tensor, uplo=None)
    items, order = prod(tensor.shape[:-2]), tensor.shape[-1]
    memory = aligned(items * order * order * ITEM_BYTES[tensor.dtype])
    packed = _words(tensor).reshape(items, _entries(order))
    matrices = np.frombuffer(memory, packed.dtype).reshape(items, order, order)
    for start, stop in _blocks(order):
        places = _places(order, start, stop, tensor.uplo)
        packed.take(places, axis=1, out=matrices[:, start:stop], mode="clip")  # "raise" would take the numbers twice
    return replace(tensor, data=memory, uplo=None)


def _is_square(tensor: Tensor) -> bool:
    return len(tensor.shape) > 1 and tensor.shape[-2] == tensor.shape[-1] and bool(tensor.nbytes)


def _words(tensor: Tensor) -> _Words:
    return np.frombuffer(tensor.data, f"u{ITEM_BYTES[tensor.dtype]}")


def _is_symmetric(matrices: _Words) -> bool:
    """Whether every matrix is its transpose; the first strip that is not ends the search."""
    return all(
        np.array_equal(
            matrices[:, start : start + _STRIP, start:], _mirrored(matrices[:, start:, start : start + _STRIP])
        )
        for start in range(0, matrices.shape[-1], _STRIP)
    )


def _mirrored(matrices: _Words) -> _Words:
    return matrices.swapaxes(-2, -1)


def _entries(rows: int) -> int:
    """Entries in so many rows of a lower triangle."""
    return rows * (rows + 1) // 2


def _blocks(order: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose tables are of bounded size."""
    step = max(1, _BLOCK_ENTRIES // max(order, 1))
    return pairwise([*range(0, order, step), order])


@lru_cache(_TABLES)
def _kept(order: int, start: int, stop: int) -> _Places:
    """Where the lower triangle's entries of the rows start..stop are among all entries of these rows."""
    return np.flatnonzero(np.tri(stop - start, order, start, dtype=bool))


@lru_cache(_TABLES)
def _places(order: int, start: int, stop: int, uplo: Uplo) -> _Places:
    """Where each entry of the rows start..stop is in the triangle, (stop - start, order)."""
    i, j = np.arange(start, stop)[:, None], np.arange(order)
    low, high = np.minimum(i, j), np.maximum(i, j)
    places: _Places = high * (high + 1) // 2 + low if uplo == "L" else low * (2 * order - low - 1) // 2 + high
    return places
