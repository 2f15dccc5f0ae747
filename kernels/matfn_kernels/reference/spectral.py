"""Logarithms, exponentials and real powers: of symmetric matrices by their eigenvalues, of others by scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from matfn_kernels.reference.arrays import each, negligible, through_eigenvalues, wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from matfn_kernels.reference.arrays import Array

__all__ = ["exp", "log", "real_power"]


def exp(a: Array, *, t: float, structure: str) -> Array:
    """e^(t A) for a (batch, n, n)."""
    if structure == "general":
        return each("(n,n)->(n,n)", lambda one: np.asarray(scipy.linalg.expm(t * one)), wide(a))
    with np.errstate(over="ignore"):
        return through_eigenvalues(a, lambda w: np.exp(t * w))


def log(a: Array, *, structure: str, damping: object, shift: float | Array, lifts: bool) -> Array:
    """The principal logarithm of A + shift I; with damping="range" 0 on eigenvalues of at most 8 eps of the largest."""
    if structure == "general":
        return _general(a, shift, scipy.linalg.logm)
    return _of_shifted(a, np.log, damping == "range", shift, lifts)


def real_power(  # noqa: PLR0913 - the function's own arguments
    a: Array,
    g: Array | None = None,
    *,
    p: float,
    structure: str,
    damping: object,
    shift: float | Array,
    lifts: bool,
) -> Array:
    """(A + shift I)^p or G (A + shift I)^p, likewise; eigenvalues below 0 count as 0 where p is no whole number."""
    whole = float(p).is_integer()
    if structure == "general" and whole:
        value = _general(a, shift, lambda one: np.linalg.matrix_power(one, int(p)))
    elif structure == "general":
        value = _general(a, shift, lambda one: scipy.linalg.fractional_matrix_power(one, p))
    else:
        value = _of_shifted(a, lambda w: (w if whole else np.maximum(w, 0)) ** p, damping == "range", shift, lifts)
    return value if g is None else wide(g) @ value


def _of_shifted(a: Array, f: Callable[[Array], Array], is_of_range: bool, shift: float | Array, lifts: bool) -> Array:
    """f(A + shift I); with `lifts` negative eigenvalues beyond rounding count as 0 before."""

    def image(w: Array) -> Array:
        lifted = (w[..., :1] < -negligible(a) * w[..., -1:]) & lifts
        shifted = np.where(lifted, np.maximum(w, 0), w) + np.asarray(shift)[..., None]
        if not is_of_range:
            return np.asarray(f(shifted))
        keep = np.abs(shifted) > negligible(a) * np.abs(shifted).max(-1, keepdims=True)
        return np.where(keep, f(np.where(keep, shifted, 1)), 0)

    with np.errstate(all="ignore"):
        return through_eigenvalues(a, image)


def _general(a: Array, shift: float | Array, f: Callable[[Array], Array]) -> Array:
    """f(A + shift I), real for a real matrix."""

    def of_one(a: Array, shift: float) -> Array:
        found = np.asarray(f(a + shift * np.eye(len(a))))
        return found if np.iscomplexobj(a) else found.real

    return each("(n,n),()->(n,n)", of_one, wide(a), shift)
