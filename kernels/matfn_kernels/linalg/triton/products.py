"""Products known to be symmetric, by the tiles on and below the diagonal, which are written twice.

X Y for X = Y^T (a Gram matrix) or for commuting symmetric factors costs half of a product; with the epilogue
a I + b P + c P^2 it is a whole fused update of an iteration. The result is symmetric to the bit.

Products of bf16 numbers are exact in fp32, where they are added. Compiled for compute capability 8.0 and 9.0, tested by
Triton's interpreter and on an H100.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import torch
import triton
import triton.language as tl

from matfn_kernels.linalg.kernel_choice import multiplication, state
from matfn_kernels.linalg.triton.tiles import index_tile, load_tile, lower_tile, product_tile, store_symmetric
from matfn_kernels.linalg.triton.types import TYPES
from matfn_kernels.numbers.pinned import used

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn_kernels.numbers.coefficients import Row

__all__ = ["Shape", "constants", "gram", "quadratic", "shape_for", "symmetric_kernel", "symmetric_product", "table_of"]

_KEPT_TABLES: Final = 256
"""Tables of coefficients that stay on the device, one a step; one that was dropped is copied again, which waits."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Tiling of a product.

    Attributes:
        block: rows and columns of a tile.
        depth: terms of an inner product that are loaded at a time.
        warps: number of warps that compute a tile.
        stages: number of loads under way.
    """

    block: int
    depth: int
    warps: int
    stages: int


_SHAPES: Final = {
    torch.bfloat16: Shape(128, 64, 8, 3),
    torch.float32: Shape(64, 16, 4, 3),
    torch.float64: Shape(64, 16, 8, 3),
}
"""Tiling of large matrices, 1.4 to 1.6 times as fast as cuBLAS on an H100 at order 2048 in fp32, 1.1 times in fp64; in
bf16, and below order 512, cuBLAS is faster for a product without its epilogue."""
_LEAST_BLOCK: Final = 32
"""Rows and columns of the smallest tile: smaller matrices fill a part of it."""


def shape_for(order: int, dtype: torch.dtype) -> Shape:
    """Tiling of a symmetric product of that order: tiles no larger than the matrix needs."""
    shape = _SHAPES[dtype]
    block = max(_LEAST_BLOCK, min(shape.block, triton.next_power_of_2(order)))
    return Shape(block, min(shape.depth, block), shape.warps if block == shape.block else 4, shape.stages)


@triton.jit
def symmetric_kernel(
    x_ptr,
    x_item,
    x_row,
    x_column,
    y_ptr,
    y_item,
    y_row,
    y_column,
    p_ptr,
    out_ptr,
    table_ptr,
    table_item,
    order,
    inner,
    HAS_POLYNOMIAL: tl.constexpr,
    MULTIPLICATION: tl.constexpr,
    OPERAND: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """X Y, or a I + b P + c X Y, one tile of one matrix of the batch a program."""
    i, j = lower_tile(tl.program_id(0))
    item = tl.program_id(1).to(tl.int64)
    x_ptr += item * x_item
    y_ptr += item * y_item
    value = product_tile(
        x_ptr, x_row, x_column, y_ptr, y_row, y_column, i, j, order, inner, order,
        MULTIPLICATION, OPERAND, SUM, BLOCK, DEPTH,
    )  # fmt: skip
    if HAS_POLYNOMIAL:
        row = table_ptr + item * table_item
        a, b, c = tl.load(row), tl.load(row + 1), tl.load(row + 2)
        p = load_tile(p_ptr + item * order * order, order, 1, i, j, order, order, BLOCK).to(SUM)
        down, across = index_tile(i, j, BLOCK)
        value = tl.where(down == across, a, 0.0) + b * p + c * value
    store_symmetric(out_ptr + item * order * order, order, value, i, j, order, BLOCK)


def quadratic(p: Tensor, coefficients: Row, out: Tensor) -> Tensor:
    """W = a I + b P + c P^2 for symmetric P (batch, n, n)."""
    table = table_of((coefficients,), p)
    return _launch(p, p, out, p, table)


def gram(x: Tensor, out: Tensor) -> Tensor:
    """X^T X of X (batch, m, n)."""
    return _launch(x.mT, x, out)


def symmetric_product(x: Tensor, y: Tensor) -> Tensor:
    """X Y (batch, n, n), known to be symmetric."""
    return _launch(x, y, torch.empty_like(y))


def _launch(x: Tensor, y: Tensor, out: Tensor, p: Tensor | None = None, table: Tensor | None = None) -> Tensor:
    items, order, inner = x.shape
    shape = shape_for(order, x.dtype)
    tiles = -(-order // shape.block)
    symmetric_kernel[tiles * (tiles + 1) // 2, items](
        x,
        *x.stride(),
        y,
        *y.stride(),
        out if p is None else p.contiguous(),
        out,
        out if table is None else table,
        0 if table is None else table.stride(0),
        order,
        inner,
        HAS_POLYNOMIAL=p is not None,
        **constants(x.dtype, shape, _operand(x)),
    )
    return out


def constants(dtype: torch.dtype, shape: Shape, operand: tl.dtype) -> dict[str, Any]:
    """Compile-time constants and launch options of the kernel."""
    return {
        "MULTIPLICATION": multiplication(dtype),
        "OPERAND": operand,
        "SUM": TYPES[state(dtype)],
        "BLOCK": shape.block,
        "DEPTH": shape.depth,
        "num_warps": shape.warps,
        "num_stages": shape.stages,
        "enable_fp_fusion": True,
    }


def _operand(x: Tensor) -> tl.dtype:
    """The dtype in which tiles are multiplied; the interpreter, on a CPU, cannot multiply bf16."""
    return TYPES[state(x.dtype) if x.device.type == "cpu" else x.dtype]


def table_of(rows: Sequence[Row], like: Tensor) -> Tensor:
    """Coefficients (batch, steps, 3), or (1, steps, 3) expanded where all of the batch have the same."""
    dtype = state(like.dtype)
    if all(isinstance(value, float) for row in rows for value in row):
        return used(_shared(tuple(rows), like.device, dtype)).expand(len(like), -1, -1)
    columns = [[torch.as_tensor(value, device=like.device).expand(len(like), 1, 1) for value in row] for row in rows]
    return torch.stack([torch.cat(row, -1)[:, 0] for row in columns], 1).to(dtype)


@lru_cache(maxsize=_KEPT_TABLES)
def _shared(rows: tuple[tuple[float, float, float], ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Coefficients (1, steps, 3), cached on the device: a copy would wait for all that is under way there."""
    return torch.tensor(rows, dtype=torch.float64).to(device, dtype)[None]
