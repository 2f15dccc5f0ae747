"""The Riccati equation A^T X + X A - X B R^-1 B^T X + Q = 0 in scaled coordinates, and its terms.

By powers of two, which round nothing, time and costs are scaled so that A, Q and G = B R^-1 B^T are near 1, each
input so that R has ones on its diagonal, and each state so that rows and columns of the Hamiltonian matrix
[[A, -G], [-Q, -A^T]] balance, or so that a solution has ones on its diagonal. Then X = D Y D 2^k, where Y solves the
scaled equation and D is diagonal.
Reference: Benner, SIAM J. Sci. Comput. 22 (2001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import matrix_balance

from matfn_kernels.numbers.arrays import EPS, solved
from matfn_kernels.numbers.extended_product import narrow, product, wide

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["Riccati", "scaled"]

_GAIN_REFINEMENTS: Final = 2
"""Refinements of the feedback R^-1 B^T X: its error is then of order (eps cond R)^3, below 1e-19 for cond R to 1e9."""
_NOTHING: Final = -1 << 20
"""The exponent of a zero matrix, below that of every float64 and of their products."""


@dataclass(frozen=True, slots=True, eq=False)
class Riccati:
    """The scaled equation, Q and R symmetric.

    Attributes:
        a: A.
        b: B.
        q: Q.
        r: R.
        states: exponents of D.
        exponent: k.
    """

    a: Array
    b: Array
    q: Array
    r: Array
    states: Array
    exponent: int

    @property
    def g(self) -> Array:
        """B R^-1 B^T."""
        g = self.b @ solved(self.r, self.b.T)
        return np.asarray((g + g.T) / 2)

    @property
    def hamiltonian(self) -> Array:
        """[[A, -G], [-Q, -A^T]]."""
        return np.block([[self.a, -self.g], [-self.q, -self.a.T]])

    def unscaled(self, y: Array) -> Array:
        """D Y D 2^k, the caller's X."""
        return np.asarray(np.ldexp(self.weighed(y), self.exponent))

    def weighed(self, y: Array) -> Array:
        """D Y D."""
        return np.asarray(np.ldexp(y, self.states + self.states[:, None]))

    def levelled(self, y: Array) -> tuple[Riccati, Array]:
        """The equation and Y in coordinates where the diagonal of Y is near 1, except entries that may be noise."""
        diagonal = np.abs(y.diagonal())
        states = np.frexp(np.maximum(diagonal, EPS * diagonal.max()))[1] // 2
        equation = _evened(_with_states(self, states))
        return equation, np.ldexp(y, -states - states[:, None] - (equation.exponent - self.exponent))

    def closed_loop(self, x: Array) -> Array:
        """A - B R^-1 B^T X."""
        return np.asarray(self.a - self.b @ solved(self.r, self.b.T @ x))

    def terms(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """The four terms, whose sum is the residual, in extended precision; so is the feedback in them."""
        linear = product(self.a.T, x)
        held = product(self.b.T, x)
        gain = wide(solved(self.r, narrow(held)))
        for _ in range(_GAIN_REFINEMENTS):
            gain = gain + solved(self.r, narrow(held - product(gain.T, self.r).T))
        lead = narrow(gain)
        quadratic = product(held.T, lead) + narrow(held).T @ narrow(gain - lead)
        return linear, linear.T, -(quadratic + quadratic.T) / 2, wide(self.q)


def scaled(a: Array, b: Array, q: Array, r: Array) -> Riccati:
    """The scaled equation of four matrices."""
    unscaled = Riccati(a, b, q, r, np.zeros(len(a), dtype=int), 0)
    return _evened(_balanced(_evened(unscaled)))


def _evened(equation: Riccati) -> Riccati:
    """The equation in units of time and cost that make its matrices near 1, and Q and G alike."""
    matrices = (equation.a, equation.b, equation.q, equation.r)
    (ea, a), (eb, b), (eq, q), (er, r) = (_fraction(x) for x in matrices)
    b, r = _even_inputs(b, r)
    eg = 2 * eb - er + _fraction(b @ solved(r, b.T))[0]
    if eg <= _NOTHING // 2:
        k = eq - ea if eq > _NOTHING else 0
    elif eq == _NOTHING:
        k = ea - eg
    else:
        k = (eq - eg) // 2
    size = max(ea, eg + k, eq - k)
    half, odd = divmod(size - k - (2 * eb - er), 2) if eb > _NOTHING else (0, 0)
    b, r = np.ldexp(b, -half), np.ldexp(r, odd)
    a, q = np.ldexp(a, ea - size), np.ldexp(q, eq - k - size)
    return Riccati(a, b, q, r, equation.states, equation.exponent + k)


def _fraction(a: Array) -> tuple[int, Array]:
    """(e, A 2^-e) with the largest entry in [1/2, 1); a very negative e for a zero matrix."""
    peak = float(np.abs(a).max())
    exponent = math.frexp(peak)[1] if peak else _NOTHING
    return exponent, np.ldexp(a, -exponent) if peak else a


def _even_inputs(b: Array, r: Array) -> tuple[Array, Array]:
    """(B E, E R E), E diagonal, with diagonal entries of R near 1 where they are not zero."""
    exponents = np.frexp(r.diagonal())[1] // 2
    return np.ldexp(b, -exponents), np.ldexp(r, -exponents - exponents[:, None])


def _balanced(equation: Riccati) -> Riccati:
    """The equation with each state scaled; a state and its costate share one factor."""
    sizes = np.abs(equation.hamiltonian)
    np.fill_diagonal(sizes, 0.0)
    first, second = np.split(matrix_balance(sizes, permute=False, separate=True)[1][0], 2)
    return _with_states(equation, np.rint(np.log2(second / first) / 2).astype(int))


def _with_states(equation: Riccati, states: Array) -> Riccati:
    """The equation of D^-1 Y D^-1, D = 2^states."""
    across, down = states, states[:, None]
    return Riccati(
        np.ldexp(equation.a, down - across),
        np.ldexp(equation.b, down),
        np.ldexp(equation.q, -across - down),
        equation.r,
        equation.states + states,
        equation.exponent,
    )
