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
    numbers = numbers if left is None else invariant.ldexp(numbers, left[rows, None])
    numbers = invariant.power(numbers, sign * power.s / power.r)
    numbers = invariant.ldexp(numbers, -exponent[rows, None].to(torch.int64)).to(value.dtype)
    safe = torch.isfinite(numbers).all(-1) & (numbers.abs() >= torch.finfo(value.dtype).tiny).all(-1)
    value = value.clone()
    value[rows[safe]] = torch.diag_embed(numbers[safe])
    return value


def _are_diagonal(a: Tensor) -> Tensor:
    """Which matrices have nonzero numbers on their diagonals and nowhere else, (batch,)."""
    both = a.count_nonzero((-2, -1)), a.diagonal(dim1=-2, dim2=-1).count_nonzero(-1)
    return (both[0] == a.shape[-1]) & (both[1] == a.shape[-1])
