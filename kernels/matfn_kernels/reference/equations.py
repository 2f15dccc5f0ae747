"""Solutions of matrix equations, by scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from matfn_kernels.reference.arrays import adjoint, each, wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from matfn_kernels.reference.arrays import Array

__all__ = ["solve_care", "solve_dare", "solve_discrete_lyapunov", "solve_lyapunov", "solve_sylvester"]


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


def solve_care(  # noqa: PLR0913 - the function's own arguments
    a: Array,
    b: Array,
    q: Array,
    r: Array,
    e: Array | None = None,
    s: Array | None = None,
    *,
    gain: bool = False,
) -> Array | tuple[Array, Array]:
    """The stabilising X of A^H X E + E^H X A - (E^H X B + S) R^-1 (B^H X E + S^H) + Q = 0.

    For a, q and e (batch, n, n), b and s (batch, n, m), r (batch, m, m). With a gain K = R^-1 (B^H X E + S^H) too.
    """
    x = _riccati(scipy.linalg.solve_continuous_are, a, b, q, r, e, s)
    if not gain:
        return x
    held = adjoint(wide(b)) @ x @ (np.eye(a.shape[-1]) if e is None else wide(e))
    return x, np.linalg.solve(_hermitian(r), held if s is None else held + adjoint(wide(s)))


def solve_dare(  # noqa: PLR0913 - the function's own arguments
    a: Array,
    b: Array,
    q: Array,
    r: Array,
    e: Array | None = None,
    s: Array | None = None,
    *,
    gain: bool = False,
) -> Array | tuple[Array, Array]:
    """The stabilising X of A^H X A - E^H X E - (A^H X B + S) (R + B^H X B)^-1 (B^H X A + S^H) + Q = 0.

    For matrices as those of `solve_care`. With a gain K = (R + B^H X B)^-1 (B^H X A + S^H) too.
    """
    x = _riccati(scipy.linalg.solve_discrete_are, a, b, q, r, e, s)
    if not gain:
        return x
    pressed = adjoint(wide(b)) @ x
    held = pressed @ wide(a)
    return x, np.linalg.solve(_hermitian(r) + pressed @ wide(b), held if s is None else held + adjoint(wide(s)))


def _hermitian(x: Array) -> Array:
    return np.asarray((wide(x) + adjoint(wide(x))) / 2)


def _riccati(solve: Callable[..., Array], *matrices: Array | None) -> Array:
    a, b, q, r, e, s = matrices
    assert a is not None
    assert b is not None
    assert q is not None
    assert r is not None
    e = np.broadcast_to(np.eye(a.shape[-1]), a.shape) if e is None else e
    s = np.zeros_like(b) if s is None else s
    weights = map(_hermitian, (q, r))
    signature = "(n,n),(n,m),(n,n),(m,m),(n,n),(n,m)->(n,n)"
    return each(signature, solve, wide(a), wide(b), *weights, wide(e), wide(s))
