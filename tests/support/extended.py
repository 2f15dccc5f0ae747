"""Decompositions and functions of batches in numpy's longdouble: the truth for answers with sixteen digits.

Jacobi's rotations, those of disjoint pairs of columns at once; nothing is shared with the kernels.
Reference: Golub and Van Loan, Matrix Computations (2013), sections 8.5 and 8.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["distance", "eigh", "embedded", "function_of", "inverse", "svd", "wide"]

Array: TypeAlias = "NDArray[Any]"
_SWEEPS = 40
"""Most sweeps; a few do for nearly all matrices."""
_DONE = 4 * float(np.finfo(np.longdouble).eps)
"""Cosines below it are rounding."""


def wide(x: Array) -> Array:
    """X in longdouble; a complex X (batch, m, n) as the real [[Re X, -Im X], [Im X, Re X]]."""
    return embedded(x).astype(np.longdouble)


def embedded(x: Array) -> Array:
    """X, or [[Re X, -Im X], [Im X, Re X]] of a complex X (batch, m, n)."""
    if not np.iscomplexobj(x):
        return x
    return np.concatenate(
        [np.concatenate([x.real, -x.imag], axis=-1), np.concatenate([x.imag, x.real], axis=-1)], axis=-2
    )


def distance(x: Array, truth: Array) -> Array:
    """||X - X*||_F / ||X*||_F of X (batch, m, n) and X* in longdouble, (batch,)."""
    error = np.sqrt(((wide(x) - truth) ** 2).sum((-2, -1)))
    found: Array = (error / np.sqrt((truth**2).sum((-2, -1)))).astype(np.float64)
    return found


def eigh(a: Array) -> tuple[Array, Array]:
    """Eigenvalues (batch, n), in no order, and eigenvectors (batch, n, n) of symmetric A (batch, n, n)."""
    a, v = a.copy(), np.broadcast_to(np.eye(a.shape[-1], dtype=np.longdouble), a.shape).copy()
    size = np.sqrt((a**2).sum((1, 2)))[:, None]
    for _ in range(_SWEEPS):
        largest = 0.0
        for p, q in _pairs(a.shape[-1]):
            between = a[:, p, q]
            largest = max(largest, float((abs(between) / size).max(initial=0)))
            c, s = _rotation(a[:, p, p], a[:, q, q], between)
            _rotate(a, p, q, c, s)
            _rotate(a.swapaxes(1, 2), p, q, c, s)
            _rotate(v, p, q, c, s)
        if largest < _DONE:
            break
    return np.einsum("bii->bi", a).copy(), v


def svd(m: Array) -> tuple[Array, Array, Array]:
    """U (batch, m, n), values (batch, n) in no order and V^T (batch, n, n) of M (batch, m, n), m >= n, of full rank."""
    u = m.copy()
    v = np.broadcast_to(np.eye(m.shape[-1], dtype=np.longdouble), (len(m), m.shape[-1], m.shape[-1])).copy()
    for _ in range(_SWEEPS):
        largest = 0.0
        for p, q in _pairs(m.shape[-1]):
            left, right = u[:, :, p], u[:, :, q]
            squares, between = ((left**2).sum(1), (right**2).sum(1)), (left * right).sum(1)
            largest = max(largest, float((abs(between) / np.sqrt(squares[0] * squares[1])).max(initial=0)))
            c, s = _rotation(*squares, between)
            _rotate(u, p, q, c, s)
            _rotate(v, p, q, c, s)
        if largest < _DONE:
            break
    values = np.sqrt((u**2).sum(1))
    return u / values[:, None, :], values, v.swapaxes(1, 2)


def function_of(a: Array, f: Callable[[Array], Array]) -> Array:
    """V f(w) V^T of symmetric A (batch, n, n)."""
    w, v = eigh(a)
    found: Array = (v * f(w)[:, None, :]) @ v.swapaxes(1, 2)
    return found


def inverse(t: Array, *, lower: bool) -> Array:
    """T^-1 of triangular T (batch, n, n) by substitution."""
    if not lower:
        return inverse(t.swapaxes(1, 2), lower=True).swapaxes(1, 2)
    x, order = np.zeros_like(t), t.shape[-1]
    for i in range(order):
        row = (np.arange(order) == i) - np.einsum("bk,bkj->bj", t[:, i, :i], x[:, :i])
        x[:, i] = row / t[:, i, i, None]
    return x


def _pairs(order: int) -> Iterator[tuple[Array, Array]]:
    """All pairs of indices, disjoint ones together."""
    places = np.arange(order + order % 2)
    for _ in range(max(len(places) - 1, 0)):
        half = len(places) // 2
        p, q = places[:half], places[half:][::-1]
        real = (p < order) & (q < order)
        yield p[real], q[real]
        places = np.concatenate([places[:1], places[-1:], places[1:-1]])


def _rotation(app: Array, aqq: Array, apq: Array) -> tuple[Array, Array]:
    """Cosine and sine that make apq zero."""
    safe = np.where(apq == 0, 1, apq)
    tau = (aqq - app) / (2 * safe)
    tangent = np.where(tau >= 0, 1, -1) / (abs(tau) + np.hypot(tau, 1))
    tangent = np.where(apq == 0, 0, tangent)
    cosine = 1 / np.hypot(tangent, 1)
    return cosine, cosine * tangent


def _rotate(x: Array, p: Array, q: Array, c: Array, s: Array) -> None:
    """Rotates the columns p and q of X (batch, m, n), in place."""
    left, right = x[:, :, p], x[:, :, q]
    x[:, :, p], x[:, :, q] = c[:, None] * left - s[:, None] * right, s[:, None] * left + c[:, None] * right
