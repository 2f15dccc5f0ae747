"""Logarithms, exponentials and powers of Hermitian matrices in extended precision, and what they may be off by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

import long_double
from long_double import adjoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["spectral"]

Array: TypeAlias = "NDArray[Any]"

_LARGEST: Final = np.longdouble("1e400")
"""Numbers beyond it are out of the range of every dtype, and their squares of that of extended precision."""


def spectral(
    function: str, chosen: dict[str, Any], eigen: tuple[Array, Array], g: Array | None, shift: Array, cut: float
) -> tuple[Array, Array]:
    """The function of the matrices and its relative error, (batch, ...) and (batch,).

    Args:
        function: log, exp or power.
        chosen: its parameters.
        eigen: eigenvalues (batch, n) and eigenvectors of A in extended precision.
        g: matrices multiplied from the left (batch, m, n), or None.
        shift: the number added to the diagonal, (batch,).
        cut: eigenvalues whose magnitude is at most this part of the largest are dropped, where `damping` says so.
    """
    w, v = eigen
    f, drops = _function(function, chosen), chosen.get("damping") == "range"
    size = np.abs(w).max(-1, keepdims=True)
    noise = 4 * w.shape[-1] * long_double.EPS * size
    moved, keep = w + shift[:, None], np.abs(w) > (cut * size if drops else -1)
    image = np.where(keep, f(moved), 0)
    change = np.max([np.abs(np.where(keep, f(moved + side), 0) - image) for side in (noise, -noise)], axis=0).max(-1)
    near = (np.abs(np.abs(w) - cut * size) <= noise).any(-1) & drops
    change = np.where(near, np.inf, np.nan_to_num(change, nan=np.inf))
    left = np.broadcast_to(np.eye(w.shape[-1]), v.shape) if g is None else g
    value = ((left @ v) * image[:, None, :]) @ adjoint(v)
    value = np.where(np.abs(value).max((-2, -1), keepdims=True) < _LARGEST, value, np.nan)
    spread = np.linalg.norm(long_double.plain(left), axis=(-2, -1))
    spread = spread * (change + 4 * w.shape[-1] * long_double.EPS * np.abs(image).max(-1))
    whole = np.sqrt((np.abs(value) ** 2).sum((-2, -1)))
    error = np.where(whole > 0, spread / np.where(whole > 0, whole, 1), np.where(spread > 0, np.inf, 0))
    return value, np.nan_to_num(error, nan=np.inf).astype(float)


def _function(function: str, chosen: dict[str, Any]) -> Callable[[Array], Array]:
    if function == "log":
        return np.log
    if function == "exp":
        return lambda w: np.asarray(np.exp(np.longdouble(chosen["t"]) * w))
    p = np.longdouble(chosen["p"])
    return lambda w: np.asarray((w if p == np.rint(p) else np.maximum(w, 0)) ** p)
