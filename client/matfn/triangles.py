"""Symmetric matrices as one triangle on the wire: n (n + 1) / 2 numbers a matrix instead of n^2.

    Tensor (..., n, n) --in_triangle--> the same tensor, with uplo --whole--> Tensor (..., n, n), the same bits

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
from matfn.wire import ITEM_BYTES, Rows, Tensor, Uplo

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TRIANGLE_HEADER", "in_triangle", "rows_in_triangle", "whole"]

TRIANGLE_HEADER: Final = "x-matfn-triangle"
"""Names the triangle that symmetric outputs are to be answered as."""

_Words: TypeAlias = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
_Places: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]

_STRIP: Final = 64  # so many rows and columns of a matrix fit a core's cache
_BLOCK_ENTRIES: Final = 1 << 20  # bounds the index tables, which are larger than what they index
_TABLES: Final = 8


def in_triangle(tensor: Tensor, uplo: Uplo = "L") -> Tensor:
    """One triangle of real matrices that equal their transposes bit for bit; any other tensor as it is."""
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
        span = slice(_entries(start, order, uplo), _entries(stop, order, uplo))
        packed[:, span] = rows.take(_kept(order, start, stop, uplo), axis=1)
    return Tensor(tensor.dtype, tensor.shape, memory, uplo)


def rows_in_triangle(rows: Rows, uplo: Uplo) -> Rows:
    """One triangle of the matrices in each piece, if all of them equal their transposes; else the rows as they are."""
    *_, height, width = rows.shape
    size, pieces = height * width * ITEM_BYTES[rows.dtype], []
    for piece in rows.pieces:
        part = in_triangle(Tensor(rows.dtype, (piece.nbytes // max(size, 1), height, width), piece), uplo)
        if part.uplo is None:
            return rows
        pieces.append(memoryview(part.data))
    return Rows(rows.dtype, rows.shape, pieces, uplo)


def whole(tensor: Tensor) -> Tensor:
    """The symmetric matrices of which the tensor holds a triangle, in new memory; a whole tensor as it is."""
    if tensor.uplo is None:
        return tensor
    if not tensor.nbytes:  # its order may be any, and nothing may be as long as that
        return replace(tensor, uplo=None)
    items, order = prod(tensor.shape[:-2]), tensor.shape[-1]
    memory = aligned(items * order * order * ITEM_BYTES[tensor.dtype])
    packed = _words(tensor).reshape(items, _entries(order, order, "L"))
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


def _entries(rows: int, order: int, uplo: Uplo) -> int:
    """Entries in the first so many rows of a triangle."""
    return rows * (rows + 1) // 2 if uplo == "L" else rows * (2 * order - rows + 1) // 2


def _blocks(order: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose tables are of bounded size."""
    step = max(1, _BLOCK_ENTRIES // max(order, 1))
    return pairwise([*range(0, order, step), order])


@lru_cache(_TABLES)
def _kept(order: int, start: int, stop: int, uplo: Uplo) -> _Places:
    """Where the triangle's entries of the rows start..stop are among all entries of these rows."""
    if uplo == "L":
        return np.flatnonzero(np.tri(stop - start, order, start, dtype=bool))
    return np.flatnonzero(~np.tri(stop - start, order, start - 1, dtype=bool))


@lru_cache(_TABLES)
def _places(order: int, start: int, stop: int, uplo: Uplo) -> _Places:
    """Where each entry of the rows start..stop is in the triangle, (stop - start, order)."""
    i, j = np.arange(start, stop)[:, None], np.arange(order)
    low, high = np.minimum(i, j), np.maximum(i, j)
    places: _Places = high * (high + 1) // 2 + low if uplo == "L" else low * (2 * order - low - 1) // 2 + high
    return places
