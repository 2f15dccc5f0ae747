"""Whole iterations for orders up to 128 in one launch, and inverses of triangles up to 64, a matrix a program.

A program takes one matrix after another through all of its steps. The state is a scratch of a few matrices a program,
in all 32 MiB, which a GPU's L2 cache holds, or one program a multiprocessor if that is more: 50 MiB at order 128 in
fp32, 99 in fp64. (In registers it would be spilled from order 64 on: docs/decisions/0008-gpu.md.) Products known to be
symmetric are made by half of their tiles, as in `products`.

Every matrix has an order of its own and only its own tiles are computed; what lies beyond is zero in the result. A row
of coefficients (1, 0, 0) is skipped, which freezes a matrix exactly. Each product is by tiles in a fixed order: an
answer does not depend on the other matrices in the batch. How products round is `kernel_choice.multiplication`.

Compiled for compute capability 8.0 and 9.0, tested by Triton's interpreter and on an H100.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
import triton
import triton.language as tl

from matfn_kernels.linalg.kernel_choice import multiplication, state
from matfn_kernels.linalg.triton.products import table_of
from matfn_kernels.linalg.triton.tiles import (
    index_tile,
    load_tile,
    lower_tile,
    product_tile,
    store_symmetric,
    store_tile,
)
from matfn_kernels.linalg.triton.types import TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn_kernels.numbers.coefficients import Row

__all__ = [
    "LEAF",
    "LEAF_WARPS",
    "WARPS",
    "constants",
    "coupled",
    "coupled_kernel",
    "invert_leaf",
    "leaf_kernel",
    "plain",
    "plain_kernel",
]

LEAF: Final = 64
"""Largest order of a triangle that is inverted by substitution."""

BLOCK: Final = 32
"""Rows and columns of a tile: nothing from 16 to 64 with 1 to 8 warps was faster by more than 10 % on an H100, but for
fp64 at order 128."""
WARPS: Final = 4
"""Number of warps of a program, measured with `BLOCK`."""
LEAF_WARPS: Final = 1
"""Sums over rows then stay within a warp: 2.7 times as fast as with four of them (order 32, fp32, H100)."""
_COUPLED_SLOTS: Final = 6
"""Matrices of a program's scratch in `coupled_kernel`: P, W, G, a spare one and two for powers."""
_PLAIN_SLOTS: Final = 4
"""Matrices of a program's scratch in `plain_kernel`: X, a spare one, its Gram matrix and W."""
_SCRATCH_BYTES: Final = 1 << 25
"""Scratch of all programs together, which an L2 cache holds (50 MiB on an H100): products go through it."""
_LEAST_PROGRAMS: Final = 132
"""Multiprocessors of an H100: with fewer programs some of them would be idle."""
_LEAST_BLOCK: Final = 16
"""Smallest block of `leaf_kernel`, so that three are compiled: 16, 32 and 64."""


@triton.jit
def _multiply(out, x, y, rows, order, width, MULTIPLICATION: tl.constexpr, STATE: tl.constexpr, BLOCK: tl.constexpr):
    """X Y for X (rows, order), Y (order, order), complete for all threads on return."""
    for i in range(tl.cdiv(rows, BLOCK)):
        for j in range(tl.cdiv(order, BLOCK)):
            value = product_tile(
                x, width, 1, y, width, 1, i, j, rows, order, order, MULTIPLICATION, STATE, STATE, BLOCK, BLOCK
            )
            store_tile(out, width, 1, value, i, j, rows, order, BLOCK)
    tl.debug_barrier()


