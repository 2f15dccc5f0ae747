"""Logarithms of matrices I + X with X so small that rounding A, or a decomposition, would lose it.

X = A - I is exact, its diagonal by Sterbenz's lemma, and log(I + X) = X - X^2 / 2 + X^3 / 3 - ... is X to first order:
nothing cancels, down to the smallest subnormal X.
Reference: Higham, Functions of Matrices (2008), section 11.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.scaling import norm

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["logarithms", "near_identity"]

_NEAR: Final = 1e-5
"""Largest ||X||_F: the first term of the series that is left out is ||X||^3 / 4 of its first, an eps of float64."""
_ROUNDINGS: Final = 4.0
"""Roundings of an entry of the sum, in units of eps: the first term is exact, and the others are small beside it."""


def near_identity(a: Tensor) -> Tensor:
    """Which matrices (batch, n, n) are so near I, (batch,)."""
    close = (a.diagonal(dim1=-2, dim2=-1) - 1).abs().amax(-1) <= _NEAR  # one pass over a diagonal clears nearly all
    rows = close.nonzero().flatten()
    if len(rows):
        close[rows] = norm(_less_identity(a[rows])) <= _NEAR
    return close


def logarithms(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of matrices (batch, n, n) near I, their relative errors and their conditions, (batch,)."""
    x = _less_identity(a)
    square = invariant.product(x, x)
    value = x - (square / 2 - invariant.product(square, x) / 3)
    size = norm(x)
    error = torch.where(size > 0, _ROUNDINGS * torch.finfo(a.dtype).eps + size**3, 0.0)
    condition = torch.where(size > 0, norm(a) / torch.where(size > 0, size, 1.0), torch.inf)
    return value, error, condition.clamp_max(torch.finfo(torch.float64).max)


def _less_identity(a: Tensor) -> Tensor:
    """A - I."""
    x = a.clone()
    x.diagonal(dim1=-2, dim2=-1).sub_(1)
    return x
