"""Complex Schur forms A = Q T Q^H of matrices without symmetry, and what they lose.

A real matrix is brought to its real Schur form first, so that a simple real eigenvalue is exactly real.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import rsf2csf, schur

from matfn_kernels.linalg import probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.methods.roots.triangular_power import norm
from matfn_kernels.numbers.arrays import gaussian

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["SLACK", "law", "nonsingular", "schur_form", "unexplained"]

_GROWTH: Final = 0.7
"""Backward error of a Schur form in units of sqrt(n) eps times the norm, as seen up to order 400."""
SLACK: Final = 16.0
"""How often that must be exceeded to be broken: in float32, where the real form is made complex, 4.6 times was seen."""
_UNLAWFUL_MARGIN: Final = 4.0
"""How often an error that breaks the law counts: it is measured on four random columns."""


def law(unit: float, order: int) -> float:
    """Backward error of a Schur form of an arithmetic with this spacing, relative to the norm."""
    return max(BACKWARD_ERROR, _GROWTH * math.sqrt(order)) * unit


def unexplained(a: Array, t: Array, q: Array, unit: float) -> tuple[float, float]:
    """||A - Q T Q^H|| with Q made unitary, and ||Q^H Q - I||, on random columns; both 0 within the law."""
    z = gaussian((len(a), probes.COUNT))
    turned = q.conj().T @ z
    missing, skew = (norm(x) / math.sqrt(probes.COUNT) for x in (a @ z - q @ (t @ turned), z - q @ turned))
    allowed, size = SLACK * law(unit, len(a)), norm(t)
    if missing <= allowed * size and skew <= allowed * math.sqrt(len(a)):
        return 0.0, 0.0
    return _UNLAWFUL_MARGIN * (missing + 2 * skew * size), 2 * _UNLAWFUL_MARGIN * skew


def schur_form(a: Array) -> tuple[Array, Array]:
    """T and Q of A = Q T Q^H, complex upper triangular T."""
    if np.iscomplexobj(a):
        t, q = schur(a, output="complex", check_finite=False)
        return t, q
    t, q = rsf2csf(*schur(a, output="real", check_finite=False), check_finite=False)
    return t, q


def nonsingular(t: Array, unit: float) -> Array:
    """T with eigenvalues that rounding made 0 lifted by as much."""
    lifted = t.copy()
    np.fill_diagonal(lifted, np.where(t.diagonal() == 0, unit * norm(t), t.diagonal()))
    return lifted
