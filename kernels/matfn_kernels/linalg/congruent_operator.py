"""Operators on matrices that are X -> A X + X A^H but for a congruence, their inverses and separations.

With the congruence C, the inverse of the operator is Q -> S^-1(C Q C^H), where S is X -> M X + X M^H:

    A X E^H + E X A^H:    C = E^-1,                      M = E^-1 A;
    A X A^H - E X E^H:    C = sqrt(2) (A + w E)^-1,      M = (A + w E)^-1 (A - w E),    w = 1 or -1,

the second because 2 (A X A^H - E X E^H) = (A - w E) X (A + w E)^H + (A + w E) X (A - w E)^H. That exists wherever the
operator has an inverse, since an eigenvalue -w of the pencil A - s E is its own partner in a product that is 1.
Reference: Smith, SIAM J. Appl. Math. 16 (1968); Penzl, Adv. Comput. Math. 8 (1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from matfn_kernels.linalg.sylvester_operator import SylvesterOperator
from matfn_kernels.numbers.arrays import Array, adjoint, demand_small, growth, norm

__all__ = ["CongruentOperator"]


@dataclass(frozen=True, slots=True, eq=False)
class CongruentOperator:
    """An operator whose inverse is Q -> S^-1(C Q C^H).

    Attributes:
        inner: S.
        congruence: C.
    """

    inner: SylvesterOperator
    congruence: Array

    @classmethod
    def lyapunov(cls, a: Array, e: Array) -> CongruentOperator:
        """X -> A X E^H + E X A^H.

        Raises:
            numpy.linalg.LinAlgError: if E is singular.
        """
        inverse = _inverse(e)
        return cls(SylvesterOperator.lyapunov(inverse @ a), inverse)

    @classmethod
    def stein(cls, a: Array, e: Array | None = None) -> CongruentOperator:
        """X -> A X A^H - E X E^H, E = I by default; the smaller of both inverses is the better.

        Raises:
            numpy.linalg.LinAlgError: if 1 and -1 are both eigenvalues of the pencil, to rounding.
        """
        e = np.eye(len(a), dtype=a.dtype) if e is None else e
        sign = min((1, -1), key=lambda w: _size_of_inverse(a + w * e))
        inverse = _inverse(a + sign * e)
        return cls(SylvesterOperator.lyapunov(inverse @ (a - sign * e)), math.sqrt(2) * inverse)

    @property
    def spectrum(self) -> Array:
        """Eigenvalues of M, to the left of the imaginary axis where the pencil is stable."""
        return self.inner.spectra[0]

    @property
    def is_stable(self) -> bool:
        """Whether every eigenvalue of M lies to the left of the imaginary axis, beyond rounding."""
        return self.inner.is_stable

    def solve(self, q: Array) -> Array:
        """X whose image is Q."""
        return self.inner.solve(self.congruence @ q @ adjoint(self.congruence))

    def solve_adjoint(self, q: Array) -> Array:
        """X whose image under the adjoint operator is Q."""
        return adjoint(self.congruence) @ self.inner.solve_adjoint(q) @ self.congruence

    def inverse_norm(self) -> float:
        """Norm of the inverse, from below, mostly within a factor 1.5."""
        shape = (len(self.congruence), len(self.congruence))
        return growth(self.solve, self.solve_adjoint, shape)


def _inverse(a: Array) -> Array:
    inverse = np.linalg.inv(a)
    demand_small(a @ inverse - np.eye(len(a)), norm(a) * norm(inverse), len(a))
    return inverse


def _size_of_inverse(a: Array) -> float:
    """||A^-1||, infinite for a singular A."""
    try:
        size = norm(np.linalg.inv(a))
    except np.linalg.LinAlgError:
        return math.inf
    return size if math.isfinite(size) else math.inf
