"""Functions of the singular values, by numpy's svd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matfn_kernels.reference.arrays import adjoint, negligible, wide

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["cond", "mclip", "msign", "norm2", "polar"]


def msign(
    m: Array,
    threshold: float | None = None,
    *,
    steps: object = None,
    coefficients: object = None,
    scale: object = None,
) -> Array:
    """U V^H over the singular values above threshold * sigma_max, for m (batch, m, n).

    None stands for 8 eps of m's dtype, but at most of float32, which holds all numbers of half precision.

    The value does not depend on steps, coefficients and scale, which choose the iteration.
    """
    del steps, coefficients, scale
    u, s, vh = np.linalg.svd(wide(m), full_matrices=False)
    value: Array = (u * _in_range(s, m, threshold)[..., None, :]) @ vh
    return value


def mclip(m: Array, hi: float | None, lo: float, threshold: float | None = None) -> Array:
    """U clip(S, lo, hi) V^H, lo on singular values above threshold * sigma_max only, for m (batch, m, n)."""
    u, s, vh = np.linalg.svd(wide(m), full_matrices=False)
    lifted = np.where(_in_range(s, m, threshold), np.maximum(s, lo), s)
    value: Array = (u * np.minimum(lifted, np.inf if hi is None else hi)[..., None, :]) @ vh
    return value


def polar(m: Array) -> tuple[Array, Array]:
    """(U V^H, V S V^H), the first as by `msign`, for m (batch, m, n)."""
    u, s, vh = np.linalg.svd(wide(m), full_matrices=False)
    return (u * _in_range(s, m, None)[..., None, :]) @ vh, (adjoint(vh) * s[..., None, :]) @ vh


def norm2(m: Array) -> tuple[Array, Array]:
    """The largest singular value of m (batch, m, n), as both ends of an interval."""
    largest = np.linalg.svd(wide(m), compute_uv=False).max(-1)
    return largest, largest


def cond(m: Array) -> tuple[Array, Array]:
    """The quotient of the largest and the smallest singular value of m (batch, m, n), as both ends of an interval."""
    s = np.linalg.svd(wide(m), compute_uv=False)
    with np.errstate(divide="ignore"):
        quotient: Array = s.max(-1) / s.min(-1)
    return quotient, quotient


def _in_range(s: Array, m: Array, threshold: float | None) -> Array:
    limit = min(negligible(m), 8 * float(np.finfo(np.float32).eps)) if threshold is None else threshold
    above: Array = s > limit * s[..., :1]
    return above
