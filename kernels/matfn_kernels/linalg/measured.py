"""Backward errors of decompositions as measured, where they exceed what the libraries are known to leave.

Estimates rest on laws: LAPACK's backward error is a few eps. A library may break its law and report success. So each
result is applied to a few random columns, O(n^2) a column, and compared with the matrix. Within its law a result counts
as exact here, and the law is all of its error; beyond, what was measured is.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.native.library import library
from matfn_kernels.linalg.native.structures import ResidualsPlan

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BACKWARD_ERROR",
    "MARGIN",
    "laws",
    "orthogonality",
    "row_error",
    "skewness",
    "undecomposed",
    "unexplained",
    "unfactored",
    "unsolved",
]

BACKWARD_ERROR: Final = 8.0
"""Backward error of eigh and svd in units of eps times the norm, as seen up to order 2048 but for single rows.

The largest row of V^T (A - V diag(w) V^T) V of 1200 Gaussian matrices of order 8 to 64 was 13 by LAPACK's divide and
conquer, 18 in lockstep, 15 by LAPACK's QL. Estimates place such a row where it does most harm: they are 10 to 30 times
the error in the median (`make study`).

Bidiagonal QR may lose more in a few places: where a bound for svd in double precision is needed it is measured."""
_GROWTH: Final = 0.4
"""Rows of the backward error of matrices within 1e-9 of a multiple of I were 7 eps of the norm at order 128, 12 at 512
and 15 at 1024, in the root mean square, the skewness of V included. Each counts once as a row and once as a column."""
MARGIN: Final = 4.0
"""How often a measured error counts: four Gaussian columns see less than a quarter of one that lies in a single row
once in 140 times."""


_ROTATED: Final = 5.0
_ROTATIONS: Final = 0.75
"""||V^H V - I||_F / sqrt(n) of V (n, n) in units of eps: at most 6.3 at order 8, 8.1 at 64, 9.4 at 65, 10.3 at 96, 12.5
at 256 and 21.5 at 1024, of 60 000 real and complex matrices of clustered, graded and random spectra. A function that is
nearly constant on the eigenvalues is off by just as much."""
_LOSSES: Final = 128.0
"""More of eps times the norm than bidiagonal QR has been seen to drop, in the Frobenius norm."""
_SLACK: Final = 4.0
"""How often the law of one column must be exceeded, in the Frobenius norm, for it to be broken.

Honest decompositions reached 1.9 times that (order 1024 in float32, the rounding of the measurement included)."""


def row_error(order: int) -> float:
    """Backward error of eigh in a row, in units of eps times the norm, to place where it does most harm."""
    return max(BACKWARD_ERROR, _GROWTH * math.sqrt(order))


def orthogonality(order: int) -> float:
    """Distance of LAPACK's eigenvectors from orthonormality, and relative error of their products, in units of eps."""
    return max(BACKWARD_ERROR, _ROTATED + _ROTATIONS * math.sqrt(order))


