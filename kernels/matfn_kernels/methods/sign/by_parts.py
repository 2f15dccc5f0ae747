"""Signs of badly scaled matrices: by uncoupled parts, by balancing, or, of triangular ones, entry by entry.

Rounding is relative to the largest entry of what is computed at once, so that a part of a matrix that is 1e16 times as
small as another has no sign beside it, but has one by itself. Three ways out, none of which rounds A: rows and columns
that no entry couples to others are a matrix of their own; a diagonal similarity by powers of two, A = D B D^-1, evens
out rows and columns, and S = D sign(B) D^-1; and of a matrix that is triangular up to the order of its rows each entry
of the sign follows from those nearer to the diagonal, without cancellation between eigenvalues of different signs,
together with a bound on its rounding.
References: Parlett and Reinsch, Numer. Math. 13 (1969); Higham, Functions of Matrices (2008), algorithm 5.5.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.linalg import matrix_balance
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from matfn_kernels.methods.sign.newton_schur import Sign, certified_sign
from matfn_kernels.numbers.arrays import EPS, Array, norm, shifted
from matfn_kernels.numbers.extended_product import EXTENDED, narrow, wide

__all__ = ["sign_by_parts"]

_COMPLEX: Final = 4
"""How often rounding counts where numbers are complex: a product has 5^(1/2) times the rounding of a real one."""
_ROOM: Final = 900
"""Exponent of the largest entry while a matrix is balanced: small entries keep their digits, sums do not overflow."""


def sign_by_parts(a: Array) -> Sign | None:
    """The sign of A (n, n) of any scale, None where some part has none that can be vouched for."""
    labels = _parts(a, "weak")
    value, missing = np.zeros_like(a), 0.0
    found = []
    for label in range(labels.max() + 1):
        here = np.flatnonzero(labels == label)
        part = _coupled(a[np.ix_(here, here)])
        if part is None:
            return None
        value[np.ix_(here, here)] = part.value
        missing = math.hypot(missing, part.error * norm(part.value))
        found.append(part)
    return Sign(
        value=value,
        steps=max(part.steps for part in found),
        residual=max(part.residual for part in found),
        error=missing / norm(value),
        condition=max(part.condition for part in found),
    )


def _coupled(a: Array) -> Sign | None:
    """The sign of a matrix whose rows are all coupled, by the first way that can vouch for it."""
    for way in (_plain, _balanced, _triangular):
        found = way(a)
        if found is not None and math.isfinite(found.error):
            return found
    return None


def _plain(a: Array) -> Sign | None:
    return certified_sign(_at(a, 0)) if a.any() else None


def _balanced(a: Array) -> Sign | None:
    """The sign by a similar matrix with rows and columns of like size, its errors weighed as they count in A."""
    if not a.any():
        return None
    even, (scale, _) = matrix_balance(_at(a, _ROOM), permute=False, separate=True)
    states = np.frexp(scale)[1]
    weights = np.ldexp(1.0, states[:, None] - states)
    return certified_sign(_at(even, 0), weights) if np.isfinite(weights).all() and (weights > 0).all() else None


def _at(a: Array, exponent: int) -> Array:
    """A by a power of two, its largest entry near 2^exponent."""
    return shifted(a, exponent - int(np.frexp(np.abs(a).max())[1]))


def _triangular(a: Array) -> Sign | None:
    """The sign of a matrix that an order of its rows and columns makes upper triangular."""
    order = np.argsort(-_parts(a, "strong"), kind="stable")
    t = a[np.ix_(order, order)]
    if np.tril(t, -1).any():
        order = order[::-1]
        t = a[np.ix_(order, order)]
    if np.tril(t, -1).any() or not t.diagonal().real.all():
        return None
    s, bound = _recurrence(wide(t))
    back = np.argsort(order)
    value = narrow(s)[np.ix_(back, back)]
    size = norm(value)
    condition = max(1.0, norm(narrow(bound)) / (EXTENDED * size))
    error = norm(narrow(bound)) / size + EPS
    return Sign(value, 0, error, error, condition) if math.isfinite(error) else None


def _recurrence(t: Array) -> tuple[Array, Array]:
    """The sign of upper triangular T, diagonal by diagonal, and bounds on the errors of its entries."""
    s, bound = np.diag(np.sign(t.diagonal().real)).astype(t.dtype), np.zeros_like(t.real)
    order = len(t)
    unit = 2 * (order + 2) * EXTENDED * (_COMPLEX if np.iscomplexobj(t) else 1)
    for distance in range(1, order):
        for i in range(order - distance):
            j = i + distance
            inner = slice(i + 1, j)
            if s[i, i] == s[j, j]:
                terms, by = -s[i, inner] * s[inner, j], 2 * s[i, i]
                moved = bound[i, inner] @ np.abs(s[inner, j]) + np.abs(s[i, inner]) @ bound[inner, j]
            else:
                across = s[i, inner] * t[inner, j], -t[i, inner] * s[inner, j]
                terms, by = np.concatenate([*across, [2 * s[i, i] * t[i, j]]]), t[i, i] - t[j, j]
                moved = bound[i, inner] @ np.abs(t[inner, j]) + np.abs(t[i, inner]) @ bound[inner, j]
            s[i, j] = terms.sum() / by
            bound[i, j] = (moved + unit * np.abs(terms).sum()) / np.abs(by) * (1 + unit) + unit * np.abs(s[i, j])
    return s, bound


def _parts(a: Array, connection: str) -> Array:
    """The number of the component that each row belongs to."""
    return np.asarray(connected_components(csr_array(a != 0), directed=True, connection=connection)[1])
