"""Riccati equations in discrete time, A^H X A - E^H X E - H^H W^-1 H + Q = 0, H = B^H X A + S^H, W = R + B^H X B.

The closed loop A - B W^-1 H has its eigenvalues inside the unit circle.
Without E and S, doubling starts from A, G = B R^-1 B^H and Q themselves, so that A may be singular; where R is
singular and W is not, the extended pencil is the only route.
Reference: Chu, Fan, Lin and Wang, Int. J. Control 77 (2004).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigvals, solve_discrete_are

from matfn_kernels.linalg.congruent_operator import CongruentOperator
from matfn_kernels.methods.equations.doubling import doubling
from matfn_kernels.methods.equations.riccati_terms import (
    NOTHING,
    Riccati,
    even_inputs,
    fraction,
    quotient,
)
from matfn_kernels.numbers.arrays import adjoint, norm, shifted, solved
from matfn_kernels.numbers.extended_product import product, wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from matfn_kernels.methods.equations.riccati_terms import Operator, Plain
    from matfn_kernels.numbers.arrays import Array

__all__ = ["Discrete"]


@dataclass(frozen=True, slots=True, eq=False)
class Discrete(Riccati):
    """The scaled equation in discrete time."""

    def evened(self) -> Discrete:
        """The equation in a unit of cost that makes Q and G alike; time has no unit."""
        even = _with_descriptor_near_one(self)
        eb, eq, er = (fraction(x)[0] for x in (even.b, even.q, even.r))
        if NOTHING in {eb, er}:
            k = eq if eq > NOTHING else 0
        else:
            k = (eq + er - 2 * eb) // 2 if eq > NOTHING else er - 2 * eb
        cross = None if even.s is None else shifted(even.s, -k)
        b, r, s = even_inputs(even.b, shifted(even.r, -k), cross)
        return replace(even, b=b, q=shifted(even.q, -k), r=r, s=s, exponent=even.exponent + k)

    def routes(self) -> tuple[Callable[[], Array | None], ...]:
        """Doubling, and the stable deflating subspace of the extended pencil by QZ."""
        return lambda: doubling(self.plain()), self.by_pencil

    def on_boundary(self, values: Array) -> Array:
        """On the unit circle."""
        sizes = np.abs(values)
        return np.where(sizes > 0, values / np.where(sizes > 0, sizes, 1), 1)

    def instability(self, values: Array) -> Array:
        """How much larger than 1 they are."""
        return np.abs(values) - 1

    def boundary_size(self, plain: Plain) -> float:
        """1, the radius."""
        del plain
        return 1.0

    def pencil_values(self) -> Array:
        """Those of [[A, 0], [-Q, I]] - s [[I, G], [0, A^H]]; infinite ones, the partners of 0, are left out."""
        plain = self.plain()
        one, nothing = np.eye(len(plain.a)), np.zeros_like(plain.a)
        left = np.block([[plain.a, nothing], [-plain.q, one]])
        values = eigvals(left, np.block([[one, plain.g], [nothing, adjoint(plain.a)]]))
        return np.asarray(values[np.isfinite(values)])

    def by_pencil(self) -> Array | None:
        """By scipy."""
        return np.asarray(solve_discrete_are(self.a, self.b, self.q, self.r, e=self.e, s=self.s))

    def feedback(self, x: Array) -> Array:
        """W^-1 (B^H X A + S^H)."""
        held = adjoint(self.b) @ x @ self.a
        return solved(self.weight(x), held if self.s is None else held + adjoint(self.s))

    def terms(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """A^H X A, -E^H X E, -H^H W^-1 H and Q."""
        linear = product(product(adjoint(self.a), x), self.a)
        before = wide(x) if self.e is None else product(product(adjoint(self.e), x), self.e)
        _, quadratic = quotient(*self.parts(x))
        return (linear + adjoint(linear)) / 2, -(before + adjoint(before)) / 2, -quadratic, wide(self.q)

    def parts(self, x: Array) -> tuple[Array, Array]:
        """R + B^H X B and B^H X A + S^H."""
        pressed = product(adjoint(self.b), x)
        held, weight = product(pressed, self.a), self.r + product(pressed, self.b)
        return (weight + adjoint(weight)) / 2, held if self.s is None else held + adjoint(self.s)

    def carried(self, loop: Array) -> Array:
        """A_c."""
        return loop

    def operator(self, loop: Array) -> Operator:
        """D -> A_c^H D A_c - E^H D E."""
        return CongruentOperator.stein(adjoint(loop), None if self.e is None else adjoint(self.e))

    def weight(self, x: Array) -> Array:
        """R + B^H X B."""
        weight = self.r + adjoint(self.b) @ x @ self.b
        return np.asarray((weight + adjoint(weight)) / 2)

    def remainder(self, x: Array, change: Array) -> Array:
        """-F^H W^-1 F with F = B^H D A_c."""
        held = adjoint(self.b) @ change @ self.closed_loop(x)
        return np.asarray(-adjoint(held) @ solved(self.weight(x), held))

    def rounding(self, x: Array) -> Array:
        """(|A|^H + |K|^H |B|^H / 2) |X| |B| |K|."""
        gain = np.abs(self.feedback(x))
        pressed = np.abs(self.b) @ gain
        return np.asarray((np.abs(adjoint(self.a)) + pressed.T / 2) @ np.abs(x) @ pressed)

    def linear_size(self, x: Array) -> float:
        """(||A||^2 + ||E||^2) ||X||."""
        return self.loop_size(self.a) * norm(x)

    def part_sizes(self, x: Array) -> tuple[float, float]:
        """||A|| ||X|| ||B|| + ||S|| and ||R|| + ||B||^2 ||X||."""
        size = norm(self.b) * norm(x)
        return norm(self.a) * size + self.cross_size, norm(self.r) + norm(self.b) * size

    def loop_size(self, loop: Array) -> float:
        """||A_c||^2 + ||E||^2."""
        return norm(loop) ** 2 + (1.0 if self.e is None else norm(self.e) ** 2)


def _with_descriptor_near_one(equation: Discrete) -> Discrete:
    """The equation of 4^k X, with A, B and E over 2^k."""
    if equation.e is None:
        return equation
    k, e = fraction(equation.e)
    a, b = shifted(equation.a, -k), shifted(equation.b, -k)
    return replace(equation, a=a, b=b, e=e, exponent=equation.exponent - 2 * k)
