"""Principal powers T^(s/r) of complex upper triangular matrices, their Fréchet derivatives and condition numbers.

By halves: if U^p = T with the diagonal blocks U_1, U_2 then the corner X of U solves sum_m U_1^(p-1-m) X U_2^m = C
with the corner C of T, and that operator is the product of the commuting X -> U_1 X - w^k X U_2, k = 1..p-1, over the
roots of unity w^k other than 1. None of the factors is singular, since all eigenvalues of U lie in the open sector of
angle pi/p. So each corner is p - 1 Sylvester equations, and a root of order r is taken prime factor by prime factor.
That is Smith's recurrence in another order.

The derivative L(T, E) of the root is p - 1 such equations too, now of U with itself; that of a function f in general is
the upper right block of f([[T, E], [0, T]]). The adjoint is L*(T, E) = L(T, E^H)^H, and the power method on L* L gives
the norm of L and with it the condition number of f at T.
References: Smith, SIAM J. Matrix Anal. Appl. 24 (2003); Higham, Functions of Matrices (2008), chapters 3 and 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from scipy.linalg import lapack, solve_triangular

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TriangularPower", "corner", "eigenvalue_condition", "has_lost_pivots", "norm", "prime_root"]

Array: TypeAlias = "NDArray[Any]"

_ROUNDS: Final = 2
"""Rounds of the power method, of two derivatives each: the norm was at most 1.56 times below that of 15 rounds, in the
median 1.2 times (480 powers of general, triangular and graded matrices of orders 3, 10 and 30)."""
_MARGIN: Final = 4.0
"""By which the difference of a power computed in two orders is multiplied to bound the error of either: the two may
share a part of their errors."""
_SEED: Final = 20240902
"""Of the power method's first direction: any would do, and one for all gives the same matrix the same certificate."""
_LEAF: Final = 32
"""Largest block that LAPACK solves: above, most of the work is products. No certificate rests on it."""
_SOLVERS: Final = {"F": lapack.ctrsyl, "D": lapack.ztrsyl}


def norm(x: Array) -> float:
    """Frobenius norm."""
    return float(np.linalg.norm(x))