@triton.jit
def _multiply_symmetric(
    out, x, x_row, x_column, y, inner, order, width,
    MULTIPLICATION: tl.constexpr, STATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """X Y of order `order` where it is known to be symmetric."""
    tiles = tl.cdiv(order, BLOCK)
    for index in range(tiles * (tiles + 1) // 2):
        i, j = lower_tile(index)
        value = product_tile(
            x, x_row, x_column, y, width, 1, i, j, order, inner, order, MULTIPLICATION, STATE, STATE, BLOCK, BLOCK
        )
        store_symmetric(out, width, value, i, j, order, BLOCK)
    tl.debug_barrier()


@triton.jit
def _quadratic(out, p, a, b, c, order, width, MULTIPLICATION: tl.constexpr, STATE: tl.constexpr, BLOCK: tl.constexpr):
    """A I + b P + c P^2."""
    tiles = tl.cdiv(order, BLOCK)
    for index in range(tiles * (tiles + 1) // 2):
        i, j = lower_tile(index)
        square = product_tile(
            p, width, 1, p, width, 1, i, j, order, order, order, MULTIPLICATION, STATE, STATE, BLOCK, BLOCK
        )
        down, across = index_tile(i, j, BLOCK)
        linear = b * load_tile(p, width, 1, i, j, order, order, BLOCK)
        store_symmetric(out, width, tl.where(down == across, a, 0.0) + linear + c * square, i, j, order, BLOCK)
    tl.debug_barrier()


@triton.jit
def _powered(
    w, one, other, EXPONENT: tl.constexpr, order, width,
    MULTIPLICATION: tl.constexpr, STATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Pointer to W^EXPONENT: W itself, or one of two slots."""
    result = w
    for _ in tl.static_range(EXPONENT - 1):
        _multiply_symmetric(one, result, width, 1, w, order, order, width, MULTIPLICATION, STATE, BLOCK)
        result = one
        one, other = other, one
    return result


@triton.jit
def _copy(out, source, rows, order, width, BLOCK: tl.constexpr):
    """A matrix (rows, order) in rows of `width`; what lies beyond `order` becomes zero."""
    for i in range(tl.cdiv(rows, BLOCK)):
        for j in range(tl.cdiv(width, BLOCK)):
            value = load_tile(source, width, 1, i, j, rows, order, BLOCK)
            store_tile(out, width, 1, value, i, j, rows, width, BLOCK)
    tl.debug_barrier()


@triton.jit
def _contract(
    p, w, spare, one, other, order, width,
    R: tl.constexpr, MULTIPLICATION: tl.constexpr, STATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """W^R P, symmetric by form (see `linalg.iteration`); returns its slot and the one that has become free."""
    if R == 1:
        _multiply_symmetric(spare, p, width, 1, w, order, order, width, MULTIPLICATION, STATE, BLOCK)
        result, free = spare, p
    else:
        half = _powered(w, one, other, R // 2, order, width, MULTIPLICATION, STATE, BLOCK)
        if R % 2 == 0:
            _multiply(spare, half, p, order, order, width, MULTIPLICATION, STATE, BLOCK)
            _multiply_symmetric(p, spare, width, 1, half, order, order, width, MULTIPLICATION, STATE, BLOCK)
            result, free = p, spare
        else:
            _multiply(spare, p, w, order, order, width, MULTIPLICATION, STATE, BLOCK)
            _multiply(p, half, spare, order, order, width, MULTIPLICATION, STATE, BLOCK)
            _multiply_symmetric(spare, p, width, 1, half, order, order, width, MULTIPLICATION, STATE, BLOCK)
            result, free = spare, p
    return result, free


@triton.jit
def coupled_kernel(
    g_ptr,
    g_item,
    p_ptr,
    out_ptr,
    scratch_ptr,
    slot,
    orders_ptr,
    table_ptr,
    table_item,
    items,
    rows,
    width,
    steps,
    R: tl.constexpr,
    S: tl.constexpr,
    MULTIPLICATION: tl.constexpr,
    STATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """G P^(-S/R): W = a I + b P + c P^2, G <- G W^S, P <- W^R P."""
    p = scratch_ptr + tl.program_id(0).to(tl.int64) * 6 * slot
    w, g, spare, one, other = p + slot, p + 2 * slot, p + 3 * slot, p + 4 * slot, p + 5 * slot
    for number in range(tl.program_id(0), items, tl.num_programs(0)):
        item = tl.cast(number, tl.int64)
        order = tl.load(orders_ptr + item)
        _copy(p, p_ptr + item * width * width, order, order, width, BLOCK)
        _copy(g, g_ptr + item * g_item, rows, order, width, BLOCK)
        for step in range(steps):
            row = table_ptr + item * table_item + 3 * step
            a, b, c = tl.load(row), tl.load(row + 1), tl.load(row + 2)
            if (a != 1) | (b != 0) | (c != 0):
                _quadratic(w, p, a, b, c, order, width, MULTIPLICATION, STATE, BLOCK)
                power = _powered(w, one, other, S, order, width, MULTIPLICATION, STATE, BLOCK)
                _multiply(spare, g, power, rows, order, width, MULTIPLICATION, STATE, BLOCK)
                g, spare = spare, g
                if step + 1 < steps:
                    p, spare = _contract(p, w, spare, one, other, order, width, R, MULTIPLICATION, STATE, BLOCK)
        _copy(out_ptr + item * rows * width, g, rows, order, width, BLOCK)


@triton.jit
def plain_kernel(
    x_ptr,
    out_ptr,
    scratch_ptr,
    slot,
    orders_ptr,
    table_ptr,
    table_item,
    items,
    rows,
    width,
    steps,
    MULTIPLICATION: tl.constexpr,
    STATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Polar factor of X (rows, order): X <- X (a I + b G + c G^2), G = X^T X."""
    x = scratch_ptr + tl.program_id(0).to(tl.int64) * 4 * slot
    spare, gram, w = x + slot, x + 2 * slot, x + 3 * slot
    for number in range(tl.program_id(0), items, tl.num_programs(0)):
        item = tl.cast(number, tl.int64)
        order = tl.load(orders_ptr + item)
        _copy(x, x_ptr + item * rows * width, rows, order, width, BLOCK)
        for step in range(steps):
            row = table_ptr + item * table_item + 3 * step
            a, b, c = tl.load(row), tl.load(row + 1), tl.load(row + 2)
            if (a != 1) | (b != 0) | (c != 0):
                _multiply_symmetric(gram, x, 1, width, x, rows, order, width, MULTIPLICATION, STATE, BLOCK)
                _quadratic(w, gram, a, b, c, order, width, MULTIPLICATION, STATE, BLOCK)
                _multiply(spare, x, w, rows, order, width, MULTIPLICATION, STATE, BLOCK)
                x, spare = spare, x
        _copy(out_ptr + item * rows * width, x, rows, order, width, BLOCK)


@triton.jit
def leaf_kernel(t_ptr, t_item, t_row, t_column, out_ptr, orders_ptr, width, BLOCK: tl.constexpr):
    """Inverse of a lower triangle by forward substitution, row after row; what is above the diagonal is not read."""
    item = tl.program_id(0).to(tl.int64)
    order = tl.load(orders_ptr + item)
    column = tl.arange(0, BLOCK)
    t_ptr += item * t_item
    x = tl.zeros((BLOCK, BLOCK), t_ptr.dtype.element_ty)
    for i in range(order):
        before = tl.load(t_ptr + i * t_row + column * t_column, mask=column < i, other=0.0)
        pivot = tl.load(t_ptr + i * t_row + i * t_column)
        rest = tl.where(column == i, 1.0, 0.0).to(x.dtype) - tl.sum(before[:, None] * x, axis=0)
        x = tl.where(column[:, None] == i, (rest / pivot)[None, :], x)
    store_tile(out_ptr + item * width * width, width, 1, x, 0, 0, width, width, BLOCK)


def coupled(g: Tensor | None, p: Tensor, rows: Sequence[Row], r: int, s: int, orders: Tensor | None = None) -> Tensor:
    """G P^(-s/r) for symmetric P (batch, n, n) with eigenvalues in [0, 1].

    Args:
        g: (batch, m, n), or None for the identity.
        p: (batch, n, n); not written to.
        rows: the steps' coefficients.
        r: the root.
        s: the power.
        orders: of each matrix, integer (batch,), if they differ from n; the rest of P and G is not read.
    """
    items, width, _ = p.shape
    p = p.contiguous()
    start = torch.eye(width, dtype=p.dtype, device=p.device).expand_as(p) if g is None else g.contiguous()
    out = p.new_empty(start.shape)
    slot = max(start.shape[1], width) * width
    scratch = _scratch(p, _COUPLED_SLOTS, slot)
    table = table_of(rows, p)
    coupled_kernel[(len(scratch),)](
        start,
        start.stride(0),
        p,
        out,
        scratch,
        slot,
        _orders(p) if orders is None else orders,
        table,
        table.stride(0),
        items,
        start.shape[1],
        width,
        len(rows),
        R=r,
        S=s,
        **constants(p.dtype),
    )
    return out


def plain(x: Tensor, rows: Sequence[Row], orders: Tensor | None = None) -> Tensor:
    """Polar factor of X (batch, m, n), m >= n, singular values in [0, 1].

    Args:
        x: (batch, m, n); not written to.
        rows: the steps' coefficients.
        orders: columns of each matrix, integer (batch,), if they differ from n; the rest of X is not read.
    """
    items, tall, width = x.shape
    x = x.contiguous()
    out = torch.empty_like(x)
    scratch = _scratch(x, _PLAIN_SLOTS, tall * width)
    table = table_of(rows, x)
    plain_kernel[(len(scratch),)](
        x,
        out,
        scratch,
        tall * width,
        _orders(x) if orders is None else orders,
        table,
        table.stride(0),
        items,
        tall,
        width,
        len(rows),
        **constants(x.dtype),
    )
    return out


def invert_leaf(t: Tensor, orders: Tensor | None = None) -> Tensor:
    """Inverse of lower triangular T (batch, n, n), n <= 64, of each the part up to its order if they differ."""
    items, width, _ = t.shape
    out = t.new_empty(t.shape)
    block = max(_LEAST_BLOCK, triton.next_power_of_2(width))
    leaf_kernel[(items,)](
        t,
        *t.stride(),
        out,
        _orders(t) if orders is None else orders,
        width,
        BLOCK=block,
        num_warps=LEAF_WARPS,
        enable_fp_fusion=True,
    )
    return out


def constants(dtype: torch.dtype) -> dict[str, Any]:
    """Compile-time constants and launch options of the iterations."""
    return {
        "MULTIPLICATION": multiplication(dtype),
        "STATE": TYPES[state(dtype)],
        "BLOCK": BLOCK,
        "num_warps": WARPS,
        "enable_fp_fusion": True,
    }


def _orders(x: Tensor) -> Tensor:
    return torch.full((len(x),), x.shape[-1], dtype=torch.int32, device=x.device)


def _scratch(x: Tensor, slots: int, slot: int) -> Tensor:
    """Scratch for as many matrices as fit a GPU's L2 cache, but for at least one a multiprocessor."""
    dtype = state(x.dtype)
    programs = max(_LEAST_PROGRAMS, _SCRATCH_BYTES // (slots * slot * dtype.itemsize))
    return torch.empty(min(len(x), programs), slots, slot, dtype=dtype, device=x.device)
