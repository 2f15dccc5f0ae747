"""Stabilising solutions of Riccati equations, by Newton's method.

A start comes from one of the equation's routes. Newton's method of Kleinman then corrects X through a linear equation
with the closed loop, while its steps or residuals shrink. Residuals are summed in extended precision, so that a step
shows the error of X even where the rounding of X leaves a large residual. A Schur form of the loop serves until that
has moved by more than rounding.
References: Kleinman, IEEE Trans. Autom. Control 13 (1968); Hewer, IEEE Trans. Autom. Control 16 (1971).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from matfn_kernels.numbers.arrays import EPS, Array, adjoint, norm
from matfn_kernels.numbers.extended_product import narrow

if TYPE_CHECKING:
    from matfn_kernels.methods.equations.riccati_terms import Operator, Riccati

__all__ = ["Solution", "stabilising"]

_REFINEMENTS: Final = 30
"""Most Newton steps, which end when none improves X: 1350 random equations took 1.2 on average, 10 at most."""
_SETTLED: Final = 1e-8
"""A relative Newton step at which the next route is not tried: the square of such a step is rounding."""
_LOST: Final = 0.1
"""A relative Newton step above which X has no digit, and is no solution."""
_TINY: Final = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A Hermitian X of an equation.

    Attributes:
        equation: with coordinates that suit X.
        x: X.
        terms: of the residual.
        loop: A_c = A - B K, stable, to rounding.
        operator: the derivative of the equation's left side at X.
        change: the Newton step from X.
        steps: taken so far.
    """

    equation: Riccati
    x: Array
    terms: tuple[Array, Array, Array, Array]
    loop: Array
    operator: Operator
    change: Array
    steps: int

    @property
    def error(self) -> float:
        """Size of the Newton step over that of X."""
        return norm(self.change) / max(norm(self.x), _TINY)

    @property
    def residual_norm(self) -> float:
        """Norm of the residual."""
        first, second, third, fourth = self.terms
        return norm(first + second + third + fourth)

    def correction(self, residual: Array) -> Array:
        """The change of X, in the caller's coordinates, that removes a residual to first order."""
        return self.equation.weighed(self.operator.solve(residual))

    def correction_adjoint(self, change: Array) -> Array:
        """The adjoint of `correction`."""
        return self.operator.solve_adjoint(self.equation.weighed(change))

    def improves(self, other: Solution) -> bool:
        """Whether the Newton step or the residual has shrunk by half."""
        return self.error < other.error / 2 or self.residual_norm < other.residual_norm / 2


def stabilising(equation: Riccati) -> Solution | None:
    """The solution that Newton's method confirms best, by routes in order until one is good."""
    best: Solution | None = None
    for route in equation.routes():
        try:
            start = route()
            found = None if start is None else _from(equation, (start + adjoint(start)) / 2)
        except (np.linalg.LinAlgError, ValueError):  # singular, or an overflow on the way
            continue
        if found is not None and (best is None or found.error < best.error):
            best = found
        if best is not None and best.error <= _SETTLED:
            break
    return best if best is not None and best.error <= _LOST else None


def _from(equation: Riccati, x: Array) -> Solution | None:
    """The solution that Newton's method reaches from X, first in coordinates where its diagonal is near 1."""
    return _refined(*equation.levelled(x)) or _refined(equation, x)


def _refined(equation: Riccati, x: Array) -> Solution | None:
    """Newton-Kleinman from X while it improves; None where the closed loop is not stable at the start."""
    solution = _judged(equation, x, None, 0)
    for step in range(1, _REFINEMENTS + 1):
        if solution is None or solution.error <= EPS / 2:
            break
        better = _judged(equation, solution.x + solution.change, solution, step)
        if better is None or not better.improves(solution):
            break
        solution = better
    return solution


def _judged(equation: Riccati, x: Array, before: Solution | None, steps: int) -> Solution | None:
    """X with its Newton step, None unless its closed loop is stable."""
    loop = equation.closed_loop(x)
    rounding = len(x) * EPS * norm(loop)
    if before is not None and norm(loop - before.loop) <= rounding:
        loop, operator = before.loop, before.operator
    else:
        operator = equation.operator(loop)
        if not operator.is_stable:
            return None
    terms = equation.terms(x)
    change = operator.solve(-narrow(terms[0] + terms[1] + terms[2] + terms[3]))
    change = (change + adjoint(change)) / 2
    return Solution(equation, x, terms, loop, operator, change, steps) if math.isfinite(norm(change)) else None
