"""Stabilising solutions of A^T X + X A - X G X + Q = 0, G = B R^-1 B^T, from invariant subspaces, and their refinement.

The stable invariant subspace of H = [[A, -G], [-Q, -A^T]] is spanned by [I; X]. Three routes find it: the sign of H, an
ordered Schur form of H, and an ordered QZ form of the extended pencil, which never forms R^-1. Newton's method of
Kleinman then corrects X through a Lyapunov equation with the closed loop A - G X, while the residual falls.
References: Roberts (1980); Laub, IEEE Trans. Autom. Control 24 (1979); Arnold and Laub, Proc. IEEE 72 (1984).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import schur, solve_continuous_are

from matfn_kernels.extended_product import narrow, product, wide
from matfn_kernels.sign_iteration import newton
from matfn_kernels.sylvester_operator import EPS, Array, SylvesterOperator, norm

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Riccati", "Solution", "stabilising"]

_REFINEMENTS: Final = 30
_GAIN_REFINEMENTS: Final = 2
_GOOD: Final = 16.0


@dataclass(frozen=True, slots=True, eq=False)
class Riccati:
    """The equation A^T X + X A - X B R^-1 B^T X + Q = 0, Q and R symmetric, scaled."""

    a: Array
    b: Array
    q: Array
    r: Array

    def gain(self, x: Array) -> Array:
        """The feedback K = R^-1 B^T X."""
        return np.asarray(np.linalg.solve(self.r, self.b.T @ x))

    def closed_loop(self, x: Array) -> Array:
        """A - B K."""
        return np.asarray(self.a - self.b @ self.gain(x))

    def terms(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """The four terms, whose sum is the residual, in extended precision; so is the feedback in them."""
        linear = product(self.a.T, x)
        held = product(self.b.T, x)
        gain = self.gain(x)
        for _ in range(_GAIN_REFINEMENTS):
            gain = gain + np.linalg.solve(self.r, narrow(held - product(gain.T, self.r).T))
        lead = narrow(gain)
        quadratic = product(held.T, lead) + narrow(held).T @ narrow(gain - lead)
        return linear, linear.T, -(quadratic + quadratic.T) / 2, wide(self.q)

    def missing(self, x: Array) -> Array:
        """The residual."""
        first, second, third, fourth = self.terms(x)
        return narrow(first + second + third + fourth)

    def residual(self, x: Array) -> float:
        """Norm of the residual over the sum of its terms' norms."""
        terms = self.terms(x)
        sizes = sum(norm(term) for term in terms)
        return norm(sum(terms, start=np.zeros_like(terms[0]))) / sizes if sizes else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A symmetric X with a stable closed loop, its relative residual, and D -> A_c^T D + D A_c."""

    x: Array
    residual: float
    operator: SylvesterOperator
    steps: int


def stabilising(equation: Riccati) -> Solution | None:
    """The solution of least residual among the routes, tried in order until one is as good as rounding allows."""
    best: Solution | None = None
    for start in _starts(equation):
        found = _refined(equation, (start + start.T) / 2)
        if found is not None and (best is None or found.residual < best.residual):
            best = found
        if best is not None and best.residual <= _GOOD * EPS:
            break
    return best


def _starts(equation: Riccati) -> Iterator[Array]:
    """X by each route that gives one."""
    a, order = equation.a, len(equation.a)
    g = equation.b @ np.linalg.solve(equation.r, equation.b.T)
    hamiltonian = np.block([[a, -(g + g.T) / 2], [-equation.q, -a.T]])
    for route in (_by_sign, _by_schur):
        start = route(hamiltonian, order)
        if start is not None and np.isfinite(start).all():
            yield start
    try:
        yield solve_continuous_are(a, equation.b, equation.q, equation.r)
    except (np.linalg.LinAlgError, ValueError):
        return


def _by_sign(hamiltonian: Array, order: int) -> Array | None:
    """(W + I) [I; X] = 0 in the least-squares sense, W the sign of H."""
    found = newton(hamiltonian)
    if found is None:
        return None
    shifted = found[0] + np.eye(2 * order)
    x: Array = np.linalg.lstsq(shifted[:, order:], -shifted[:, :order], rcond=None)[0]
    return x


def _by_schur(hamiltonian: Array, order: int) -> Array | None:
    """U_2 U_1^-1 of an orthonormal basis [U_1; U_2] of the stable subspace."""
    try:
        _, u, stable = schur(hamiltonian, sort="lhp")
        if stable != order:
            return None
        x: Array = np.linalg.solve(u[:order, :order].T, u[order:, :order].T)
    except np.linalg.LinAlgError:
        return None
    return x


def _refined(equation: Riccati, x: Array) -> Solution | None:
    """Newton-Kleinman from X while the residual falls; None where the closed loop is not stable at the start."""
    solution = _judged(equation, x, 0)
    if solution is None:
        return None
    for step in range(1, _REFINEMENTS + 1):
        change = solution.operator.solve(-equation.missing(solution.x))
        better = _judged(equation, solution.x + (change + change.T) / 2, step)
        if better is None or not better.residual < solution.residual:
            break
        solution = better
    return solution


def _judged(equation: Riccati, x: Array, steps: int) -> Solution | None:
    """X with its residual, None unless its closed loop is stable."""
    if not np.isfinite(x).all():
        return None
    operator = SylvesterOperator.lyapunov(equation.closed_loop(x).T)
    if not (operator.spectra[0].real < 0).all():
        return None
    return Solution(x, equation.residual(x), operator, steps)
