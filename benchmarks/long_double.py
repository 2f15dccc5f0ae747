"""Decompositions of batches of small matrices in numpy's extended precision, where float64 is no reference.

On x86 a long double has 64 bits and is 2048 times finer than float64. A float64 decomposition is orthogonalised and
finished by Jacobi rotations, which need no gap between eigenvalues and keep the digits of small singular values.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["EPS", "added", "adjoint", "eigh", "extended", "inverse", "plain", "substituted", "svd"]

Array: TypeAlias = "NDArray[Any]"

EPS: Final = float(np.finfo(np.longdouble).eps)
_SWEEPS: Final = 8
_SMALL: Final = 16
"""Rotations that turn by no more than so many eps are rounding."""
_DIGITS: Final = int(np.finfo(np.longdouble).nmant) + 1
"""Bits of a mantissa."""
_SLICES: Final = 3
"""Slices of a matrix that hold all its digits, but for entries far below the others of their row or column."""


def extended(a: Array) -> Array:
    """The same numbers as long doubles."""
    numbers: Array = a.astype(np.clongdouble if np.iscomplexobj(a) else np.longdouble)
    return numbers


def plain(a: Array) -> Array:
    """The nearest float64 or complex128 numbers."""
    numbers: Array = a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)
    return numbers


def adjoint(a: Array) -> Array:
    """A^H for a (batch, m, n)."""
    turned: Array = np.conj(np.swapaxes(a, -1, -2))
    return turned


def eigh(a: Array) -> tuple[Array, Array]:
    """Eigenvalues (batch, n), ascending, and eigenvectors (batch, n, n) of (A + A^H) / 2, by two-sided Jacobi."""
    full = extended(a)
    full = (full + adjoint(full)) / 2
    v = _orthonormal(np.linalg.eigh(plain(full))[1])
    t = adjoint(v) @ full @ v
    size = np.abs(t).max((-2, -1))
    for _ in range(_SWEEPS):
        if np.all(_off_diagonal(t) <= _SMALL * EPS * size):
            break
        for p, q in _rounds(a.shape[-1]):
            rotation = _rotation(t[:, p, p].real, t[:, q, q].real, t[:, p, q])
            _turn(t, p, q, rotation)
            _turn(np.swapaxes(t, -1, -2), p, q, (rotation[0], rotation[1], np.conj(rotation[2])))
            _turn(v, p, q, rotation)
    w = np.diagonal(t, axis1=-2, axis2=-1).real
    order = np.argsort(w, -1)
    return np.take_along_axis(w, order, -1), np.take_along_axis(v, order[:, None, :], -1)


def svd(m: Array) -> tuple[Array, Array, Array]:
    """U (batch, m, k), s (batch, k) descending and V^H (batch, k, n), by one-sided Jacobi; U is 0 where s is."""
    if m.shape[-2] < m.shape[-1]:
        u, s, vh = svd(adjoint(m))
        return adjoint(vh), s, adjoint(u)
    v = _orthonormal(adjoint(np.linalg.svd(plain(m), full_matrices=False)[2]))
    w = extended(m) @ v
    for _ in range(_SWEEPS):
        largest = np.longdouble(0)
        for p, q in _rounds(m.shape[-1]):
            inner = (np.conj(w[:, :, p]) * w[:, :, q]).sum(1)
            alpha, beta = (_squares(w[:, :, k]) for k in (p, q))
            scale = np.sqrt(alpha) * np.sqrt(beta)
            largest = max(largest, (np.abs(inner) / np.where(scale > 0, scale, 1)).max(initial=0))
            rotation = _rotation(alpha, beta, inner)
            _turn(w, p, q, rotation)
            _turn(v, p, q, rotation)
        if largest <= _SMALL * EPS:
            break
    s = np.sqrt(_squares(w))
    order = np.argsort(-s, -1)
    w, v, s = (np.take_along_axis(x, order[:, None, :] if x.ndim > 2 else order, -1) for x in (w, v, s))  # noqa: PLR2004 - (batch, n)
    return w / np.where(s > 0, s, 1)[:, None, :], s, adjoint(v)


def inverse(a: Array) -> Array:
    """A^-1 (batch, n, n), by Newton's iteration from float64's; NaN where A is singular or not finite."""
    full, one = extended(a), np.eye(a.shape[-1])
    x = extended(np.stack([_inverted(matrix) for matrix in plain(full)]))
    for _ in range(4):
        x = x @ (2 * one - full @ x)
    return x


def substituted(t: Array, b: Array, *, lower: bool) -> Array:
    """T^-1 B for triangles (batch, n, n) that are zero elsewhere, b (batch, n, m)."""
    t, x = extended(t), extended(b).astype(np.result_type(extended(t), extended(b)))
    order = t.shape[-1]
    for i in range(order) if lower else reversed(range(order)):
        done = slice(0, i) if lower else slice(i + 1, order)
        x[:, i] = (x[:, i] - (t[:, i, done, None] * x[:, done]).sum(1)) / t[:, i, i, None]
    return x


def added(start: Array, products: Sequence[tuple[Array, Array]]) -> Array:
    """Start + sum of X Y with twice the digits of a long double, rounded once; X (..., m, k), Y (..., k, n).

    Products of slices of the factors are exact (Ozaki, Ogita, Oishi and Rump, Numerical Algorithms 59 (2012)), and
    rounding of their sum is carried along.
    """
    if any(np.iscomplexobj(x) for x in (start, *(factor for pair in products for factor in pair))):
        return _complex_added(start, products)
    total, lost = start, np.zeros_like(start)
    for x, y in products:
        pairs = product(enumerate(_slices(x, -1, x.shape[-1])), enumerate(_slices(y, -2, x.shape[-1])))
        for (i, left), (j, right) in pairs:
            if i + j <= _SLICES:
                term = left @ right
                whole = total + term
                back = whole - total
                total, lost = whole, lost + ((total - (whole - back)) + (term - back))
    return np.asarray(total + lost)


def _complex_added(start: Array, products: Sequence[tuple[Array, Array]]) -> Array:
    real = [pair for x, y in products for pair in ((x.real, y.real), (-x.imag, y.imag))]
    imaginary = [pair for x, y in products for pair in ((x.real, y.imag), (x.imag, y.real))]
    return np.asarray(added(start.real, real) + 1j * added(start.imag, imaginary))


def _slices(x: Array, axis: int, terms: int) -> list[Array]:
    """Parts of X with so few bits, counted from the largest entry along the axis, that sums of products are exact."""
    bits, parts = (_DIGITS - terms.bit_length()) // 2, []
    for _ in range(_SLICES):
        exponent = np.frexp(np.abs(x).max(axis=axis, keepdims=True))[1]
        parts.append(np.ldexp(np.rint(np.ldexp(x, bits - exponent)), exponent - bits))
        x = x - parts[-1]
    return parts


def _inverted(a: Array) -> Array:
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        return np.full_like(a, np.nan)


def _orthonormal(v: Array) -> Array:
    """Columns that are orthonormal to float64's rounding, made so to extended precision."""
    wide = extended(v)
    for _ in range(2):
        wide = wide @ (3 * np.eye(v.shape[-1]) - adjoint(wide) @ wide) / 2
    return wide


