"""Tests for Riccati equations that have no stabilising solution, to within the rounding of their numbers.

There is none if y^H B = 0 for a left eigenvector y of A that is not stable, if Q x = 0 for a right eigenvector x on the
boundary of stability (Hautus), or if another eigenvalue z of the plain equation's pencil lies there, so that
[[0, A - z I, B], [A^H - conj(z) I, Q, 0], [B^H, 0, R]] is singular. Each counts as established where rounding of
the scaled equation's entries could make it so; those of G, which has the rank of B, are not perturbed.
Reference: Lancaster and Rodman, Algebraic Riccati Equations (1995), chapters 9 and 13.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import eig, svd

from matfn_kernels.numbers.arrays import EPS, norm, shifted

if TYPE_CHECKING:
    from matfn_kernels.methods.equations.riccati_terms import Plain, Riccati
    from matfn_kernels.numbers.arrays import Array

__all__ = ["unstabilisable"]

_CANDIDATES: Final = 4
"""Eigenvalues that are tested by an svd each: the least controllable ones, or those nearest to the imaginary axis.

Through an eigenvalue that is not among them no equation is refused: more of them would refuse more, and cost more."""
_RESOLVED: Final = 1e-8
"""Rounding of the pencil's eigenvalues relative to the boundary of stability above which they are taken for noise; a
double eigenvalue moves by the square root of it. Zero weights beside a huge B, cheap control, are such."""
_SWEEPS: Final = 3
"""Times that rows and columns are scaled; the first brings them within the square root of their spread."""


def unstabilisable(equation: Riccati) -> bool:
    """Whether it is established that no solution X makes the closed loop stable; not if R is singular."""
    try:
        plain = equation.plain()
    except np.linalg.LinAlgError:
        return False
    rounding = len(plain.a) * EPS * norm(plain.a)
    return (
        _unreachable(equation, plain.a, equation.b, (-rounding, math.inf))
        or _unreachable(equation, plain.a.conj().T, plain.q, (-rounding, rounding))
        or _on_axis(equation, plain)
    )


def _unreachable(equation: Riccati, a: Array, b: Array, between: tuple[float, float]) -> bool:
    """Whether y^H B = 0 to rounding for a left eigenvector of A, its eigenvalue's instability between two bounds."""
    values, vectors = eig(a, left=True, right=False)
    hold, instability = np.abs(vectors.conj().T @ _even_columns(b)).max(axis=1), equation.instability(values)
    hold[(instability < between[0]) | (instability > between[1])] = math.inf
    weakest = [i for i in np.argsort(hold)[:_CANDIDATES] if hold[i] < math.inf]
    return any(_deficient(np.hstack([a - values[i] * np.eye(len(a)), b])) for i in weakest)


def _on_axis(equation: Riccati, plain: Plain) -> bool:
    """Whether an eigenvalue of the pencil is on the boundary of stability; not where rounding leaves none its place."""
    if len(plain.a) * EPS * norm(plain.hamiltonian) > _RESOLVED * equation.boundary_size(plain):
        return False
    values = equation.pencil_values()
    nearest = values[np.argsort(np.abs(equation.instability(values)))[:_CANDIDATES]]
    return any(_deficient(_extended(equation, plain, z)) for z in equation.on_boundary(nearest))


def _extended(equation: Riccati, plain: Plain, z: complex) -> Array:
    """The Hermitian matrix that is singular where z is an eigenvalue."""
    b, nothing = equation.b, np.zeros_like(equation.b)
    moved = plain.a - z * np.eye(len(b))
    rows = [[np.zeros_like(moved), moved, b], [moved.conj().T, plain.q, nothing]]
    return np.block([*rows, [b.conj().T, nothing.T, equation.r]])


def _deficient(a: Array) -> bool:
    """Whether rounding of each entry could make the rows of A dependent.

    Units of rows and columns change neither what is dependent nor what is rounding: they are chosen so that no row and
    no column is small, since a decomposition is accurate to the largest entry.
    """
    a = _equilibrated(a)
    u, sizes, v = svd(a, full_matrices=False)
    return bool(sizes[-1] <= len(a) * EPS * (np.abs(u[:, -1]) @ np.abs(a) @ np.abs(v[-1])))


def _equilibrated(a: Array) -> Array:
    """A with its rows and columns multiplied by powers of two until the largest entry of each is near 1."""
    for _ in range(_SWEEPS):
        a = _even_columns(_even_columns(a.T).T)
    return a


def _even_columns(a: Array) -> Array:
    """A with the largest entry of each column in [1/2, 1); columns of zeros as they are."""
    peaks = np.abs(a).max(axis=0)
    return shifted(a, -np.where(peaks > 0, np.frexp(peaks)[1], 0))
