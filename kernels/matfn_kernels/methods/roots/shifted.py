"""A + shift I before an iteration in batches, on any device, where the caller adds something to the diagonal.

The largest eigenvalue, of which a damping is a part, is the largest Rayleigh quotient on columns of A^256, which takes
eight products and nothing that the host would have to wait for. The rules are those of `damping`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.products import add_diagonal, symmetric_product
from matfn_kernels.numbers.precision import FLOOR

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.linalg.kernel_choice import Kernel
    from matfn_kernels.methods.roots.coupled_iteration import CoupledIteration

__all__ = ["LARGEST_PART", "SQUARINGS", "Shifted"]

SQUARINGS: Final = 8
"""Squarings for the largest eigenvalue. Where all the others lie 1 % below and so hide it best, it is too small by
0.6 % on average at order 300 and by 0.8 % at 2048, and by 1.3 % in one matrix of a hundred."""
LARGEST_PART: Final = 1 / 2
"""Largest damping. A matrix that it makes positive definite has no negative eigenvalue beyond half of the largest one,
which powers of A then find."""
_CLEAR: Final = 1 / 2
"""Part of the noise, 8 eps of the largest eigenvalue, below which no negative eigenvalue lies where a number is added:
those below all of it count as 0 (`damping`)."""


@dataclass(frozen=True, slots=True)
class Shifted:
    """Matrices A + shift I.

    Attributes:
        a: A + shift I scaled by 2^-exponent, (batch, n, n).
        shift: in the units of the matrices as they were sent, (batch,) float64.
        damping: the shift relative to the largest eigenvalue, 0 where that is 0, (batch,).
        is_clear: whether no eigenvalue of A has to be counted as 0 before, (batch,).
    """

    a: Tensor
    shift: Tensor
    damping: Tensor
    is_clear: Tensor

    @classmethod
    def of(cls, iteration: CoupledIteration, kernel: Kernel, a: Tensor, exponent: Tensor) -> Self:
        """Shifts Hermitian A (batch, n, n), scaled by 2^-exponent."""
        power, largest = iteration.power, _largest(a, kernel)
        if power.shift is None:
            shift, damping = power.part * largest, torch.full_like(largest, power.part)
            is_clear = torch.ones_like(largest, dtype=torch.bool)
        else:
            shift = invariant.ldexp(torch.full_like(largest, power.shift), -exponent)
            damping = torch.where(largest > 0, shift / largest, torch.zeros_like(shift))
            is_clear = _is_clear(a, _CLEAR * FLOOR * iteration.eps * largest)
        stated = invariant.ldexp(shift, exponent)
        return cls(_added(a, invariant.ldexp(stated, -exponent)), stated, damping, is_clear)


def _largest(a: Tensor, kernel: Kernel) -> Tensor:
    """The largest eigenvalues of A (batch, n, n) where they are the largest in magnitude, (batch,); at least 0."""
    found = a
    for _ in range(SQUARINGS):
        size = invariant.matrix_norm(found)
        found = invariant.divided(found, torch.where(size > 0, size, torch.ones_like(size))[:, None, None])
        found = symmetric_product(found, found, kernel)
    z = probes.times(found, probes.gaussian(a, a.shape[-1]).to(a.dtype)).to(torch.float64)
    z = z / probes.column_norm(z)[:, None, None].clamp_min(torch.finfo(torch.float64).tiny)
    image = probes.times(a, z.to(a.dtype)).to(torch.float64)
    squares = (z * z).sum(-2)
    quotients = (z * image).sum(-2) / torch.where(squares > 0, squares, torch.ones_like(squares))
    return quotients.amax(-1).clamp_min(0)


def _is_clear(a: Tensor, least: Tensor) -> Tensor:
    """Whether A + least I is positive definite, (batch,)."""
    return invariant.cholesky(add_diagonal(a.to(torch.float64, copy=True), least[:, None, None]))[1]


def _added(a: Tensor, shift: Tensor) -> Tensor:
    """A + shift I, the diagonal rounded once."""
    shifted = a.clone()
    diagonal = shifted.diagonal(dim1=-2, dim2=-1)
    diagonal.copy_(diagonal.to(torch.float64) + shift[:, None])
    return shifted
