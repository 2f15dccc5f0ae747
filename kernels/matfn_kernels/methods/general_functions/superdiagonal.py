"""Entries next to the diagonal of a function of an upper triangular matrix, without cancellation.

The entry is t times the divided difference of f at the two eigenvalues. With z = (b - a) / (b + a) and the unwinding
number u of log b - log a the logarithm's is 2 (atanh z + pi i u) / (b - a), and the power's
exp(p (log a + log b) / 2) 2 sinh(p (atanh z + pi i u)) / (b - a).
Reference: Higham, Functions of Matrices (2008), section 11.6.2; Higham and Lin, SIAM J. Matrix Anal. Appl. 32 (2011).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["with_exact_diagonals"]


def with_exact_diagonals(f: Array, t: Array, logs: Array, exponent: float | None) -> Array:
    """Log T, or T^exponent - I, with its diagonal and the one above it computed from T alone."""
    f = f.copy()
    np.fill_diagonal(f, logs if exponent is None else np.expm1(exponent * logs))
    first, rows = t.diagonal(1), np.arange(len(t) - 1)
    f[rows, rows + 1] = first * _difference(t.diagonal(), logs, exponent)
    return f


def _difference(values: Array, logs: Array, exponent: float | None) -> Array:
    a, b, la, lb = values[:-1], values[1:], logs[:-1], logs[1:]
    gap = b - a
    equal = gap == 0
    z = gap / np.where(b + a == 0, 1, b + a)
    unwinding = np.ceil(((lb - la).imag - np.pi) / (2 * np.pi))
    # where b + a = 0 or they are far apart nothing cancels in log b - log a
    half = np.where(
        np.abs(z) < 1 / 2, np.arctanh(np.where(np.abs(z) < 1 / 2, z, 0)) + np.pi * 1j * unwinding, (lb - la) / 2
    )
    safe = np.where(equal, 1, gap)
    if exponent is None:
        return np.where(equal, 1 / a, 2 * half / safe)
    middle = np.exp(exponent * (la + lb) / 2)
    return np.where(equal, exponent * np.exp((exponent - 1) * la), 2 * middle * np.sinh(exponent * half) / safe)