@dataclass(frozen=True, slots=True)
class TriangularPower:
    """Powers U^s and U^-s of U = T^(1/r) for an upper triangular T (n, n).

    Attributes:
        t: T.
        stages: (p, root) of each prime factor p of r, ending with U.
        r: the root.
        s: the power.
    """

    t: Array
    stages: tuple[tuple[int, Array], ...]
    r: int
    s: int

    @classmethod
    def of(cls, t: Array, r: int, s: int) -> TriangularPower:
        """The root of T with r and s in lowest terms; no eigenvalue on the closed negative axis."""
        common = math.gcd(r, s)
        stages, root = [], t
        for p in _prime_factors(r // common):
            root = prime_root(root, p)
            stages.append((p, root))
        return cls(t, tuple(stages), r // common, s // common)

    @property
    def u(self) -> Array:
        """U = T^(1/r)."""
        return self.stages[-1][1] if self.stages else self.t

    def value(self, sign: int) -> Array:
        """U^s or U^-s."""
        return np.linalg.matrix_power(self.u if sign > 0 else _inverse(self.u), self.s)

    def condition(self, sign: int, value: Array) -> float:
        """||L|| ||T|| / ||f(T)||, the relative condition number in the Frobenius norm, mostly within a third.

        Infinite where the arithmetic cannot solve the equations of L.
        """
        if any(has_lost_pivots(root, p) for p, root in self.stages):
            return math.inf
        rng = np.random.default_rng(_SEED)
        shape = self.t.shape
        direction = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(self.t.dtype)
        sizes = []
        for _ in range(_ROUNDS):
            image = self._derivative(direction / norm(direction) * norm(self.t), sign)
            direction = self._derivative(image.conj().T / norm(image) * norm(self.t), sign).conj().T
            sizes += [norm(image), norm(direction)]
        found = float(np.max(sizes)) / norm(value)
        return found if math.isfinite(found) else math.inf

    def _derivative(self, direction: Array, sign: int) -> Array:
        """L(T, E) for the full matrix E."""
        for p, root in self.stages:
            direction = corner(root, root, direction, p)
        base = self.u
        if sign < 0:
            base = _inverse(base)
            direction = -base @ direction @ base
        if self.s == 1:
            return direction
        n = len(base)
        double = np.block([[base, direction], [np.zeros_like(base), base]])
        return np.linalg.matrix_power(double, self.s)[:n, n:]

    def rounding(self, sign: int, value: Array) -> tuple[float, float]:
        """||U^r - T|| / ||T||, which T^(1/r) magnifies, and the relative rounding of the power taken afterwards."""
        missing = norm(np.linalg.matrix_power(self.u, self.r) - self.t) / norm(self.t)
        again = np.eye(len(self.u), dtype=self.u.dtype)
        for _ in range(self.s):
            again = again @ self.u if sign > 0 else solve_triangular(self.u, again.T, trans="T", check_finite=False).T
        step = float(np.finfo(self.u.dtype).eps)
        unsolved = self._unsolved(value) if sign < 0 else 0.0
        return missing, self.s * step + _MARGIN * norm(again - value) / norm(value) + unsolved

    def _unsolved(self, inverse: Array) -> float:
        """Relative error of U^-s that substitution is known not to leave; 0 within its law."""
        power = np.linalg.matrix_power(self.u, self.s)
        defect = power @ inverse - np.eye(len(power))
        law = _MARGIN * len(power) * float(np.finfo(self.u.dtype).eps) * norm(np.abs(power) @ np.abs(inverse))
        return 0.0 if norm(defect) <= self.s * law else norm(inverse @ defect) / norm(inverse)


def _inverse(u: Array) -> Array:
    return np.asarray(solve_triangular(u, np.eye(len(u), dtype=u.dtype), check_finite=False))


def prime_root(t: Array, p: int) -> Array:
    """T^(1/p) of upper triangular T (n, n)."""
    if len(t) == 1:
        return np.asarray(t ** (1 / p))
    half = len(t) // 2
    u = np.zeros_like(t)
    u[:half, :half] = prime_root(t[:half, :half], p)
    u[half:, half:] = prime_root(t[half:, half:], p)
    u[:half, half:] = corner(u[:half, :half], u[half:, half:], t[:half, half:], p)
    return u


def corner(first: Array, last: Array, corner: Array, p: int) -> Array:
    """X with sum_m first^(p-1-m) X last^m = corner."""
    for w in np.exp(2j * np.pi * np.arange(1, p) / p).astype(first.dtype):
        corner = _sylvester(first, -w * last, corner)
    return corner


def has_lost_pivots(root: Array, p: int) -> bool:
    """Whether LAPACK replaces a pivot of the equations for the derivative of the p-th root, being below rounding."""
    values, floor = root.diagonal(), np.finfo(root.dtype).eps * np.abs(root).max()
    unity = np.exp(2j * np.pi * np.arange(1, p) / p)
    return any(bool((np.abs(values[:, None] - w * values) <= floor).any()) for w in unity)


def _sylvester(a: Array, b: Array, c: Array) -> Array:
    """X with A X + X B = C for upper triangular A and B, by halves down to blocks that LAPACK solves."""
    rows, columns = c.shape
    if max(rows, columns) <= _LEAF:
        x, scale, _ = _SOLVERS[c.dtype.char](a, b, c)
        return np.asarray(x / scale)
    if rows >= columns:
        half = rows // 2
        last = _sylvester(a[half:, half:], b, c[half:])
        return np.concatenate([_sylvester(a[:half, :half], b, c[:half] - a[:half, half:] @ last), last])
    half = columns // 2
    first = _sylvester(a, b[:half, :half], c[:, :half])
    return np.hstack([first, _sylvester(a, b[half:, half:], c[:, half:] - first @ b[:half, half:])])


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
