"""Riccati equations in scaled coordinates: what both kinds have in common.

An equation has A, B, Hermitian Q and R, and perhaps a descriptor E (else I) and a cross term S (else 0). By powers of
two, which round nothing, costs are scaled, each input so that R has ones on its diagonal, and each state so that rows
and columns of the Hamiltonian matrix [[A, -G], [-Q, -A^H]], G = B R^-1 B^H, balance, or so that a solution has ones on
its diagonal. Then X = D Y D 2^k, where Y solves the scaled equation and D is diagonal.
The plain equation has neither E nor S: A E^-1 - B R^-1 S^H E^-1 in place of A, E^-H (Q - S R^-1 S^H) E^-1 in that of Q.
References: Benner, SIAM J. Sci. Comput. 22 (2001); Lancaster and Rodman, Algebraic Riccati Equations (1995).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
from scipy.linalg import matrix_balance

from matfn_kernels.numbers.arrays import EPS, adjoint, norm, shifted, solved
from matfn_kernels.numbers.extended_product import narrow, product, wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from matfn_kernels.numbers.arrays import Array

__all__ = ["NOTHING", "Operator", "Plain", "Riccati", "even_inputs", "fraction", "multiplied", "quotient", "scaled"]

_GAIN_REFINEMENTS: Final = 2
"""Refinements of the feedback W^-1 H: its error is then of order (eps cond W)^3, below 1e-19 for cond W to 1e9."""
NOTHING: Final = -1 << 20
"""The exponent of a zero matrix, below that of every float64 and of their products."""


class Operator(Protocol):
    """The derivative of an equation's left side, by its inverse."""

    @property
    def is_stable(self) -> bool:
        """Whether the closed loop is stable, beyond rounding."""

    def solve(self, q: Array, /) -> Array:
        """D whose image is Q."""

    def solve_adjoint(self, q: Array, /) -> Array:
        """D whose image under the adjoint operator is Q."""


class Plain(NamedTuple):
    """A, G = B R^-1 B^H and Q of the plain equation."""

    a: Array
    g: Array
    q: Array

    @property
    def hamiltonian(self) -> Array:
        """[[A, -G], [-Q, -A^H]]."""
        return np.block([[self.a, -self.g], [-self.q, -adjoint(self.a)]])


