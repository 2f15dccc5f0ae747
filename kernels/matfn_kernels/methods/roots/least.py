"""Eigenvalues near zero, to a hundredth of the spacing in which eigh leaves several units.

The default damping is 8 eps less the smallest eigenvalue, which LAPACK knows to a few eps. Its eigenvectors V of the
small eigenvalues span an invariant subspace to within eps over the distance to the others, so that the eigenvalues of
V^H A V are off by eps^2 over that distance, if A V is computed with more digits than A has.
Reference: Parlett, The Symmetric Eigenvalue Problem (1998), chapter 11.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn_kernels.numbers import extended_product

if TYPE_CHECKING:
    from matfn_kernels.linalg.decompositions import Eigen
    from matfn_kernels.numbers.arrays import Array

__all__ = ["Lone", "lone", "refined"]

_SMALL: Final = 2.0**14
"""Largest of the eigenvalues that are refined, in eps of the largest one: with a residual of 16 eps the others change
them by 16^2 / 2^14 = 1/64 eps."""


_TEMPLE_MARGIN: Final = 2.0
"""How often the bound of Kato and Temple counts, whose gap is between eigenvalues as computed."""


@dataclass(frozen=True, slots=True)
class Lone:
    """Smallest eigenvalues (batch,) near zero, alone there, and how far off they may be; 0 and infinite elsewhere."""

    value: torch.Tensor
    noise: torch.Tensor

    @property
    def displacement(self) -> torch.Tensor:
        """By how much the positive part of each may be off, (batch,)."""
        above = (self.value + self.noise).clamp_min(0)
        return torch.where(self.value > 0, self.noise, above)


def lone(eigen: Eigen, near: torch.Tensor) -> Lone:
    """Rayleigh quotients of the first eigenvectors of matrices whose smallest eigenvalue, `near` zero, is alone there.

    A v costs O(n^2). With r = A v - rho v the eigenvalue is within ||r||^2 over the distance to the others (Kato and
    Temple): far nearer than the backward error of eigh.
    """
    values = eigen.w.to(torch.float64)
    found = Lone(torch.zeros_like(values[:, 0]), torch.full_like(values[:, 0], torch.inf))
    if values.shape[-1] == 1 or not values.is_cpu:
        return found
    wanted = near & (values[:, 1] > _SMALL * torch.finfo(eigen.w.dtype).eps * values[:, -1])
    if bool(wanted.any()):
        a, v = (x[wanted].resolve_conj().numpy() for x in (eigen.a, eigen.v[:, :, 0]))
        rho, noise = _rayleigh(a, v, values[wanted].numpy())
        found.value[wanted], found.noise[wanted] = torch.from_numpy(rho), torch.from_numpy(noise)
    return found


def _rayleigh(a: Array, v: Array, values: Array) -> tuple[Array, Array]:
    """v^H A v / v^H v and how far it may be from the first of the eigenvalues, (batch,) each."""
    image = _applied(a, v)
    wide = v.astype(image.dtype)
    rho = (wide.conj() * image).sum(-1).real / (np.abs(wide) ** 2).sum(-1)
    left = np.abs(image - rho[:, None] * wide)
    near = (left**2).sum(-1) / (values[:, 1] - rho)
    rounding = 2 * extended_product.CANCELLING * v.shape[-1] * values[:, -1]
    return rho.astype(np.float64), (_TEMPLE_MARGIN * near + rounding).astype(np.float64)


def _applied(a: Array, v: Array) -> Array:
    """A v in extended precision, relative to the sizes of its terms where they cancel, (batch, n)."""
    if not np.iscomplexobj(a):
        return extended_product.product(a, v[..., None])[..., 0]
    whole = np.concatenate([a.real, a.imag], -1)
    parts = np.concatenate([np.stack([v.real, v.imag], -1), np.stack([-v.imag, v.real], -1)], -2)
    found = extended_product.product(whole, parts)
    return np.asarray(found[..., 0] + 1j * found[..., 1])


def refined(eigen: Eigen, wanted: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Eigenvalues of A, ascending (batch, n) in float64, the small ones of some matrices refined.

    Args:
        eigen: the decomposition.
        wanted: the matrices to refine (batch,).
        noise: norm of a column of the backward error (batch,); a value that moved by more is no refinement.
    """
    values = eigen.w.to(torch.float64, copy=True)  # the decomposition may serve other programs too
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
