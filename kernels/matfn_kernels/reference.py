"""The definitions, written out naively in float64 with numpy: the truth that everything here is compared to.

Nothing is shared with the kernels on purpose, neither code nor library routine beyond LAPACK's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["dplr_matrix", "mclip", "msign", "power", "relative_error", "triangle"]

Array: TypeAlias = "NDArray[Any]"


def _wide(a: Array) -> Array:
    wide: Array = a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)
    return wide


def power(a: Array, exponent: float, shift: float | Array = 0.0) -> Array:
    """((A + A^H) / 2 + shift I)^exponent for a (batch, n, n), eigenvalues clamped at 0; shift a number or (batch,)."""
    wide = _wide(a)
    w, v = np.linalg.eigh((wide + np.conj(np.swapaxes(wide, -1, -2))) / 2)
    w = np.maximum(w + np.asarray(shift)[..., None], 0)
    with np.errstate(divide="ignore"):
        f = w**exponent
    value: Array = (v * f[..., None, :]) @ np.conj(np.swapaxes(v, -1, -2))
    return value


def msign(m: Array, threshold: float) -> Array:
    """U V^H over the singular values above threshold * sigma_max, for m (batch, m, n)."""
    u, s, vh = np.linalg.svd(_wide(m), full_matrices=False)
    keep = s > threshold * s[..., :1]
    value: Array = (u * keep[..., None, :]) @ vh
    return value


def mclip(m: Array, hi: float, lo: float, threshold: float) -> Array:
    """U clip(S, lo, hi) V^H, lo on singular values above threshold * sigma_max only, for m (batch, m, n)."""
    u, s, vh = np.linalg.svd(_wide(m), full_matrices=False)
    lifted = np.where(s > threshold * s[..., :1], np.maximum(s, lo), s)
    value: Array = (u * np.minimum(lifted, hi)[..., None, :]) @ vh
    return value


def triangle(t: Array, *, lower: bool, unit: bool) -> Array:
    """The triangle of t (batch, n, n) that is read, in float64, zero elsewhere."""
    part = np.tril(_wide(t)) if lower else np.triu(_wide(t))
    if unit:
        part[..., np.arange(t.shape[-1]), np.arange(t.shape[-1])] = 1
    return part


def dplr_matrix(diag: Array, q: Array, k: Array) -> Array:
    """diag(l) + tril(Q K^T, -1) for diag (batch, n), q and k (batch, n, d)."""
    full = np.tril(_wide(q) @ np.swapaxes(_wide(k), -1, -2), -1)
    full[..., np.arange(diag.shape[-1]), np.arange(diag.shape[-1])] = diag
    return full


def relative_error(x: Array, truth: Array) -> Array:
    """||X - X*||_F / ||X*||_F over the last two dimensions, 0 where both vanish."""
    size = np.linalg.norm(truth, axis=(-2, -1))
    error = np.linalg.norm(_wide(x) - truth, axis=(-2, -1))
    relative: Array = np.where(size > 0, error / np.where(size > 0, size, 1), error)
    return relative
