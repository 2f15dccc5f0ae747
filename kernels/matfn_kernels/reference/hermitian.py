"""Functions of symmetric (Hermitian) matrices and of pairs of them, by numpy's eigh and svd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matfn_kernels.reference.arrays import adjoint, through_eigenvalues, wide
from matfn_kernels.reference.roots import power

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["eig_clip", "frechet_distance", "geometric_mean"]


def eig_clip(a: Array, *, lo: float | None, hi: float | None) -> Array:
    """V clip(w, lo, hi) V^H for a (batch, n, n); None is open."""
    least, most = -np.inf if lo is None else lo, np.inf if hi is None else hi
    return through_eigenvalues(a, lambda w: np.clip(w, least, most))


def geometric_mean(a: Array, b: Array) -> Array:
    """A^(1/2) (A^(-1/2) B A^(-1/2))^(1/2) A^(1/2) for a and b (batch, n, n)."""
    half, inverse = power(a, 0.5), power(a, -0.5)
    return half @ power(inverse @ wide(b) @ inverse, 0.5) @ half


def frechet_distance(mu1: Array, s1: Array, mu2: Array, s2: Array) -> Array:
    """|mu1 - mu2|^2 + tr S1 + tr S2 - 2 ||S1^(1/2) S2^(1/2)||_* for mu1, mu2 (batch, n), s1, s2 (batch, n, n)."""
    means = (np.abs(wide(mu1) - wide(mu2)) ** 2).sum(-1)
    traces = (np.trace(wide(s), axis1=-2, axis2=-1).real for s in (s1, s2))
    nuclear = np.linalg.svd(adjoint(power(s1, 0.5)) @ power(s2, 0.5), compute_uv=False).sum(-1)
    distance: Array = np.maximum(means + sum(traces) - 2 * nuclear, 0)
    return distance
