"""Eigenvalues near zero, to a hundredth of the spacing in which eigh leaves several units.

The default damping is 8 eps less the smallest eigenvalue, which LAPACK knows to a few eps. Its eigenvectors V of the
small eigenvalues span an invariant subspace to within eps over the distance to the others, so that the eigenvalues of
V^H A V are off by eps^2 over that distance, if A V is computed with more digits than A has.
Reference: Parlett, The Symmetric Eigenvalue Problem (1998), chapter 11.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn_kernels.numbers import extended_product

if TYPE_CHECKING:
    from matfn_kernels.linalg.decompositions import Eigen
    from matfn_kernels.numbers.arrays import Array

__all__ = ["refined"]

_SMALL: Final = 2.0**14
"""Largest of the eigenvalues that are refined, in eps of the largest one: with a residual of 16 eps the others change
them by 16^2 / 2^14 = 1/64 eps."""


def refined(eigen: Eigen, wanted: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Eigenvalues of A, ascending (batch, n) in float64, the small ones of some matrices refined.

    Args:
        eigen: the decomposition.
        wanted: the matrices to refine (batch,).
        noise: norm of a column of the backward error (batch,); a value that moved by more is no refinement.
    """
    values = eigen.w.to(torch.float64)
    limits = _SMALL * torch.finfo(eigen.w.dtype).eps * values[:, -1]
    for i in wanted.nonzero().flatten().tolist():
        count = int((values[i] < limits[i]).sum())
        a, v = (x.resolve_conj().cpu().numpy().copy() for x in (eigen.a[i], eigen.v[i, :, :count]))
        found = torch.from_numpy(_restricted(a, v)).to(values.device)
        moved = (found - values[i, :count]).abs()
        values[i, :count] = torch.where(moved <= math.sqrt(len(a)) * noise[i], found, values[i, :count])
    return values


def _restricted(a: Array, v: Array) -> Array:
    """Eigenvalues of V^H A V."""
    wide = v.astype(np.complex128 if np.iscomplexobj(v) else np.float64)
    image = _image(a, wide)
    restricted = wide.conj().T @ image
    return np.asarray(np.linalg.eigvalsh((restricted + restricted.conj().T) / 2))


def _image(a: Array, v: Array) -> Array:
    """A V rounded once to float64, summed with more digits than A has."""
    if a.dtype not in (np.float64, np.complex128):
        return np.asarray(a.astype(v.dtype) @ v)
    if not np.iscomplexobj(a):
        return extended_product.narrow(extended_product.product(a, v))
    whole, parts = np.vstack([a.real, a.imag]), np.hstack([v.real, v.imag])
    found = extended_product.product(whole, parts)
    n, k = v.shape
    real = found[:n, :k] - found[n:, k:]
    imaginary = found[:n, k:] + found[n:, :k]
    return np.asarray(extended_product.narrow(real) + 1j * extended_product.narrow(imaginary))
