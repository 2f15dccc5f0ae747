"""Logarithms of matrices I + Y and exponentials of matrices X near zero, less I, and their derivatives.

log(I + Y) = int_0^1 Y (I + x Y)^-1 dx by the nodes of Gauss-Legendre, a Pade approximant; e^X - I by Taylor's series.
The exponential's derivative along E, int_0^1 e^((1 - x) X) E e^(x X) dx, is taken by Simpson's rule.
References: Dieci, Morini and Papini, SIAM J. Matrix Anal. Appl. 17 (1996); Al-Mohy and Higham, SIAM J. Sci. Comput. 34
(2012).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["NODES", "PAIR", "TERMS", "expm1", "expm1_derivative", "log1p", "log1p_derivative", "resolvents"]

_TAU, _WEIGHTS = np.polynomial.legendre.leggauss(8)
NODES: Final = tuple(zip(((1 + _TAU) / 2).tolist(), (_WEIGHTS / 2).tolist(), strict=True))
"""Eight: for scalars within a quarter of 1 the sum is exact to 1e-18, and so for matrices whose powers are that small
(Kenney and Laub, Int. J. Control 50, 1989)."""
PAIR: Final = (0.5 - math.sqrt(1 / 12), 0.5 + math.sqrt(1 / 12))
"""Two nodes for derivatives, of which three digits are enough."""
TERMS: Final = 13
"""Of the exponential: 0.3^14 / 14! is 1e-18."""


def log1p(y: Array) -> Array:
    """Log(I + Y) of upper triangular Y (n, n) near zero."""
    identity = np.eye(len(y), dtype=y.dtype)
    found = np.zeros_like(y)
    for x, w in NODES:
        found += w * _solved(identity + x * y, y)
    return found


def resolvents(y: Array) -> tuple[Array, ...]:
    """(I + x Y)^-1 at the nodes of `log1p_derivative`."""
    identity = np.eye(len(y), dtype=y.dtype)
    return tuple(_solved(identity + x * y, identity) for x in PAIR)


def log1p_derivative(inverses: tuple[Array, ...], direction: Array) -> Array:
    """The derivative of the logarithm at I + Y along any matrix, given the resolvents of Y, to 1e-3."""
    return np.asarray(sum(inverse @ direction @ inverse for inverse in inverses) / len(inverses))


def expm1(x: Array) -> Array:
    """E^X - I of X (n, n) near zero."""
    found = x / TERMS
    for k in range(TERMS - 1, 0, -1):
        found = (x + x @ found) / k
    return found


def expm1_derivative(x: Array, direction: Array) -> Array:
    """The derivative of the exponential at X along any matrix, to 1e-4."""
    identity = np.eye(len(x), dtype=x.dtype)
    half = identity + x / 2 + x @ x / 8
    whole = half @ half
    return (whole @ direction + direction @ whole + 4 * half @ direction @ half) / 6


def _solved(t: Array, b: Array) -> Array:
    """T^-1 B of well-conditioned upper triangular T."""
    return np.asarray(solve_triangular(t, b, check_finite=False))
