"""The matrix sign and its projectors, by a Schur form with the right half plane first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from matfn_kernels.reference.arrays import each, wide

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["mcsgn", "spectral_projector"]


def mcsgn(a: Array) -> Array:
    """A (A^2)^(-1/2) for a (batch, n, n) without an eigenvalue on the imaginary axis."""
    return each("(n,n)->(n,n)", _sign, wide(a))


def spectral_projector(a: Array, *, half: str) -> Array:
    """(I + S) / 2 for the right half plane, (I - S) / 2 for the left, S the sign of a (batch, n, n)."""
    side = 1 if half == "right" else -1
    value: Array = (np.eye(a.shape[-1]) + side * mcsgn(a)) / 2
    return value


def _sign(a: Array) -> Array:
    """Q [[I, X], [0, -I]] Q^H of A = Q [[T, C], [0, R]] Q^H, where T X - X R = 2 C, so that it commutes with A."""
    t, q, right = scipy.linalg.schur(a, output="complex", sort="rhp")
    sign = np.diag(np.where(np.arange(len(a)) < right, 1, -1)).astype(complex)
    if 0 < right < len(a):
        sign[:right, right:] = scipy.linalg.solve_sylvester(
            t[:right, :right], -t[right:, right:], 2 * t[:right, right:]
        )
    value: Array = q @ sign @ q.conj().T
    return value if np.iscomplexobj(a) else value.real