def unexplained(a: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """||A - Q diag(w) Q^H||_F, Q orthonormal and near V, and ||V^H V - I||_F; both 0 where LAPACK's law holds.

    Args:
        a: Hermitian (batch, n, n).
        w: its eigenvalues (batch, n) as computed.
        v: its eigenvectors (batch, n, n) as computed.

    Returns:
        Two tensors (batch,) of float64.
    """
    if _is_native(a):
        return _natively(a.contiguous(), w.contiguous(), v.mT.contiguous())
    order = a.shape[-1]
    z = probes.gaussian(a, order).to(a.dtype).mT
    turned = invariant.product(z, v.conj())
    images = invariant.product(torch.cat((turned * w[:, None, :], turned), dim=1), v.mT)
    wanted = torch.cat((invariant.product(z, a.mT), z), dim=1)
    lengths = invariant.row_norm((wanted - images).reshape(len(a), 2, -1), torch.float64) / math.sqrt(probes.COUNT)
    missing, skew = lengths[:, 0], lengths[:, 1]
    top, (law, skew_law) = w.abs().amax(-1).to(torch.float64), laws(a.dtype, order, order)
    holds = (missing <= law * top) & (skew <= skew_law)
    return torch.where(holds, 0.0, MARGIN * (missing + skew * top)), torch.where(holds, 0.0, MARGIN * skew)


def skewness(q: Tensor) -> Tensor:
    """||Q^H Q - I||_F of Q (batch, m, n) with orthonormal columns, 0 where LAPACK's law holds, (batch,) float64."""
    if _is_native(q):
        return _natively(None, None, q.contiguous())[1]
    order = q.shape[-1]
    z = probes.gaussian(q, order).to(q.dtype)
    found = invariant.matrix_norm((probes.times(q.mH, probes.times(q, z)) - z).mT, torch.float64)
    skew = found / math.sqrt(probes.COUNT)
    return torch.where(skew <= laws(q.dtype, q.shape[-2], order)[1], 0.0, MARGIN * skew)


def laws(dtype: torch.dtype, rows: int, columns: int) -> tuple[float, float]:
    """Largest residual relative to the largest value, and largest skewness, that LAPACK's law explains."""
    unit = _SLACK * torch.finfo(dtype).eps * math.sqrt(columns)
    return BACKWARD_ERROR * unit, orthogonality(rows) * unit


def _is_native(x: Tensor) -> bool:
    """Whether the kernels in C measure, which take what torch does 20 operations for."""
    return x.is_cpu and not x.dtype.is_complex and library() is not None


def _natively(a: Tensor | None, w: Tensor | None, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Backward error and skewness beyond the laws of vectors (batch, m, n) by rows; without A the latter alone."""
    items, rows, columns = vectors.shape
    plan, _ = _plan(items, rows, columns, vectors.dtype)
    space, out = (torch.empty(size, dtype=torch.float64) for size in (3 * probes.COUNT * columns, (2, items)))
    pointers = (0 if x is None else x.data_ptr() for x in (a, w, vectors, space, out))
    _entry(vectors.dtype)(plan, *pointers)
    backward, skew = out.unbind()
    return backward, skew


@lru_cache(maxsize=256)
def _plan(items: int, rows: int, columns: int, dtype: torch.dtype) -> tuple[Any, Tensor]:
    """The plan of a batch's residuals, and what it points to."""
    z = probes.columns(columns)
    return ctypes.byref(ResidualsPlan(items, rows, columns, z.data_ptr(), *laws(dtype, rows, columns), MARGIN)), z


@cache
def _entry(dtype: torch.dtype) -> Any:
    entry = getattr(library(), "matfn_unexplained_f32" if dtype == torch.float32 else "matfn_unexplained_f64")
    entry.argtypes, entry.restype = [ctypes.c_void_p] * 6, None
    return entry


def undecomposed(m: Tensor, u: Tensor, sigma: Tensor, vh: Tensor) -> tuple[Tensor, Tensor]:
    """||M - U diag(sigma) V^H||_F, 0 where LAPACK's law holds, and the `skewness` of both bases, (batch,) float64.

    M is square: the rows of V^H are orthonormal where its columns are.
    """
    z = probes.gaussian(m, m.shape[-1]).to(m.dtype)
    image = probes.times(u, sigma[..., None] * probes.times(vh, z))
    missing = invariant.matrix_norm((probes.times(m, z) - image).mT, torch.float64) / math.sqrt(probes.COUNT)
    unit = max(_LOSSES, _SLACK * BACKWARD_ERROR * math.sqrt(m.shape[-1])) * torch.finfo(m.dtype).eps
    holds = missing <= unit * sigma.amax(-1).to(torch.float64)
    return torch.where(holds, 0.0, MARGIN * missing), skewness(u) + skewness(vh)


def unfactored(a: Tensor, factor: Tensor) -> Tensor:
    """||D (A - L L^H) D||_F with D A D of unit diagonal, 0 where Cholesky's law holds, (batch,) float64."""
    order = a.shape[-1]
    scale = a.diagonal(dim1=-2, dim2=-1).real.clamp_min(torch.finfo(a.dtype).tiny).rsqrt()[..., None]
    z = scale * probes.gaussian(a, order).to(a.dtype)
    missing = scale * (probes.times(a, z) - probes.times(factor, probes.times(factor.mH, z)))
    size = invariant.matrix_norm(missing.mT, torch.float64) / math.sqrt(probes.COUNT)
    law = BACKWARD_ERROR * torch.finfo(a.dtype).eps * order
    return torch.where(size <= law, 0.0, MARGIN * size)


def unsolved(t: Tensor, x: Tensor, b: Tensor) -> Tensor:
    """||B - T X||_F / (||T||_F ||X||_F), 0 where the law of substitution holds, (batch,) float64; X few columns."""
    missing = invariant.matrix_norm((b - probes.times(t, x)).mT, torch.float64)
    size = invariant.matrix_norm(t, torch.float64) * invariant.matrix_norm(x.mT, torch.float64)
    law = BACKWARD_ERROR * torch.finfo(t.dtype).eps * size
    return torch.where(missing <= law, 0.0, MARGIN * missing / size)
