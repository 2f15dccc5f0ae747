"""Tests for Riccati equations that have no stabilising solution, to within the rounding of their numbers.

There is none if y^H B = 0 for a left eigenvector y of A that is not stable, if Q x = 0 for a right eigenvector x on the
imaginary axis (Hautus), or if another eigenvalue i omega of H = [[A, -G], [-Q, -A^T]] lies there, so that
[[0, A - i omega I, B], [A^T + i omega I, Q, 0], [B^T, 0, R]] is singular. Each counts as established where rounding of
the scaled equation's entries could make it so; those of G, which has the rank of B, are not perturbed.
Reference: Lancaster and Rodman, Algebraic Riccati Equations (1995), chapter 9.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import eig, svd

from matfn_kernels.numbers.arrays import EPS, norm

if TYPE_CHECKING:
    from matfn_kernels.methods.equations.riccati_terms import Riccati
    from matfn_kernels.numbers.arrays import Array

__all__ = ["unstabilisable"]

_CANDIDATES: Final = 4
"""Eigenvalues that are tested by an svd each: the least controllable ones, or those nearest to the imaginary axis.

Through an eigenvalue that is not among them no equation is refused: more of them would refuse more, and cost more."""


def unstabilisable(equation: Riccati) -> bool:
    """Whether it is established that no solution X makes A - G X stable."""
    a, rounding = equation.a, len(equation.a) * EPS * norm(equation.a)
    return (
        _unreachable(a, equation.b, -rounding, math.inf)
        or _unreachable(a.T, equation.q, -rounding, rounding)
        or _on_axis(equation)
    )


def _unreachable(a: Array, b: Array, least: float, most: float) -> bool:
    """Whether y^H B = 0 to rounding for a left eigenvector of A, its eigenvalue's real part from `least` to `most`."""
    values, vectors = eig(a, left=True, right=False)
    hold = np.abs(vectors.conj().T @ b).max(axis=1)
    hold[(values.real < least) | (values.real > most)] = math.inf
    weakest = [i for i in np.argsort(hold)[:_CANDIDATES] if hold[i] < math.inf]
    return any(_deficient(np.hstack([a - values[i] * np.eye(len(a)), b])) for i in weakest)


def _on_axis(equation: Riccati) -> bool:
    """Whether an eigenvalue of the Hamiltonian matrix is imaginary."""
    values = np.linalg.eigvals(equation.hamiltonian)
    nearest = values[np.argsort(np.abs(values.real))[:_CANDIDATES]].imag
    return any(_deficient(_extended(equation, omega)) for omega in nearest)


def _extended(equation: Riccati, omega: float) -> Array:
    """The Hermitian matrix that is singular where i omega is an eigenvalue."""
    b, nothing = equation.b, np.zeros_like(equation.b)
    shifted = equation.a - 1j * omega * np.eye(len(b))
    rows = [[np.zeros_like(shifted), shifted, b], [shifted.conj().T, equation.q, nothing], [b.T, nothing.T, equation.r]]
    return np.block(rows)


def _deficient(a: Array) -> bool:
    """Whether rounding of each entry could make the rows of A dependent."""
    u, sizes, v = svd(a, full_matrices=False)
    return bool(sizes[-1] <= len(a) * EPS * (np.abs(u[:, -1]) @ np.abs(a) @ np.abs(v[-1])))
