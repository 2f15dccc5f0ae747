"""Stabilising solutions of A^T X + X A - X G X + Q = 0, G = B R^-1 B^T, by Newton's method.

Routes to a start, in order: `doubling`; the stable invariant subspace [I; X] of H = [[A, -G], [-Q, -A^T]] from an
ordered Schur form; and that of the extended pencil, by QZ, which never forms G and so keeps slow modes beside the fast
ones of cheap control. Newton's method of Kleinman then corrects X through a Lyapunov equation with the closed loop
A - G X, while its steps or residuals shrink. Residuals are summed in extended precision, so that a step shows the error
of X even where the rounding of X leaves a large residual. A Schur form of the loop serves until that has moved by more
than rounding.
References: Laub, IEEE Trans. Autom. Control 24 (1979); Kleinman, IEEE Trans. Autom. Control 13 (1968).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import schur, solve_continuous_are

from matfn_kernels.linalg.sylvester_operator import SylvesterOperator
from matfn_kernels.methods.equations.doubling import doubling
from matfn_kernels.numbers.arrays import EPS, Array, norm
from matfn_kernels.numbers.extended_product import narrow

if TYPE_CHECKING:
    from matfn_kernels.methods.equations.riccati_terms import Riccati

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
    """A symmetric X of an equation.

    Attributes:
        equation: with coordinates that suit X.
        x: X.
        terms: of the residual.
        loop: A_c = A - G X, stable, to rounding.
        operator: D -> A_c^T D + D A_c.
        change: the Newton step from X.
        steps: taken so far.
    """

    equation: Riccati
    x: Array
    terms: tuple[Array, Array, Array, Array]
    loop: Array
    operator: SylvesterOperator
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
    for route in (doubling, _by_schur, _by_pencil):
        try:
            start = route(equation)
            found = None if start is None else _from(equation, (start + start.T) / 2)
        except (np.linalg.LinAlgError, ValueError):  # singular, or an overflow on the way
            continue
        if found is not None and (best is None or found.error < best.error):
            best = found
        if best is not None and best.error <= _SETTLED:
            break
    return best if best is not None and best.error <= _LOST else None


def _by_schur(equation: Riccati) -> Array | None:
    """U_2 U_1^-1 of an orthonormal basis [U_1; U_2] of the stable subspace."""
    order = len(equation.a)
    _, u, stable = schur(equation.hamiltonian, sort="lhp")
    return np.linalg.solve(u[:order, :order].T, u[order:, :order].T) if stable == order else None


def _by_pencil(equation: Riccati) -> Array | None:
    """X from an ordered QZ form of the pencil [[A, 0, B], [-Q, -A^T, 0], [0, B^T, R]] - s diag(I, I, 0).

    In units of time and cost in which A and Q are near 1, however large G is.
    """
    time, cost = (-math.frexp(float(np.abs(x).max()))[1] for x in (equation.a, equation.q))
    a, q = np.ldexp(equation.a, time), np.ldexp(equation.q, cost)
    if not (a.any() and q.any()):
        return None
    x = solve_continuous_are(a, equation.b, q, np.ldexp(equation.r, cost - 2 * time))
    return np.asarray(np.ldexp(x, time - cost))


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
        operator = SylvesterOperator.lyapunov(loop.T)
        if not operator.spectra[0].real.max() < -rounding:
            return None
    terms = equation.terms(x)
    change = operator.solve(-narrow(terms[0] + terms[1] + terms[2] + terms[3]))
    change = (change + change.T) / 2
    return Solution(equation, x, terms, loop, operator, change, steps) if math.isfinite(norm(change)) else None
