"""The gain K = W^-1 H of a Riccati equation's solution X, with its error and its condition.

K is computed from X in extended precision. With P = W^-1 B^H and L the closed loop, or E in continuous time, an error D
of X changes it by P D L to first order, whose norm is at most ||P||_2 ||D|| ||L||_2, and beyond by a factor of at most
1 / (1 - ||P||_2 ||D|| ||B||_2). The rounding of H and W is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from matfn_kernels.methods.equations.riccati_terms import fraction, quotient
from matfn_kernels.numbers.arrays import EPS, adjoint, growth, norm, shifted, solved
from matfn_kernels.numbers.extended_product import CANCELLING, EXTENDED, narrow

if TYPE_CHECKING:
    from matfn_kernels.methods.equations.newton_kleinman import Solution
    from matfn_kernels.methods.equations.riccati_terms import Riccati
    from matfn_kernels.numbers.arrays import Array

__all__ = ["Gain", "gain_of"]

_LEAST: Final = 1e-140
"""Norms of K and X above it have squares that do not underflow; the error of smaller ones is not known."""
_ROUNDED: Final = 4.0
"""Roundings in extended precision of H, of W, of the residual of K and of K itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Gain:
    """K with what its error depends on.

    Attributes:
        k: K.
        error: estimated relative error; infinite where K may have no digit.
        solution: X in its own coordinates.
        scale: of the caller's X beside that in coordinates without an exponent.
        left: P.
        right: L.
        size: of K in the coordinates of P.
        direct: change of K with W and H themselves, relative to their own relative change and to ||K||.
    """

    k: Array
    error: float
    solution: Solution
    scale: float
    left: Array
    right: Array
    size: float
    direct: float

    def condition(self, sizes: float) -> float:
        """The condition of K, through X, whose equation changes by `sizes`, and through W and H."""
        if self.size == 0:
            return 1.0

        def apply(q: Array) -> Array:
            return np.asarray(self.left @ self.solution.correction(q) @ self.right)

        def adjoined(k: Array) -> Array:
            return self.solution.correction_adjoint(adjoint(self.left) @ k @ adjoint(self.right))

        carried = growth(apply, adjoined, self.solution.x.shape)
        return carried * self.scale * sizes / self.size + self.direct


def gain_of(sent: Riccati, found: Solution, x: Array, error: float) -> Gain:
    """K of an equation in the caller's coordinates, for its X with a relative error."""
    equation, x, unit = _evened(sent, x)
    weight, held = equation.parts(x)
    k, w = narrow(quotient(weight, held)[0]), narrow(weight)
    left, right = solved(w, adjoint(equation.b)), equation.carried(equation.a - equation.b @ k)
    size, inverse = norm(k), _two_norm(np.linalg.inv(w))
    pressed, weighed = equation.part_sizes(x)
    moved = error * norm(x) * _two_norm(left)
    bent = moved * _two_norm(equation.b)
    direct = inverse * (norm(narrow(held)) + norm(w) * size)
    change = moved * _two_norm(right) / (1 - bent) if bent < 1 else math.inf
    change += _ROUNDED * (EXTENDED * direct + CANCELLING * inverse * (pressed + weighed * size))
    change += (EPS * inverse * norm(w)) ** 2 * size  # refinement of the quotient leaves the third power
    if any(y.any() and not norm(y) > _LEAST for y in (k, x)):
        change = math.inf
    own = norm(found.equation.weighed(found.x))
    scale = norm(x) / own if own else 0.0
    return Gain(
        shifted(k, -unit), _relative(change, size) + EPS, found, scale, left, right, size, _relative(direct, size)
    )


def _evened(equation: Riccati, x: Array) -> tuple[Riccati, Array, int]:
    """The equation and X in units of the input and of cost that make B, and the larger of R and X, near 1.

    The third is the exponent of the unit of the input: K there is 2^unit times the caller's.
    """
    unit = fraction(equation.b)[0] if equation.b.any() else 0
    cost = max(fraction(equation.r)[0] - 2 * unit, fraction(x)[0])
    r, s = shifted(equation.r, -2 * unit - cost), equation.s
    s = None if s is None else shifted(s, -unit - cost)
    return replace(equation, b=shifted(equation.b, -unit), r=r, s=s), shifted(x, -cost), unit


def _two_norm(x: Array) -> float:
    return float(np.linalg.norm(x, 2))


def _relative(change: float, size: float) -> float:
    """Change / size; 0 where both are 0."""
    return change / size if size else 0.0 if change == 0 else math.inf
