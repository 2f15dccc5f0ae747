"""Powers of diagonal matrices number by number, to an ulp, where an iteration leaves its rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.roots.power import Power

__all__ = ["exact_on_diagonals"]


def exact_on_diagonals(
    power: Power, sign: int, a: Tensor, left: Tensor | None, value: Tensor, exponent: Tensor
) -> Tensor:
    """The powers that were computed (batch, n, n), those of diagonal A replaced by the powers of their diagonals.

    On a GPU the host would have to wait for the matrices: there nothing is replaced.

    Args:
        power: the question.
        sign: +1 for A^(s/r), -1 for A^(-s/r).
        a: A 2^-left (batch, n, n), real.
        left: (batch,), None for zero.
        value: the powers but for 2^exponent.
        exponent: (batch,).
    """
    if not a.is_cpu or (a.shape[-1] > 1 and bool(a[:, 0, -1].all())):  # one number a matrix clears nearly every batch
        return value
    replaced = _are_diagonal(a) & torch.isfinite(value[:, 0, 0])
    rows = replaced.nonzero().flatten()
    numbers = a[rows].diagonal(dim1=-2, dim2=-1).to(torch.float64)
    own = torch.zeros_like(numbers, dtype=torch.int64) if left is None else left[rows, None].expand_as(numbers)
    numbers, whole = _powers(numbers, own, sign * power.s, power.r)
    numbers = invariant.ldexp(numbers, whole - exponent[rows, None].to(torch.int64)).to(value.dtype)
    safe = torch.isfinite(numbers).all(-1) & (numbers.abs() >= torch.finfo(value.dtype).tiny).all(-1)
    value = value.clone()
    value[rows[safe]] = torch.diag_embed(numbers[safe])
    return value


def _powers(numbers: Tensor, exponent: Tensor, s: int, r: int) -> tuple[Tensor, Tensor]:
    """(X 2^exponent)^(s/r) elementwise as a value and its missing exponent.

    The exponent s/r is rounded, by which X^(s/r) is off by eps log X: a number far from 1 loses powers of two before.
    """
    mantissa, bits = torch.frexp(numbers)
    total = bits.to(torch.int64) - 1 + exponent
    near = (total == 0) | (total == -1)  # X itself, from 1/2 to 2
    product = torch.where(near, 0, total * s)
    whole = torch.div(product, r, rounding_mode="floor")
    base = torch.where(near, invariant.ldexp(mantissa, total + 1), 2 * mantissa)
    fraction = invariant.exp2((product - whole * r).to(torch.float64) / r)
    return invariant.power(base, s / r) * fraction, whole


def _are_diagonal(a: Tensor) -> Tensor:
    """Which matrices have nonzero numbers on their diagonals and nowhere else, (batch,)."""
    both = a.count_nonzero((-2, -1)), a.diagonal(dim1=-2, dim2=-1).count_nonzero(-1)
    return (both[0] == a.shape[-1]) & (both[1] == a.shape[-1])
