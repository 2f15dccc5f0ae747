"""Norms of batches of matrices and their distances, in the precision of their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["distance", "norm", "ratio"]

Array: TypeAlias = "NDArray[Any]"


def distance(x: Array, truth: Array, scale: Array | None = None) -> Array:
    """Norm of the difference of each item, relative to the scale or to the norm of the truth where that is not 0."""
    size = norm(truth) if scale is None else scale
    with np.errstate(all="ignore"):
        gap = norm(x - truth)
        found: Array = np.where(size > 0, gap / np.where(size > 0, size, 1), gap).astype(float)
    return found


def norm(x: Array) -> Array:
    """Frobenius norms (batch,) of x (batch, ...)."""
    flat = x.reshape(len(x), -1)
    total: Array = np.sqrt((flat.real**2 + flat.imag**2).sum(-1))
    return total


def ratio(x: Array, y: Array) -> Array:
    """Quotients in float64; by 0 infinite, and 0 of 0 by 0."""
    found: Array = np.where(y > 0, x / np.where(y > 0, y, 1), np.where(x > 0, np.inf, 0)).astype(float)
    return found
