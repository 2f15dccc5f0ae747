"""Whether a Riccati equation has no stabilising solution, as far as rounding of its numbers lets one know.

It has none if B has no hold on a left eigenvector of A that is not stable (Hautus), or if H = [[A, -G], [-Q, -A^T]] has
an eigenvalue on the imaginary axis: then the smallest singular value of H - i omega I is zero there. Either counts as
established where rounding of the scaled equation could make it so.
Reference: Lancaster and Rodman, Algebraic Riccati Equations (1995), chapter 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import eig, svdvals

from matfn_kernels.sylvester_operator import EPS, norm

if TYPE_CHECKING:
    from matfn_kernels.riccati_equation import Riccati
    from matfn_kernels.sylvester_operator import Array

__all__ = ["unstabilisable"]

_NEAREST: Final = 4


def unstabilisable(equation: Riccati) -> bool:
    """Whether it is established that no X makes A - G X stable."""
    return _unreachable(equation.a, equation.b) or _on_axis(equation.hamiltonian)


def _unreachable(a: Array, b: Array) -> bool:
    """Whether B has no hold, to rounding, on a left eigenvector of A that is not stable."""
    values, vectors = eig(a, left=True, right=False)
    rounding = len(values) * EPS
    unstable = values.real >= -rounding * norm(a)
    hold = np.abs(vectors.conj().T @ b)
    parts = np.abs(vectors).T @ np.abs(b)
    return bool((unstable & (hold <= rounding * parts).all(axis=1)).any())


def _on_axis(hamiltonian: Array) -> bool:
    """Whether an eigenvalue is imaginary to rounding."""
    values = np.linalg.eigvals(hamiltonian)
    nearest = values[np.argsort(np.abs(values.real))[:_NEAREST]].imag
    rounding = len(values) * EPS * norm(hamiltonian)
    return any(svdvals(hamiltonian - 1j * omega * np.eye(len(values)))[-1] <= rounding for omega in nearest)