@dataclass(frozen=True, slots=True, eq=False)
class Riccati:
    """The scaled equation, Q and R Hermitian.

    Attributes:
        a: A.
        b: B.
        q: Q.
        r: R.
        s: S, or None.
        e: E, or None.
        states: exponents of D.
        exponent: k.
    """

    a: Array
    b: Array
    q: Array
    r: Array
    s: Array | None
    e: Array | None
    states: Array
    exponent: int

    @abstractmethod
    def evened(self) -> Riccati:
        """The equation in units that make its matrices near 1."""

    @abstractmethod
    def routes(self) -> tuple[Callable[[], Array | None], ...]:
        """Ways to a first X, in order; None or an exception of LAPACK where one fails."""

    @abstractmethod
    def on_boundary(self, values: Array) -> Array:
        """The nearest numbers on the boundary of stability."""

    @abstractmethod
    def instability(self, values: Array) -> Array:
        """How far eigenvalues lie beyond that boundary; negative for stable ones."""

    @abstractmethod
    def boundary_size(self, plain: Plain) -> float:
        """Size of numbers on the boundary that matter."""

    @abstractmethod
    def pencil_values(self) -> Array:
        """Eigenvalues of the plain equation's pencil, which come in pairs about the boundary."""

    @abstractmethod
    def feedback(self, x: Array) -> Array:
        """K, in double precision."""

    @abstractmethod
    def terms(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """The four terms, whose sum is the residual, in extended precision; so is the feedback in them."""

    @abstractmethod
    def parts(self, x: Array) -> tuple[Array, Array]:
        """W and H in K = W^-1 H, in extended precision."""

    @abstractmethod
    def carried(self, loop: Array) -> Array:
        """L in dK = W^-1 B^H dX L, the change of K with X, for that closed loop."""

    @abstractmethod
    def operator(self, loop: Array) -> Operator:
        """The derivative at an X with that closed loop."""

    @abstractmethod
    def weight(self, x: Array) -> Array:
        """W in K = W^-1 H."""

    @abstractmethod
    def remainder(self, x: Array, change: Array) -> Array:
        """Terms of the left side at X + D of second order in D."""

    @abstractmethod
    def rounding(self, x: Array) -> Array:
        """Entries of half the sum of |H|^H |K| as they are before H cancels, all factors by magnitude."""

    @abstractmethod
    def linear_size(self, x: Array) -> float:
        """Bound of the norms of the terms that are linear in X."""

    @abstractmethod
    def part_sizes(self, x: Array) -> tuple[float, float]:
        """Bounds of the norms of the terms of H and of W."""

    @abstractmethod
    def loop_size(self, loop: Array) -> float:
        """Bound of the norm of `operator`."""

    @property
    def cross_size(self) -> float:
        """||S||."""
        return 0.0 if self.s is None else norm(self.s)

    def closed_loop(self, x: Array) -> Array:
        """A - B K."""
        return np.asarray(self.a - self.b @ self.feedback(x))

    def plain(self) -> Plain:
        """The equation without E and S.

        Raises:
            numpy.linalg.LinAlgError: if E or R is singular to rounding.
        """
        g = self.b @ solved(self.r, adjoint(self.b))
        a, q, g = self.a, self.q, (g + adjoint(g)) / 2
        if self.s is not None:
            cross = solved(self.r, adjoint(self.s))
            a, q = a - self.b @ cross, q - self.s @ cross
        if self.e is not None:
            turned = adjoint(self.e)
            a, q = adjoint(solved(turned, adjoint(a))), solved(turned, adjoint(solved(turned, q)))
        return Plain(a, g, (q + adjoint(q)) / 2)

    def unscaled(self, y: Array) -> Array:
        """D Y D 2^k, the caller's X."""
        return shifted(self.weighed(y), self.exponent)

    def weighed(self, y: Array) -> Array:
        """D Y D."""
        return shifted(y, self.states + self.states[:, None])

    def levelled(self, y: Array) -> tuple[Riccati, Array]:
        """The equation and Y in coordinates where the diagonal of Y is near 1, except entries that may be noise."""
        diagonal = np.abs(y.diagonal())
        states = np.frexp(np.maximum(diagonal, EPS * diagonal.max()))[1] // 2
        equation = _with_states(self, states).evened()
        return equation, shifted(y, -states - states[:, None] - (equation.exponent - self.exponent))


def scaled(equation: Riccati) -> Riccati:
    """An equation with its matrices near 1 and its states balanced."""
    evened = equation.evened()
    try:
        return _balanced(evened).evened()
    except np.linalg.LinAlgError:  # R is singular, which a discrete equation allows
        return evened


def multiplied(x: Array, y: Array | None) -> Array:
    """X Y in extended precision, None for the identity."""
    return x if y is None else product(x, y)


def quotient(weight: Array, held: Array) -> tuple[Array, Array]:
    """K = W^-1 H and H^H K of Hermitian W (m, m) and H (m, n), all in extended precision."""
    lead_weight, lead_held = narrow(weight), narrow(held)
    rest = narrow(weight - lead_weight)
    gain = wide(solved(lead_weight, lead_held))
    for _ in range(_GAIN_REFINEMENTS):
        image = adjoint(product(adjoint(gain), lead_weight)) + rest @ narrow(gain)
        gain = gain + solved(lead_weight, narrow(held - image))
    lead = narrow(gain)
    quadratic = product(adjoint(held), lead) + adjoint(lead_held) @ narrow(gain - lead)
    return gain, (quadratic + adjoint(quadratic)) / 2


def fraction(a: Array) -> tuple[int, Array]:
    """(e, A 2^-e) with the largest entry in [1/2, 1); a very negative e for a zero matrix."""
    peak = float(max(np.abs(a.real).max(), np.abs(a.imag).max())) if np.iscomplexobj(a) else float(np.abs(a).max())
    exponent = math.frexp(peak)[1] if peak else NOTHING
    return exponent, shifted(a, -exponent) if peak else a


def even_inputs(b: Array, r: Array, s: Array | None) -> tuple[Array, Array, Array | None]:
    """(B F, F R F, S F), F diagonal, with diagonal entries of R near 1 where they are not zero."""
    exponents = np.frexp(r.diagonal().real)[1] // 2
    return (
        shifted(b, -exponents),
        shifted(r, -exponents - exponents[:, None]),
        None if s is None else shifted(s, -exponents),
    )


def _balanced(equation: Riccati) -> Riccati:
    """The equation with each state scaled; a state and its costate share one factor."""
    sizes = np.abs(equation.plain().hamiltonian)
    np.fill_diagonal(sizes, 0.0)
    first, second = np.split(matrix_balance(sizes, permute=False, separate=True)[1][0], 2)
    return _with_states(equation, np.rint(np.log2(second / first) / 2).astype(int))


def _with_states(equation: Riccati, states: Array) -> Riccati:
    """The equation of D^-1 Y D^-1, D = 2^states."""
    across, down = states, states[:, None]
    return replace(
        equation,
        a=shifted(equation.a, down - across),
        b=shifted(equation.b, down),
        q=shifted(equation.q, -across - down),
        s=None if equation.s is None else shifted(equation.s, -down),
        e=None if equation.e is None else shifted(equation.e, down - across),
        states=equation.states + states,
    )
