"""Whether a Riccati equation has no stabilising solution, as far as rounding of its numbers lets one know.

It has none if B has no hold on a left eigenvector of A that is not stable, if Q shows nothing of a right eigenvector of
A on the imaginary axis (Hautus), or if another eigenvalue i omega of H = [[A, -G], [-Q, -A^T]] lies there, so that
H - i omega I is singular. Each counts as established where rounding of the scaled equation's entries could make it so.
Reference: Lancaster and Rodman, Algebraic Riccati Equations (1995), chapter 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import eig, svd

from matfn_kernels.sylvester_operator import EPS, norm

if TYPE_CHECKING:
    from matfn_kernels.riccati_equation import Riccati
    from matfn_kernels.sylvester_operator import Array

__all__ = ["unstabilisable"]

_NEAREST: Final = 4


def unstabilisable(equation: Riccati) -> bool:
    """Whether it is established that no X with the equation's residual zero makes A - G X stable."""
    values, left, right = eig(equation.a, left=True)
    rounding = len(values) * EPS * norm(equation.a)
    unreachable = _unseen(left[:, values.real >= -rounding], equation.b)
    unobserved = _unseen(right[:, np.abs(values.real) <= rounding], equation.q)
    return unreachable or unobserved or _on_axis(equation.hamiltonian)


def _unseen(vectors: Array, through: Array) -> bool:
    """Whether V^* M is zero for one of the vectors, to rounding."""
    seen = np.abs(vectors.conj().T @ through)
    parts = np.abs(vectors).T @ np.abs(through)
    return bool((seen <= len(vectors) * EPS * parts).all(axis=1).any())


def _on_axis(hamiltonian: Array) -> bool:
    """Whether an eigenvalue is imaginary."""
    values = np.linalg.eigvals(hamiltonian)
    nearest = values[np.argsort(np.abs(values.real))[:_NEAREST]].imag
    return any(_singular(hamiltonian - 1j * omega * np.eye(len(values))) for omega in nearest)


def _singular(a: Array) -> bool:
    """Whether rounding of each entry could make A singular."""
    u, sizes, v = svd(a)
    return bool(sizes[-1] <= len(a) * EPS * (np.abs(u[:, -1]) @ np.abs(a) @ np.abs(v[-1])))