def _squares(x: Array) -> Array:
    total: Array = (x.real**2 + x.imag**2).sum(1)
    return total


def _off_diagonal(t: Array) -> Array:
    most: Array = np.abs(t * (1 - np.eye(t.shape[-1]))).max((-2, -1))
    return most


@cache
def _rounds(order: int) -> tuple[tuple[Array, Array], ...]:
    """All pairs of columns, in rounds of disjoint ones."""
    size = order + order % 2
    ring, rounds = list(range(size)), []
    for _ in range(size - 1):
        pairs = [(ring[k], ring[-1 - k]) for k in range(size // 2)]
        pairs = [(min(pair), max(pair)) for pair in pairs if max(pair) < order]
        if pairs:
            rounds.append((np.array([p for p, _ in pairs]), np.array([q for _, q in pairs])))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return tuple(rounds)


def _rotation(app: Array, aqq: Array, apq: Array) -> tuple[Array, Array, Array]:
    """Cosine, sine and phase, (batch, pairs) each, that take [[app, apq], [conj(apq), aqq]] to a diagonal."""
    size = np.abs(apq)
    safe = np.where(size > 0, size, 1)
    phase = np.where(size > 0, np.conj(apq) / safe, 1)
    tau = (aqq - app) / (2 * safe)
    tangent = np.where(size > 0, np.where(tau < 0, -1, 1) / (np.abs(tau) + np.hypot(tau, 1)), 0)
    cosine = 1 / np.hypot(tangent, 1)
    return cosine, tangent * cosine, phase


def _turn(x: Array, p: Array, q: Array, rotation: tuple[Array, Array, Array]) -> None:
    """Turns the columns p and q of x (batch, m, n), in place."""
    cosine, sine, phase = (part[:, None, :] for part in rotation)
    left, right = x[:, :, p], x[:, :, q] * phase
    x[:, :, p], x[:, :, q] = cosine * left - sine * right, sine * left + cosine * right
