"""First-order correction of a function of a matrix that was diagonalised in single precision.

With A V - V diag(w) in float64, E = V^H (A V - V diag(w)) is what eigh left over, and to first order

    f(A) = V (diag(f(w)) + D) V^H,    D_ij = f[i, j] E_ij

with the divided differences of f (Daleckii and Krein). For powers below 1 the smallest eigenvalues carry nearly all of
the error: D is formed in the rows and columns of some of them, at a fraction of a product. The error that remains in
these rows is of second order: E over the eigenvalue, times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.products import symmetrise

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Eigen

__all__ = ["Middle", "corrected", "defect", "remaining"]

_SECOND_ORDER: Final = 4.0
"""Estimate of the second order in units of the square of E over the eigenvalue; measured values are below 1."""


@dataclass(frozen=True, slots=True)
class Middle:
    """M = diag(f) + D P^H + P D^H, P the first k columns of the identity, D (batch, n, k)."""

    f: Tensor
    d: Tensor | None

    def times(self, y: Tensor) -> Tensor:
        """M Y for Y (batch, n, columns)."""
        out = self.f.to(y.real.dtype)[:, :, None] * y
        if self.d is not None:
            d = self.d.to(y.dtype)
            k = d.shape[-1]
            out[:, :k] += invariant.product(d.mH, y)
            out += invariant.product(d, y[:, :k])
        return out

    def before(self, x: Tensor) -> Tensor:
        """X M for X (batch, m, n), in the precision of X."""
        out = x * self.f.to(x.real.dtype)[:, None, :]
        if self.d is not None:
            d = self.d.to(x.dtype)
            k = d.shape[-1]
            out[:, :, :k] += probes.times(x, d)
            out += invariant.product(x[:, :, :k], d.mH)
        return out


def defect(eigen: Eigen, wide: Tensor, count: int) -> Tensor:
    """E (batch, n, count) for as many of the smallest eigenvalues, A given in float64."""
    v = eigen.v[..., :count].to(wide.dtype)
    missing = probes.times(wide, v) - v * eigen.w[:, None, :count].to(v.real.dtype)
    return probes.times(eigen.v.mH, missing.to(eigen.v.dtype))


def corrected(spectrum: Tensor, f: Tensor, slope: Tensor, e: Tensor) -> Middle:
    """M of a function with values f and derivatives `slope` on the ascending spectrum (batch, n)."""
    k = e.shape[-1]
    gap = spectrum[:, :, None] - spectrum[:, None, :k]
    equal = gap == 0
    divided = (f[:, :, None] - f[:, None, :k]).div_(gap.masked_fill_(equal, 1.0))
    d = torch.where(equal, slope[:, None, :k], divided).to(e.real.dtype) * e
    d[:, :k] = symmetrise(d[:, :k]).mul_(0.5)
    return Middle(f, d)


def remaining(spectrum: Tensor, noise: Tensor, count: int) -> Tensor:
    """Norms of E's rows (batch, n) after the correction of `count` of them."""
    ratio = (noise / spectrum).amax(-1, keepdim=True)
    left = noise.clone()
    left[:, :count] *= (_SECOND_ORDER * ratio).clamp_max(1.0)
    return left
