"""Solutions of matrix equations, by scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from matfn_kernels.reference.arrays import adjoint, each, wide

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["solve_care", "solve_discrete_lyapunov", "solve_lyapunov", "solve_sylvester"]


def solve_sylvester(a: Array, b: Array, q: Array) -> Array:
    """X of A X + X B = Q for a (batch, m, m), b (batch, n, n), q (batch, m, n)."""
    return each("(m,m),(n,n),(m,n)->(m,n)", scipy.linalg.solve_sylvester, wide(a), wide(b), wide(q))


def solve_lyapunov(a: Array, q: Array, e: Array | None = None) -> Array:
    """X of A X + X A^H = Q, or A X E^H + E X A^H = Q, for a, q and e (batch, n, n)."""
    if e is None:
        return solve_sylvester(a, adjoint(a), q)
    inverse = np.linalg.inv(wide(e))
    return solve_lyapunov(inverse @ wide(a), inverse @ wide(q) @ adjoint(inverse))


def solve_discrete_lyapunov(a: Array, q: Array, e: Array | None = None) -> Array:
    """X of A X A^H - X + Q = 0, or A X A^H - E X E^H + Q = 0, for a, q and e (batch, n, n)."""
    if e is None:
        return each("(n,n),(n,n)->(n,n)", scipy.linalg.solve_discrete_lyapunov, wide(a), wide(q))
    inverse = np.linalg.inv(wide(e))
    return solve_discrete_lyapunov(inverse @ wide(a), inverse @ wide(q) @ adjoint(inverse))


def solve_care(a: Array, b: Array, q: Array, r: Array) -> Array:
    """The stabilising X of A^T X + X A - X B R^-1 B^T X + Q = 0 for a, q (batch, n, n), b (batch, n, m), r (m, m)."""
    weights = ((wide(x) + np.swapaxes(wide(x), -1, -2)) / 2 for x in (q, r))
    signature = "(n,n),(n,m),(n,n),(m,m)->(n,n)"
    return each(signature, scipy.linalg.solve_continuous_are, wide(a), wide(b), *weights)
