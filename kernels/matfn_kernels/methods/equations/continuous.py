"""Riccati equations in continuous time, A^H X E + E^H X A - H^H R^-1 H + Q = 0 with H = B^H X E + S^H.

The closed loop A - B R^-1 H has its eigenvalues to the left of the imaginary axis.
Time and costs are scaled so that A, Q and G are near 1. The Cayley transform (H + gamma I)^-1 (H - gamma I) of the
Hamiltonian matrix H of the plain equation has the symplectic form from which doubling starts.
Reference: Chu, Fan and Lin, Linear Algebra Appl. 396 (2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import schur, solve_continuous_are

from matfn_kernels.linalg.congruent_operator import CongruentOperator
from matfn_kernels.linalg.sylvester_operator import SylvesterOperator
from matfn_kernels.methods.equations.doubling import doubling
from matfn_kernels.methods.equations.riccati_terms import (
    NOTHING,
    Riccati,
    even_inputs,
    fraction,
    multiplied,
    quotient,
)
from matfn_kernels.numbers.arrays import adjoint, norm, shifted, solved
from matfn_kernels.numbers.extended_product import product, wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from matfn_kernels.methods.equations.riccati_terms import Operator, Plain
    from matfn_kernels.numbers.arrays import Array

__all__ = ["Continuous"]


@dataclass(frozen=True, slots=True, eq=False)
class Continuous(Riccati):
    """The scaled equation in continuous time."""

    def evened(self) -> Continuous:
        """The equation in units of time and cost that make A, Q and G near 1, and Q and G alike."""
        even = _with_descriptor_near_one(self)
        ea, eq = _sizes(even)
        (eb, b), (er, r) = fraction(even.b), fraction(even.r)
        b, r, s = even_inputs(b, r, even.s)
        eg = 2 * eb - er + fraction(b @ solved(r, adjoint(b)))[0]
        if eg <= NOTHING // 2:
            k = eq - ea if eq > NOTHING else 0
        elif eq == NOTHING:
            k = ea - eg
        else:
            k = (eq - eg) // 2
        size, eb = max(ea, eg + k, eq - k), eb if eb > NOTHING else 0
        half, odd = divmod(size - k - (2 * eb - er), 2)
        return replace(
            even,
            a=shifted(even.a, -size),
            b=shifted(b, -half),
            q=shifted(even.q, -k - size),
            r=shifted(r, odd),
            s=None if s is None else shifted(s, -eb - half - k),
            exponent=even.exponent + k,
        )

    def routes(self) -> tuple[Callable[[], Array | None], ...]:
        """Doubling; the stable invariant subspace of H by a Schur form; that of the extended pencil by QZ."""
        return lambda: doubling(self.doubled()), self.by_schur, self.by_pencil

    def doubled(self) -> tuple[Array, Array, Array]:
        """(E, G, X) by the Cayley transform, gamma the root mean square of H's singular values."""
        plain = self.plain()
        order = len(plain.a)
        gamma = norm(plain.hamiltonian) / math.sqrt(2 * order)
        moved = plain.a - gamma * np.eye(order)
        inverse = 2 * gamma * np.linalg.inv(np.block([[moved, -plain.g], [plain.q, adjoint(moved)]]))
        g, x = inverse[:order, order:], -inverse[order:, :order]
        return np.eye(order) + inverse[:order, :order], (g + adjoint(g)) / 2, (x + adjoint(x)) / 2

    def by_schur(self) -> Array | None:
        """U_2 U_1^-1 of an orthonormal basis [U_1; U_2] of the stable subspace."""
        order = len(self.a)
        _, u, stable = schur(self.plain().hamiltonian, sort="lhp")
        return np.linalg.solve(u[:order, :order].T, u[order:, :order].T).T if stable == order else None

    def on_boundary(self, values: Array) -> Array:
        """On the imaginary axis."""
        return np.asarray(1j * values.imag)

    def instability(self, values: Array) -> Array:
        """Real parts."""
        return np.asarray(values.real)

    def boundary_size(self, plain: Plain) -> float:
        """Norm of A: imaginary numbers are as large as its eigenvalues."""
        return norm(plain.a)

    def pencil_values(self) -> Array:
        """Those of the Hamiltonian matrix."""
        return np.asarray(np.linalg.eigvals(self.plain().hamiltonian))

    def by_pencil(self) -> Array | None:
        """By scipy, in units of time and cost in which A and Q are near 1, however large G is."""
        time, cost = (-fraction(x)[0] for x in (self.a, self.q))
        if not (self.a.any() and self.q.any()):
            return None
        a, q, r = shifted(self.a, time), shifted(self.q, cost), shifted(self.r, cost - 2 * time)
        s = None if self.s is None else shifted(self.s, cost - time)
        x = solve_continuous_are(a, self.b, q, r, e=self.e, s=s)
        return shifted(x, time - cost)

    def feedback(self, x: Array) -> Array:
        """R^-1 (B^H X E + S^H)."""
        held = adjoint(self.b) @ x
        held = held if self.e is None else held @ self.e
        return solved(self.r, held if self.s is None else held + adjoint(self.s))

    def terms(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """A^H X E, its adjoint, -H^H R^-1 H and Q."""
        linear = multiplied(product(adjoint(self.a), x), self.e)
        _, quadratic = quotient(*self.parts(x))
        return linear, adjoint(linear), -quadratic, wide(self.q)

    def parts(self, x: Array) -> tuple[Array, Array]:
        """R and B^H X E + S^H."""
        held = multiplied(product(adjoint(self.b), x), self.e)
        return wide(self.r), held if self.s is None else held + adjoint(self.s)

    def carried(self, loop: Array) -> Array:
        """E."""
        return np.eye(len(loop)) if self.e is None else self.e

    def operator(self, loop: Array) -> Operator:
        """D -> A_c^H D E + E^H D A_c."""
        if self.e is None:
            return SylvesterOperator.lyapunov(adjoint(loop))
        return CongruentOperator.lyapunov(adjoint(loop), adjoint(self.e))

    def weight(self, x: Array) -> Array:
        """R."""
        del x
        return self.r

    def remainder(self, x: Array, change: Array) -> Array:
        """-F^H R^-1 F with F = B^H D E."""
        del x
        held = adjoint(self.b) @ change
        held = held if self.e is None else held @ self.e
        return np.asarray(-adjoint(held) @ solved(self.r, held))

    def rounding(self, x: Array) -> Array:
        """|E|^H |X| |B| |K|."""
        sizes = np.abs(x) @ np.abs(self.b) @ np.abs(self.feedback(x))
        return np.asarray(sizes if self.e is None else np.abs(adjoint(self.e)) @ sizes)

    def linear_size(self, x: Array) -> float:
        """2 ||A|| ||X|| ||E||."""
        return 2 * self.loop_size(self.a) * norm(x)

    def part_sizes(self, x: Array) -> tuple[float, float]:
        """||E|| ||X|| ||B|| + ||S|| and ||R||."""
        return self.loop_size(self.b) * norm(x) + self.cross_size, norm(self.r)

    def loop_size(self, loop: Array) -> float:
        """||A_c|| ||E||, half of the bound."""
        return norm(loop) * (1.0 if self.e is None else norm(self.e))


def _sizes(equation: Continuous) -> tuple[int, int]:
    """Exponents of A and Q, the larger of those with and without E and S."""
    pairs = [(equation.a, equation.q)]
    if equation.e is not None or equation.s is not None:
        plain = equation.plain()
        pairs.append((plain.a, plain.q))
    return max(fraction(a)[0] for a, _ in pairs), max(fraction(q)[0] for _, q in pairs)


def _with_descriptor_near_one(equation: Continuous) -> Continuous:
    """The equation of 2^k X, E 2^-k in place of E."""
    if equation.e is None:
        return equation
    k, e = fraction(equation.e)
    return replace(equation, e=e, exponent=equation.exponent - k)
