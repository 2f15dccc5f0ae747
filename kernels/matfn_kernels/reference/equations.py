"""Solutions of matrix equations, by scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from matfn_kernels.reference.arrays import each, wide

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["solve_care", "solve_lyapunov", "solve_sylvester"]


def solve_sylvester(a: Array, b: Array, q: Array) -> Array:
    """X of A X + X B = Q for a (batch, m, m), b (batch, n, n), q (batch, m, n)."""
    return each("(m,m),(n,n),(m,n)->(m,n)", scipy.linalg.solve_sylvester, wide(a), wide(b), wide(q))


def solve_lyapunov(a: Array, q: Array) -> Array:
    """X of A X + X A^T = Q for a and q (batch, n, n)."""
    return solve_sylvester(a, np.swapaxes(a, -1, -2), q)


def solve_care(a: Array, b: Array, q: Array, r: Array) -> Array:
    """The stabilising X of A^T X + X A - X B R^-1 B^T X + Q = 0 for a, q (batch, n, n), b (batch, n, m), r (m, m)."""
    weights = ((wide(x) + np.swapaxes(wide(x), -1, -2)) / 2 for x in (q, r))
    signature = "(n,n),(n,m),(n,n),(m,m)->(n,n)"
    return each(signature, scipy.linalg.solve_continuous_are, wide(a), wide(b), *weights)
