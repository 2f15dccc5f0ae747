"""Powers of matrices: symmetric ones by their eigenvalues, others by scipy's Schur-Padé algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from matfn_kernels.reference.arrays import each, negligible, through_eigenvalues, wide

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["inv_root", "power", "root", "sqrt_pair"]


def power(a: Array, exponent: float, shift: float | Array = 0.0, *, lifts: bool = False) -> Array:
    """((A + A^H) / 2 + shift I)^exponent for a (batch, n, n), eigenvalues clamped at 0; shift a number or (batch,).

    With `lifts` the negative eigenvalues of matrices that have one below -8 eps of the largest count as 0 before.
    """

    def image(w: Array) -> Array:
        lifted = (w[..., :1] < -negligible(a) * w[..., -1:]) & lifts
        return np.asarray(
            np.maximum(np.where(lifted, np.maximum(w, 0), w) + np.asarray(shift)[..., None], 0) ** exponent
        )

    with np.errstate(divide="ignore"):
        return through_eigenvalues(a, image)


def _range_power(a: Array, exponent: float) -> Array:
    """The power of the eigenvalues above 8 eps of the largest, 0 of the others."""

    def image(w: Array) -> Array:
        keep = w > negligible(a) * w[..., -1:]
        return np.where(keep, np.where(keep, w, 1) ** exponent, 0)

    return through_eigenvalues(a, image)


def _general_power(a: Array, exponent: float, shift: float | Array) -> Array:
    """The principal power of A + shift I, real for a real matrix."""

    def of_one(a: Array, shift: float) -> Array:
        found: Array = scipy.linalg.fractional_matrix_power(a + shift * np.eye(len(a)), exponent)
        return found if np.iscomplexobj(a) else found.real

    return each("(n,n),()->(n,n)", of_one, wide(a), shift)


def _power(a: Array, exponent: float, structure: str, damping: object, added: tuple[float | Array, bool]) -> Array:
    shift, lifts = added
    if structure == "general":
        return _general_power(a, exponent, shift)
    return _range_power(a, exponent) if damping == "range" else power(a, exponent, shift, lifts=lifts)


def root(  # noqa: PLR0913 - the function's own arguments
    a: Array,
    g: Array | None = None,
    *,
    r: int,
    s: int,
    structure: str,
    damping: object,
    shift: float | Array,
    lifts: bool,
) -> Array:
    """A^(s/r) or G A^(s/r) for a (batch, n, n), g (batch, m, n); damping counts as `shift`, unless it is "range"."""
    value = _power(a, s / r, structure, damping, (shift, lifts))
    return value if g is None else wide(g) @ value


def inv_root(  # noqa: PLR0913 - the function's own arguments
    a: Array,
    g: Array | None = None,
    *,
    r: int,
    s: int,
    structure: str,
    damping: object,
    shift: float | Array,
    lifts: bool,
) -> Array:
    """A^(-s/r) or G A^(-s/r), likewise."""
    return root(a, g, r=r, s=-s, structure=structure, damping=damping, shift=shift, lifts=lifts)


def sqrt_pair(a: Array, *, structure: str, damping: object, shift: float | Array, lifts: bool) -> tuple[Array, Array]:
    """(A^(1/2), A^(-1/2)) of the same shifted matrix."""
    added = (shift, lifts)
    return _power(a, 0.5, structure, damping, added), _power(a, -0.5, structure, damping, added)
