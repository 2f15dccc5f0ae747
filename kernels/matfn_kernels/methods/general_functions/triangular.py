"""Principal logarithms and real powers of complex upper triangular matrices, with their errors and condition numbers.

By inverse scaling and squaring: square roots up to near the identity (`root_chain`), the function there
(`near_identity`), and the way back, a power of two for the logarithm and squarings for the power. A power is
T^p = T^i T^f with a whole number i and f of the same sign, |f| < 1.

Error: what the roots lose is carried through the derivative to first order; what the rest loses is the difference from
the value by one root more.
References: Al-Mohy and Higham, SIAM J. Sci. Comput. 34 (2012); Higham and Lin, SIAM J. Matrix Anal. Appl. 34 (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from scipy.linalg import solve_triangular

from matfn_kernels.methods.general_functions.near_identity import (
    expm1,
    expm1_derivative,
    log1p,
    log1p_derivative,
    resolvents,
)
from matfn_kernels.methods.general_functions.root_chain import RootChain
from matfn_kernels.methods.general_functions.superdiagonal import with_exact_diagonals
from matfn_kernels.methods.roots.triangular_power import norm
from matfn_kernels.numbers.arrays import EPS, gaussian

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["MARGIN", "TriangularFunction"]

_DERIVATIVES: Final = 3
"""Derivatives of the power method, the second an adjoint."""
MARGIN: Final = 4.0
"""How often the two parts of the error count: both are of first order, found with rounding, and may share a part."""


@dataclass(frozen=True, slots=True)
class _Levels:
    """Log T, or T^f, from near the identity back.

    Attributes:
        exponent: f, or None for the logarithm.
        chain: the roots of T.
        log: of U_k, times f.
        values: U_k^f - I, U_(k-1)^f - I, ..., T^f - I; none for the logarithm.
        inverses: resolvents of U_k, for derivatives.
    """

    exponent: float | None
    chain: RootChain
    log: Array
    values: tuple[Array, ...]
    inverses: tuple[Array, ...]

    @classmethod
    def of(cls, exponent: float | None, chain: RootChain) -> Self:
        """The values of a chain."""
        log = log1p(chain.y)
        if exponent is None:
            return cls(None, chain, _exact(log, None, chain, chain.count), (), resolvents(chain.y))
        log *= exponent
        values = [_exact(expm1(log), exponent, chain, chain.count)]
        for count in reversed(range(chain.count)):
            values.append(_exact(2 * values[-1] + values[-1] @ values[-1], exponent, chain, count))
        return cls(exponent, chain, log, tuple(values), resolvents(chain.y))

    @property
    def value(self) -> Array:
        """F(T)."""
        return self.values[-1] + np.eye(len(self.log)) if self.values else self._scale * self.log

    @property
    def _scale(self) -> float:
        """2^k."""
        return float(np.ldexp(1.0, self.chain.count))

    def from_root(self, direction: Array, *, above: int | None = None) -> Array:
        """The derivative along a direction at U_k; `above` keeps the diagonals from there on at each level."""
        moved = _upper(log1p_derivative(self.inverses, direction), above)
        if self.exponent is None:
            return self._scale * moved
        moved = expm1_derivative(self.log, self.exponent * moved)
        for value in self.values[:-1]:
            moved = _upper(moved, above)
            moved = 2 * moved + value @ moved + moved @ value
        return _upper(moved, above)

    def further(self) -> _Levels:
        """The levels by one root more."""
        return _Levels.of(self.exponent, self.chain.further())


def _upper(x: Array, above: int | None) -> Array:
    return x if above is None else np.triu(x, above)


def _exact(f: Array, exponent: float | None, chain: RootChain, count: int) -> Array:
    """F of U_count, for a power less I, with exact entries on and next to the diagonal."""
    u = chain.roots[count - 1] if count else chain.t
    return with_exact_diagonals(f, u, np.ldexp(1.0, -count) * chain.logs, exponent)


@dataclass(frozen=True, slots=True)
class TriangularFunction:
    """Log T, or T^p = T^i T^f.

    Attributes:
        levels: of the logarithm, or of T^f.
        whole: i.
        base: T, or T^-1 where i is negative.
        value: the function (n, n).
    """

    levels: _Levels
    whole: int
    base: Array
    value: Array

    @classmethod
    def of(cls, t: Array, p: float | None) -> Self:
        """The logarithm (p None), or the power with p no whole number; no eigenvalue on the closed negative axis."""
        whole = 0 if p is None else int(p)
        levels = _Levels.of(None if p is None else p - whole, RootChain.of(t))
        base = t if whole >= 0 else _solved(t, np.eye(len(t), dtype=t.dtype))
        power = np.linalg.matrix_power(base, abs(whole))
        return cls(levels, whole, base, power @ levels.value if whole else levels.value)

    @property
    def steps(self) -> int:
        """Square roots."""
        return self.levels.chain.count

    def derivative(self, direction: Array) -> Array:
        """L(T, E) for the full matrix E."""
        return self._with_whole(self.levels.from_root(self.levels.chain.moved(direction)), direction)

    def _with_whole(self, moved: Array, direction: Array | None) -> Array:
        """The derivative of T^i T^f, given that of T^f; direction None where T^i stays."""
        count, base = abs(self.whole), self.base
        if not count:
            return moved
        found = np.linalg.matrix_power(base, count) @ moved
        if direction is None:
            return found
        inner = direction if self.whole > 0 else -base @ direction @ base
        n = len(base)
        double = np.block([[base, inner], [np.zeros_like(base), base]])
        return np.asarray(found + np.linalg.matrix_power(double, count)[:n, n:] @ self.levels.value)

    def condition(self) -> float:
        """||L|| ||T|| / ||f(T)|| in the Frobenius norm, from below, mostly within a third.

        Infinite where the arithmetic cannot solve the equations of L.
        """
        t = self.levels.chain.t
        if self.levels.chain.is_lost:
            return math.inf
        random = gaussian((2 * len(t), len(t)))
        direction, sizes = random[: len(t)] + 1j * random[len(t) :], []
        for _ in range(_DERIVATIVES):
            image = self.derivative(direction / norm(direction))
            sizes.append(norm(image))
            direction = image.conj().T
        found = float(np.max(sizes)) * norm(t) / norm(self.value)
        return found if math.isfinite(found) else math.inf

    def error(self) -> float:
        """Relative error of the value, the matrix T being exact."""
        lost = self._with_whole(self.levels.from_root(self.levels.chain.error(), above=2), None)
        other = self._again()
        return MARGIN * (norm(lost) + norm(other - self.value)) / norm(self.value) + EPS

    def _again(self) -> Array:
        """The value by one root more, and by whole powers taken in another order."""
        value, count = self.levels.further().value, abs(self.whole)
        if not count:
            return value
        part = np.linalg.matrix_power(self.base, count // 3)
        rest = np.linalg.matrix_power(self.base, count - count // 3 - 1)
        if self.whole > 0:
            return np.asarray(self.base @ (rest @ (part @ value)))
        return _solved(self.levels.chain.t, rest @ (part @ value))


def _solved(t: Array, b: Array) -> Array:
    """T^-1 B."""
    return np.asarray(solve_triangular(t, b, check_finite=False))
