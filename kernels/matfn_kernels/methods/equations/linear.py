"""Linear matrix equations, sum of P X S = Q over a few pairs (P, S): refinement and an error estimate of X.

X is refined while its residual, in extended precision, falls. The error estimate is the residual, rounding of its
computation included, times the norm 1 / sep of the inverse operator over ||X||, or where that is large the correction
that the residual asks for; there is none where the equation is singular to rounding.
Reference: Higham, Accuracy and Stability (2002), chapter 16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from matfn_kernels.numbers.arrays import EPS, Array, adjoint, gaussian, norm
from matfn_kernels.numbers.extended_product import CANCELLING, EXTENDED, narrow, product
from matfn_kernels.programs.per_matrix import Found

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CRUDE",
    "HOPELESS",
    "MARGIN",
    "ROUNDING",
    "STORED",
    "SUSPICIOUS",
    "LinearEquation",
    "Operator",
    "solution",
]

HOPELESS: Final = 1e-2
"""Above this condition times eps no digit is promised."""

_REFINEMENTS: Final = 3
"""Most refinements of X: on 150 equations of order 8 and scales to 1e-6 the first gained a digit, the next nothing."""
STORED: Final = 0.25
"""A residual in units of eps and of the terms' norms, half of what rounding of X leaves: refinement gains no more."""
SUSPICIOUS: Final = 1e-6
"""Value of eps (||A|| + ||B||) / sep from which on an equation is examined in exact arithmetic; rounding makes it 1.

A smaller value examines more equations that are merely ill-conditioned, a larger one may miss singular ones."""
MARGIN: Final = 4.0
"""Of the estimate over the residual's part: 1 / sep is a lower bound, seen too small by 2 at most (`growth`)."""
ROUNDING: Final = 4.0
"""Of the estimate over the rounding of the residual and of X.

With 1 in place of both margins true errors were at most 0.9 of the estimate (1100 random equations of order 1 to 5
against 50 digits)."""
CRUDE: Final = 1e-11
"""An estimate by norms that is larger is measured instead, which takes one more substitution."""
_SAMPLES: Final = 3
"""Random matrices of the size of rounding: where one direction is far more sensitive than others, one matrix in fifty
nearly lacks it. With one alone 8 of 2543 such equations had errors up to twice the estimate, with three 0.55 of it."""


class Operator(Protocol):
    """The linear map of an equation, by its inverse."""

    def solve(self, q: Array, /) -> Array:
        """X whose image is Q."""

    def inverse_norm(self) -> float:
        """1 / sep, from below, mostly within a factor 1.5."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearEquation:
    """Sum of P X S = Q.

    Attributes:
        pairs: (P, S); None is the identity.
        right: Q, with entries near 1.
        operator: X -> sum of P X S.
        gain: 1 / sep.
    """

    pairs: tuple[tuple[Array | None, Array | None], ...]
    right: Array
    operator: Operator
    gain: float

    @property
    def weight(self) -> float:
        """Sum of ||P|| ||S||, a bound of the operator's norm."""
        return sum(math.prod(1.0 if factor is None else norm(factor) for factor in pair) for pair in self.pairs)

    @property
    def may_be_singular(self) -> bool:
        """Whether the equation is near enough to a singular one to be examined in exact arithmetic."""
        return not self.gain * self.weight * EPS < SUSPICIOUS

    def terms(self, x: Array) -> Iterator[Array]:
        """P X S, in double precision."""
        for left, right in self.pairs:
            y = x if left is None else left @ x
            yield y if right is None else y @ right

    def missing(self, x: Array) -> Array:
        """Q - sum of P X S, summed in extended precision."""
        missing = self.right
        for left, right in self.pairs:
            y = x if left is None else product(left, x)
            missing = missing - (y if right is None else product(y, right))
        return narrow(missing)


def solution(equation: LinearEquation, *, hermitian: bool) -> Found:
    """X and what is known of it; a Hermitian X of an equation that keeps the symmetry of Q."""
    x, missing = _refined(equation)
    if hermitian:
        x = (x + adjoint(x)) / 2
        missing = equation.missing(x)
    size = norm(x)
    if size == 0:
        return Found(x, 0.0, 0.0, 1.0)
    residual = norm(missing) / (sum(map(norm, equation.terms(x))) + norm(equation.right))
    condition, error = _bounded_error(equation, missing, size)
    if error > CRUDE:
        error = min(error, _measured_error(equation, x, missing))
    return Found(x, residual, error, condition, remarks=("ill_conditioned",) if math.isnan(error) else ())


def _refined(equation: LinearEquation) -> tuple[Array, Array]:
    """X and its residual, refined while that falls and is above the rounding of X."""
    x = equation.operator.solve(equation.right)
    missing = equation.missing(x)
    least = STORED * EPS * sum(map(norm, equation.terms(x)))
    for _ in range(_REFINEMENTS):
        if norm(missing) <= least:
            break
        better = x + equation.operator.solve(missing)
        left = equation.missing(better)
        if not norm(left) < norm(missing):
            break
        x, missing = better, left
    return x, missing


def _bounded_error(equation: LinearEquation, missing: Array, size: float) -> tuple[float, float]:
    """(condition, relative error) of a solution by norms; NaN where no digit is promised.

    Args:
        equation: gives 1 / sep, and the norms that bound its terms; their rounding is the residual's.
        missing: the residual, summed in extended precision.
        size: ||X||.
    """
    sizes = equation.weight * size + norm(equation.right)
    condition = max(1.0, equation.gain * sizes / size)
    error = MARGIN * equation.gain * norm(missing) / size + ROUNDING * (EXTENDED * condition + EPS)
    return condition, error if condition * EPS <= HOPELESS else math.nan


def _measured_error(equation: LinearEquation, x: Array, missing: Array) -> float:
    """The relative error of X as the correction that its residual asks for, to first order the error itself.

    Rounding of the residual counts by the largest correction that random matrices of its size ask for, and what
    corrections leave of their right sides by 1 / sep.
    """
    summed = EXTENDED * (sum(map(np.abs, equation.terms(x)), start=np.abs(equation.right)))
    noise = summed + CANCELLING * equation.weight * norm(x)

    def asked(right: Array) -> float:
        y = equation.operator.solve(right)
        return norm(y) + equation.gain * norm(sum(equation.terms(y), start=-right))

    signs = gaussian((_SAMPLES * len(x), x.shape[1])).reshape(_SAMPLES, *x.shape)
    rounding = max(asked(noise * one) for one in signs) / norm(x) + EPS
    return MARGIN * asked(missing) / norm(x) + ROUNDING * rounding
