"""Principal powers T^(s/r) of complex upper triangular matrices, their Fréchet derivatives and condition numbers.

Columns from left to right: if U^p = T and U = [[U_1, u], [0, rho]] then sum_m rho^(p-1-m) U_1^m u = t, and that
polynomial is the product of (U_1 - rho w^k I), k = 1..p-1, over the roots of unity w^k other than 1. None of the
factors is singular, since all eigenvalues of U lie in the open sector of angle pi/p. So each column is p - 1 triangular
solves, and a root of order r is taken prime factor by prime factor. Smith's recurrence, in another order.

The derivative L(T, E) in the direction E is the upper right block of f([[T, E], [0, T]]); its adjoint is
L*(T, E) = L(T, E^H)^H, and the power method on L* L gives the norm of L and with it the condition number of f at T.
References: Smith, SIAM J. Matrix Anal. Appl. 24 (2003); Higham, Functions of Matrices (2008), chapters 3 and 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TriangularPower", "eigenvalue_condition", "norm"]

Array: TypeAlias = "NDArray[Any]"

_ROUNDS: Final = 2
_MARGIN: Final = 4.0
"""By which the difference of a power computed in two orders is multiplied to bound the error of either."""
_SEED: Final = 20240902


def norm(x: Array) -> float:
    """Frobenius norm."""
    return float(np.linalg.norm(x))


@dataclass(frozen=True, slots=True)
class TriangularPower:
    """U = T^(1/r) of one upper triangular T (n, n), and the powers U^s and U^-s."""

    t: Array
    u: Array
    r: int
    s: int

    @classmethod
    def of(cls, t: Array, r: int, s: int) -> TriangularPower:
        """The root of T with r and s in lowest terms; no eigenvalue on the closed negative axis."""
        common = math.gcd(r, s)
        r, s = r // common, s // common
        return cls(t, _root(t, r), r, s)

    def value(self, sign: int) -> Array:
        """U^s or U^-s."""
        return np.linalg.matrix_power(self.u if sign > 0 else _inverse(self.u), self.s)

    def condition(self, sign: int, value: Array) -> float:
        """||L|| ||T|| / ||f(T)||, the relative condition number in the Frobenius norm, mostly within a third."""
        rng = np.random.default_rng(_SEED)
        shape = self.t.shape
        direction = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(self.t.dtype)
        size = 0.0
        for _ in range(_ROUNDS):
            image = self._derivative(direction / norm(direction) * norm(self.t), sign)
            size = max(size, norm(image))
            direction = self._derivative(image.conj().T / norm(image) * norm(self.t), sign).conj().T
            size = max(size, norm(direction))
        return size / norm(value)

    def _derivative(self, direction: Array, sign: int) -> Array:
        """L(T, E) for the full matrix E."""
        n = len(self.t)
        zero = np.zeros_like(self.t)
        double = np.block([[self.t, direction], [zero, self.t]])
        known = np.block([[self.u, zero], [zero, self.u]])
        block = replace(self, t=double, u=_root(double, self.r, known, n))
        return block.value(sign)[:n, n:]

    def rounding(self, sign: int, value: Array) -> tuple[float, float]:
        """||U^r - T|| / ||T||, which T^(1/r) magnifies, and the relative rounding of the power taken afterwards."""
        missing = norm(np.linalg.matrix_power(self.u, self.r) - self.t) / norm(self.t)
        again = np.eye(len(self.u), dtype=self.u.dtype)
        for _ in range(self.s):
            again = again @ self.u if sign > 0 else solve_triangular(self.u, again.T, trans="T", check_finite=False).T
        step = float(np.finfo(self.u.dtype).eps)
        return missing, self.s * step + _MARGIN * norm(again - value) / norm(value)


def _inverse(u: Array) -> Array:
    return np.asarray(solve_triangular(u, np.eye(len(u), dtype=u.dtype), check_finite=False))


def _root(t: Array, r: int, known: Array | None = None, start: int = 0) -> Array:
    """T^(1/r), where the leading columns of the result may be known already."""
    factors = _prime_factors(r)
    if known is None:
        for p in factors:
            t = _prime_root(t, p, np.zeros_like(t), 1)
        return t
    # The intermediate roots' leading blocks are powers of the known one, exactly what the recurrence gave there.
    exponent = r
    for p in factors:
        exponent //= p
        leading = np.triu(np.linalg.matrix_power(known, exponent))
        t = _prime_root(t, p, leading, start)
    return t


def _prime_root(t: Array, p: int, known: Array, start: int) -> Array:
    """T^(1/p), columns before `start` taken from `known`."""
    u = np.asfortranarray(known)
    diagonal = np.arange(len(t))
    u[diagonal, diagonal] = t.diagonal() ** (1 / p)
    unity = np.exp(2j * np.pi * np.arange(1, p) / p).astype(t.dtype)
    for j in range(max(1, start), len(t)):
        column = t[:j, j]
        block = u[:j, :j].copy(order="F")
        inner = diagonal[:j]
        for w in unity:
            block[inner, inner] = u[inner, inner] - u[j, j] * w
            column = solve_triangular(block, column, check_finite=False)
        u[:j, j] = column
    return u


def _prime_factors(r: int) -> list[int]:
    factors, p = [], 2
    while r > 1:
        while r % p == 0:
            factors.append(p)
            r //= p
        p += 1
    return factors


def eigenvalue_condition(t: Array, i: int) -> float:
    """Condition number of the eigenvalue t_ii of upper triangular T, ||x|| ||y|| / |y^H x| of its eigenvectors."""
    value, floor = t[i, i], float(np.finfo(t.dtype).eps) * norm(t)
    right = _shifted_solve(t[:i, :i], value, t[:i, i], floor, "N")
    left = _shifted_solve(t[i + 1 :, i + 1 :], value, t[i, i + 1 :], floor, "T")
    return math.hypot(1, norm(right)) * math.hypot(1, norm(left))


def _shifted_solve(block: Array, value: complex, side: Array, floor: float, trans: str) -> Array:
    """(block - value I)^-1 side, a vanishing pivot replaced by `floor`."""
    if not len(block):
        return side
    shifted = block - value * np.eye(len(block), dtype=block.dtype)
    pivots = shifted.diagonal()
    np.fill_diagonal(shifted, np.where(np.abs(pivots) < floor, floor, pivots))
    return np.asarray(solve_triangular(shifted, side, trans=trans, check_finite=False))
