"""Principal powers of exactly singular matrices whose eigenvalue 0 has as many eigenvectors as its multiplicity.

Such an A has rank k and A^2 too, which is decided in the numbers as they are stored. With orthonormal columns U of the
range of A, B = U^H A U is nonsingular, and f(A) = U f(B) B^-1 U^H A for every power f: 0 goes to 0.
Error: U is off by rounding times sigma_1 / sigma_k, which enters B and U^H A.
Reference: Higham, Functions of Matrices (2008), section 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import schur

from matfn_kernels.methods.roots.negative_axis import NegativeAxis, Singularity
from matfn_kernels.methods.roots.triangular_power import TriangularPower, norm
from matfn_kernels.numbers.arrays import demand_form
from matfn_kernels.numbers.modular import rank, rank_of_square

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["Core", "SemisimpleRoot"]

_PARTS: Final = 2.0
"""U enters twice, in B on both sides of A, and in the answer on both sides of f(B) B^-1."""


@dataclass(frozen=True, slots=True)
class Core:
    """The nonsingular part of a singular matrix A: orthonormal U (n, k) of its range, U^H A, and B = U^H A U.

    Attributes:
        u: U.
        image: U^H A (k, n).
        t: Schur form of B.
        q: its Schur vectors.
        growth: factor of a backward error in A that B has, relative to its norm.
        unit: the backward error of U, as measured, and what rounding took from A.
        axis: where the eigenvalues of B are.
    """

    u: Array
    image: Array
    t: Array
    q: Array
    growth: float
    unit: float
    axis: NegativeAxis

    @classmethod
    def of(cls, exact: Array, a: Array, spacing: float, lost: float) -> Core | None:
        """That of A, given exactly and scaled to entries near 1 but for a part `lost`; None if 0 is not semisimple."""
        k = rank(exact)
        if k == 0:
            none = np.zeros((0, 0))
            return cls(np.zeros((len(a), 0)), np.zeros((0, len(a))), none, none, 1.0, 0.0, NegativeAxis.CLEAR)
        if k != rank_of_square(exact):
            return None
        u, sigma, _ = np.linalg.svd(a)
        u = u[:, :k]
        image = u.conj().T @ a
        b = image @ u
        t, q = schur(b, output="complex", check_finite=False)
        demand_form(b, t, q)
        growth = float(sigma[0] / sigma[k - 1]) * float(sigma[0]) / norm(b)
        unit = float(norm(a - u @ image) / sigma[0]) + float(np.sqrt(len(a))) * spacing + lost
        axis = NegativeAxis.of(exact, t, Singularity.of(b, spacing), growth * unit * norm(t))
        return cls(u, image, t, q, growth, unit, axis)


@dataclass(frozen=True, slots=True)
class SemisimpleRoot:
    """A^(s/r) of a singular matrix, its relative error and condition number."""

    value: Array
    error: float
    condition: float

    @classmethod
    def of(cls, core: Core, r: int, s: int) -> SemisimpleRoot:
        """The power from the core of A."""
        if not core.u.size:
            return cls(core.u @ core.image, 0.0, 1.0)
        sign, power = (-1, r - s) if s < r else (1, s - r)
        root = TriangularPower.of(core.t, r, power)
        inner = root.value(sign)
        condition = max(1.0, root.condition(sign, inner))
        missing, rounding = root.rounding(sign, inner)
        left = core.u @ (core.q @ inner @ core.q.conj().T)
        value = left @ core.image
        spread = norm(inner) * norm(core.image) / norm(value)
        sensitivity = (condition + 1) * core.growth
        error = _PARTS * sensitivity * core.unit + condition * missing + rounding
        return cls(value, spread * error, spread * sensitivity)
