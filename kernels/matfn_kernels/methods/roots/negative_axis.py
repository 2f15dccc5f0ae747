"""Eigenvalues at zero and on the negative axis, where a matrix has no principal root, as far as they are known.

Known without rounding: the eigenvalues of a matrix that a permutation makes triangular, which are its diagonal; that a
real matrix with det A < 0 has a negative one, where no backward error of an LU factorisation changes that sign; that
those of a Hermitian matrix are real. Else a simple eigenvalue of the Schur form is taken to lie on the axis if it is
there to within its own uncertainty, the backward error times its condition number, if that is small beside its distance
to zero and to the next eigenvalue, and if the uncertainty of no other reaches it: a real one has nothing to pair with
then and cannot leave the axis; one of a complex matrix can. Of eigenvalues for which neither is so, nothing is known.
Reference: Stewart and Sun, Matrix Perturbation Theory (1990), chapters 4 and 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import numpy as np
from scipy.sparse.csgraph import connected_components

from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.methods.roots.triangular_power import eigenvalue_condition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NEAR", "NegativeAxis", "Singularity"]

Array: TypeAlias = "NDArray[Any]"

NEAR: Final = 1e-2
"""Eigenvalues at a larger angle to the negative axis, in radians, are not looked at again: chosen so that few are. One
that rounding moves farther is not known to a hundredth of itself."""
_SURE: Final = 0.1
"""Largest part of its room that an uncertainty may be to be trusted: it is of first order, and the second order of a
tenth is a hundredth."""


@dataclass(frozen=True, slots=True)
class Singularity:
    """How near a matrix (n, n) is to singular, which scaling rows and columns does not change.

    Attributes:
        sigma: the singular values of A, descending.
        scaled: A, its rows and columns scaled where it is singular to a backward error as it is.
        ratio: sigma_min / sigma_max of that.
        unit: the spacing of the arithmetic times sqrt(n).
    """

    sigma: Array
    scaled: Array
    ratio: float
    unit: float

    @classmethod
    def of(cls, a: Array, spacing: float) -> Self:
        """Takes the singular values of A and, if need be, of A scaled."""
        sigma, unit = np.linalg.svd(a, compute_uv=False), math.sqrt(len(a)) * spacing
        if sigma[-1] > BACKWARD_ERROR * unit * sigma[0]:
            return cls(sigma, a, float(sigma[-1] / sigma[0]), unit)
        scaled = _equilibrated(a)
        least = np.linalg.svd(scaled, compute_uv=False)
        return cls(sigma, scaled, float(least[-1] / least[0]) if least[0] else 0.0, unit)

    @property
    def is_singular(self) -> bool:
        """Whether A is singular to rounding."""
        return self.ratio <= self.unit

    @property
    def condition(self) -> float:
        """sigma_max / sigma_min of A as it is, up to 1 / unit^2."""
        top = float(self.sigma[0])
        return top / max(float(self.sigma[-1]), self.unit**2 * top) if top else math.inf

    @property
    def determinant_sign(self) -> int:
        """The sign of det A of a real matrix, 0 where a backward error may change it."""
        if np.iscomplexobj(self.scaled) or self.ratio <= BACKWARD_ERROR * self.unit:
            return 0
        return int(np.linalg.slogdet(self.scaled)[0])


def _equilibrated(a: Array) -> Array:
    """A with rows and then columns scaled by powers of two to largest entries near 1."""
    for axis in (1, 0):
        peak = np.abs(a).max(axis=axis, keepdims=True)
        a = a / np.ldexp(np.ones_like(peak), np.frexp(peak)[1])
    return a


class NegativeAxis(Enum):
    """Where the eigenvalues of a matrix are."""

    CLEAR = auto()
    MET = auto()
    UNKNOWN = auto()

    @classmethod
    def of(cls, a: Array, t: Array, singularity: Singularity, noise: float) -> NegativeAxis:
        """That of A, not singular as it stands, with a Schur form T that is known to within `noise`."""
        exact, is_all = _exact_eigenvalues(a)
        if ((exact.imag == 0) & (exact.real < 0)).any():
            return cls.MET
        if is_all:
            return cls.CLEAR
        sign = singularity.determinant_sign
        if sign < 0 or (np.array_equal(a, a.conj().T) and t.diagonal().real.min() < -noise):
            return cls.MET
        surely, perhaps = _on_axis(t, noise)
        if surely.any():
            return cls.UNKNOWN if np.iscomplexobj(a) else cls.MET
        # An eigenvalue alone in being small is real, and has the sign of the determinant.
        vanishing = int((singularity.sigma <= noise).sum())
        return cls.UNKNOWN if perhaps.any() or vanishing > max(sign, 0) else cls.CLEAR


def _exact_eigenvalues(a: Array) -> tuple[Array, bool]:
    """Diagonal entries that are blocks of their own in the block triangular form of A, and whether all are."""
    _, block = connected_components(a != 0, connection="strong")
    alone = np.bincount(block)[block] == 1
    return a.diagonal()[alone], bool(alone.all())


def _on_axis(t: Array, noise: float) -> tuple[Array, Array]:
    """Of the eigenvalues of T that may be on the negative axis, which are surely there and which not surely."""
    values = t.diagonal()
    near = np.flatnonzero((values.real < 0) & (np.abs(values.imag) <= NEAR * np.abs(values)))
    uncertainty = noise * np.array([eigenvalue_condition(t, int(i)) for i in near])
    distance = np.abs(values[near, None] - values)
    distance[np.arange(len(near)), near] = np.inf
    room = np.minimum(distance.min(axis=1), np.abs(values[near]))
    alone = (uncertainty <= _SURE * room) & (distance[:, near] > uncertainty).all(axis=1)
    meets = np.abs(values[near].imag) <= uncertainty
    return meets & alone, meets & ~alone
