"""Bounds of eigenvalues and eigenvectors of Hermitian matrices: the three errors of eigh.

For claimed w and V, R = A V - V diag(w) and D = V^T V - I are products' residuals, and bound two errors as they are.
With ||D||_2 < 1 the values, ascending, satisfy |w_i - lambda_i| <= ||R||_2 / (1 - ||D||_2)^(1/2), and ||R||_2^2 is at
most any norm of R^T R. What separates eigenvalues counts for single vectors only, which are not bounded.
References: Kahan, Inclusion theorems (1967); Cao, Xie and Li, Linear Algebra Appl. 239 (1996).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.proofs.balls import difference, minus_identity, product, source, up
from matfn_kernels.proofs.proof import Proof, complement, least_norm, out_of_range, peak_exponent, read, symmetric

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["prove_eigenpairs"]

_FAR: Final = "the residual is too large for a proof"
_UNORDERED: Final = "the claimed eigenvalues are not real, or not in ascending order"


def prove_eigenpairs(a: Tensor, w: Tensor, v: Tensor) -> tuple[Proof, Proof, Proof]:
    """Bounds the residual, the orthogonality and the values of eigenpairs of the symmetric part of A (batch, n, n).

    They are relative to ||A||_F, to n^(1/2) and to ||A||_2. Domain: every A but 0.

    Args:
        a: A.
        w: claimed eigenvalues (batch, n).
        v: claimed eigenvectors (batch, n, n).
    """
    doubled, by = v.dtype in {torch.float64, torch.complex128}, source(len(v))
    values, doubts = _real(w, copies=2 if v.is_complex() else 1)
    a, v = read(a), read(v)
    exponent = peak_exponent(a)
    scaled = torch.where(doubts[:, None], 0.0, invariant.ldexp(values, -exponent[:, None]))
    matrix, basis = symmetric(a, None, exponent, by, doubled=doubled), by.given(v, doubled=doubled)
    diagonal = by.diagonal(scaled, scaled.shape[-1], doubled=doubled)
    missing = difference(product(matrix, basis), product(basis, diagonal)).rounded()
    defect = minus_identity(product(basis.mT, basis, symmetric=True)).rounded()
    square = product(missing.mT, missing, symmetric=True)
    ranges = out_of_range(matrix, basis)
    length = torch.full_like(exponent, scaled.shape[-1], dtype=torch.float64).sqrt() * (1 - 2.0**-50)
    largest = torch.minimum(missing.spectral, up(square.spectral.sqrt()))
    apart = up(largest / complement(defect.spectral).sqrt())
    bounds = missing.frobenius, defect.frobenius, apart
    sizes = least_norm(matrix), length, scaled.abs().amax(-1)
    masks = {_UNORDERED: doubts, **ranges}
    residual, skew, moved = (
        Proof(bound, size, {**masks, _FAR: ~torch.isfinite(bound)}) for bound, size in zip(bounds, sizes, strict=True)
    )
    return residual, skew, moved


def _real(w: Tensor, copies: int) -> tuple[Tensor, Tensor]:
    """The values in float64, so many times over, and where they are not real and ascending, (batch,)."""
    imaginary = w.imag if w.is_complex() else torch.zeros_like(w)
    real = (w.real if w.is_complex() else w).to(torch.float64)
    doubts = ~((imaginary == 0).all(-1) & (real[:, 1:] >= real[:, :-1]).all(-1) & torch.isfinite(real).all(-1))
    return torch.cat([real] * copies, -1), doubts
