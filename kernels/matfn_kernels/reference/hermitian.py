"""Functions of symmetric (Hermitian) matrices and of pairs of them, by numpy's eigh and svd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matfn_kernels.reference.arrays import adjoint, through_eigenvalues, wide
from matfn_kernels.reference.roots import power

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["eig_clip", "eigenbasis", "eigh", "frechet_distance", "geometric_mean"]


def eig_clip(a: Array, *, lo: float | None, hi: float | None) -> Array:
    """V clip(w, lo, hi) V^H for a (batch, n, n); None is open."""
    least, most = -np.inf if lo is None else lo, np.inf if hi is None else hi
    return through_eigenvalues(a, lambda w: np.clip(w, least, most))


def eigh(a: Array) -> tuple[Array, Array]:
    """(w, V) of a (batch, n, n), w ascending, the entry of V's columns of largest modulus real and positive."""
    full = wide(a)
    w, v = np.linalg.eigh((full + adjoint(full)) / 2)
    rows = np.abs(v).argmax(-2, keepdims=True)
    largest = np.take_along_axis(v, rows, -2)
    return w, v * np.conj(largest) / np.abs(largest)


def eigenbasis(a: Array, q: Array, *, order: str, tol_drift: float) -> tuple[Array, Array, Array, Array]:
    """(Q, w, drift, permutation) for a and q (batch, n, n), whose eigenvalues are all simple."""
    full, before = wide(a), wide(q)
    full = (full + adjoint(full)) / 2
    found = [
        _matched(one, basis, order, tol_drift)
        for one, basis in zip(*(x.reshape(-1, *x.shape[-2:]) for x in (full, before)), strict=True)
    ]
    shapes = full.shape, full.shape[:-1], full.shape[:-2], full.shape[:-1]
    columns = (np.stack(column) for column in zip(*found, strict=True))
    q_new, w, drift, places = (x.reshape(shape) for x, shape in zip(columns, shapes, strict=True))
    return q_new, w, drift, places


def _matched(a: Array, q: Array, order: str, tol_drift: float) -> tuple[Array, Array, Array, Array]:
    """`eigenbasis` of one matrix."""
    from scipy.optimize import linear_sum_assignment  # imported on use: a quarter of a second of each process's start

    n, state, size = len(a), adjoint(q) @ a @ q, np.linalg.norm(a)
    drift = np.asarray(np.linalg.norm(state - np.diag(np.diag(state))) / (size or 1.0))
    if drift <= tol_drift:
        return q, np.diag(state).real, drift, np.arange(n)
    w, v = np.linalg.eigh(a)
    overlaps = adjoint(v) @ q
    _, columns = linear_sum_assignment(np.abs(overlaps) ** 2, maximize=True)
    products = overlaps[np.arange(n), columns]
    v = v * products / np.abs(products)
    places = {"previous": np.argsort(columns), "ascending": np.arange(n), "descending": np.arange(n)[::-1]}[order]
    return v[:, places], w[places], drift, columns[places]


def geometric_mean(a: Array, b: Array, *, t: float) -> Array:
    """A^(1/2) (A^(-1/2) B A^(-1/2))^t A^(1/2) for a and b (batch, n, n)."""
    half, inverse = power(a, 0.5), power(a, -0.5)
    return half @ power(inverse @ wide(b) @ inverse, t) @ half


def frechet_distance(mu1: Array, s1: Array, mu2: Array, s2: Array) -> Array:
    """|mu1 - mu2|^2 + tr S1 + tr S2 - 2 ||S1^(1/2) S2^(1/2)||_* for mu1, mu2 (batch, n), s1, s2 (batch, n, n)."""
    means = (np.abs(wide(mu1) - wide(mu2)) ** 2).sum(-1)
    traces = (np.trace(wide(s), axis1=-2, axis2=-1).real for s in (s1, s2))
    nuclear = np.linalg.svd(adjoint(power(s1, 0.5)) @ power(s2, 0.5), compute_uv=False).sum(-1)
    distance: Array = np.maximum(means + sum(traces) - 2 * nuclear, 0)
    return distance
