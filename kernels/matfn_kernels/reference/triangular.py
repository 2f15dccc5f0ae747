"""Inverses and solutions of triangular matrices, dense or with a low-rank part, by substitution in all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from matfn_kernels.reference.arrays import each, wide

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["dplr_matrix", "dplr_solve", "tri_solve", "triangle"]


def triangle(t: Array, *, lower: bool, unit: bool) -> Array:
    """The triangle of t (batch, n, n) that is read, in double precision, zero elsewhere."""
    part = np.tril(wide(t)) if lower else np.triu(wide(t))
    if unit:
        part[..., np.arange(t.shape[-1]), np.arange(t.shape[-1])] = 1
    return part


def dplr_matrix(diag: Array, q: Array, k: Array) -> Array:
    """diag(l) + tril(Q K^T, -1) for diag (batch, n), q and k (batch, n, d)."""
    full = np.tril(wide(q) @ np.swapaxes(wide(k), -1, -2), -1)
    full = full.astype(np.result_type(full, wide(diag)))
    full[..., np.arange(diag.shape[-1]), np.arange(diag.shape[-1])] = diag
    return full


def tri_solve(t: Array, b: Array | None = None, *, lower: bool, unit_diagonal: bool, transpose: bool = False) -> Array:
    """T^-1 B or T^-T B for the triangle of t (batch, n, n), b (batch, n, m); the inverse without b."""
    return _solution(triangle(t, lower=lower, unit=unit_diagonal), b, lower=lower, transpose=transpose)


def dplr_solve(diag: Array, q: Array, k: Array, b: Array | None = None, *, transpose: bool = False) -> Array:
    """T^-1 B or T^-T B for T of `dplr_matrix`, b (batch, n, m); the inverse without b."""
    return _solution(dplr_matrix(diag, q, k), b, lower=True, transpose=transpose)


def _solution(matrix: Array, b: Array | None, *, lower: bool, transpose: bool) -> Array:
    def of_one(matrix: Array, b: Array) -> Array:
        x: Array = scipy.linalg.solve_triangular(matrix, b, trans=int(transpose), lower=lower)
        return x

    right = np.eye(matrix.shape[-1]) if b is None else wide(b)
    return each("(n,n),(n,m)->(n,m)", of_one, matrix, right)
