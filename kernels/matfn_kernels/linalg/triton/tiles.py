"""Tiles of matrices and of their products, the parts that Triton kernels are made of.

A matrix is a pointer with a stride for rows and one for columns, so that a transpose is the same with its strides
exchanged. What lies outside a matrix reads as zero and is not written.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["index_tile", "load_tile", "lower_tile", "product_tile", "store_symmetric", "store_tile"]


@triton.jit
def index_tile(i, j, BLOCK: tl.constexpr):
    """Row numbers (BLOCK, 1) and column numbers (1, BLOCK) of tile (i, j)."""
    numbers = tl.arange(0, BLOCK)
    return i * BLOCK + numbers[:, None], j * BLOCK + numbers[None, :]


@triton.jit
def lower_tile(index):
    """(i, j), i >= j, of a number that counts the tiles on and below the diagonal row by row."""
    odd = tl.sqrt_rn(8.0 * tl.cast(index, tl.float32) + 1.0)  # rounded to nearest, so exact where a row begins
    i = ((odd - 1.0) * 0.5).to(tl.int32)
    return i, index - i * (i + 1) // 2


@triton.jit
def load_tile(ptr, row, column, i, j, rows, columns, BLOCK: tl.constexpr):
    """Tile (i, j) of a matrix (rows, columns)."""
    down, across = index_tile(i, j, BLOCK)
    return tl.load(ptr + down * row + across * column, mask=(down < rows) & (across < columns), other=0.0)


@triton.jit
def store_tile(ptr, row, column, value, i, j, rows, columns, BLOCK: tl.constexpr):
    """Writes tile (i, j) of a matrix (rows, columns)."""
    down, across = index_tile(i, j, BLOCK)
    place = ptr + down * row + across * column
    tl.store(place, value.to(ptr.dtype.element_ty), mask=(down < rows) & (across < columns))


@triton.jit
def store_symmetric(ptr, row, value, i, j, order, BLOCK: tl.constexpr):
    """Writes the lower triangle's part of tile (i, j), i >= j, and its mirror image."""
    down, across = index_tile(i, j, BLOCK)
    lower = (down < order) & (across <= down)
    value = value.to(ptr.dtype.element_ty)
    tl.store(ptr + down * row + across, value, mask=lower)
    tl.store(ptr + tl.trans(across) * row + tl.trans(down), tl.trans(value), mask=tl.trans(lower))


@triton.jit
def product_tile(
    x_ptr,
    x_row,
    x_column,
    y_ptr,
    y_row,
    y_column,
    i,
    j,
    rows,
    inner,
    columns,
    MULTIPLICATION: tl.constexpr,
    OPERAND: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Tile (i, j) of X Y for X (rows, inner) and Y (inner, columns), DEPTH terms at a time."""
    down, across = index_tile(i, j, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), SUM)
    for start in range(0, inner, DEPTH):
        along = start + tl.arange(0, DEPTH)
        right, below = along[None, :], along[:, None]
        x = tl.load(x_ptr + down * x_row + right * x_column, mask=(down < rows) & (right < inner), other=0.0)
        y = tl.load(y_ptr + below * y_row + across * y_column, mask=(below < inner) & (across < columns), other=0.0)
        total = tl.dot(x.to(OPERAND), y.to(OPERAND), total, input_precision=MULTIPLICATION, out_dtype=SUM)
    return total
