"""Whether two eigenvalues have exactly the sum 0, or the product 1, decided without rounding.

Rounding cannot tell a singular Sylvester equation from one that is merely as bad as a Hilbert matrix. Both
characteristic polynomials exist modulo a prime (`numbers.modular`) and have a common factor there if they have one.
The polynomial whose roots are the inverses has the same coefficients in reverse order.
Method: reduction to Hessenberg form and its recurrence, then Euclid's algorithm; O(n^3) integer operations.
Reference: Cohen, A Course in Computational Algebraic Number Theory (1993), algorithm 2.2.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matfn_kernels.numbers.modular import PRIMES, quotient, residues

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["has_opposite_eigenvalues", "has_reciprocal_eigenvalues", "share_eigenvalue"]


def share_eigenvalue(a: Array, b: Array) -> bool:
    """Whether lambda_i(A) = -lambda_j(B) for some i, j, in the numbers as they are stored."""
    return all(
        _common_factor(_characteristic(residues(a, p), p), _characteristic(residues(-b, p), p), p) for p in PRIMES
    )


def has_opposite_eigenvalues(a: Array, e: Array | None = None) -> bool:
    """Whether lambda_i = -conj(lambda_j) for some i, j and eigenvalues of the pencil A - s E; true for a singular E."""
    return all(_share(a, e, p, reciprocal=False) for p in PRIMES)


def has_reciprocal_eigenvalues(a: Array, e: Array | None = None) -> bool:
    """Whether lambda_i conj(lambda_j) = 1 for some i, j and eigenvalues of the pencil A - s E, or E is singular."""
    return all(_share(a, e, p, reciprocal=True) for p in PRIMES)


def _share(a: Array, e: Array | None, p: int, *, reciprocal: bool) -> bool:
    """Whether an eigenvalue is minus the conjugate of one, or its inverse, modulo p."""
    e = np.eye(len(a)) if e is None else e
    own, conjugate = (quotient(residues(x, p), residues(y, p), p) for x, y in ((e, a), (e.conj(), a.conj())))
    if own is None or conjugate is None:
        return True
    f = _characteristic(own, p)
    if reciprocal:
        return _common_factor(f, _trimmed(_characteristic(conjugate, p)[::-1]), p)
    return _common_factor(f, _characteristic(-conjugate % p, p), p)


def _characteristic(a: Array, p: int) -> Array:
    """Coefficients of det(x I - A) modulo p, the constant first."""
    h = _hessenberg(a.copy(), p)
    order = len(h)
    rows = np.zeros((order + 1, order + 1), dtype=np.int64)
    rows[0, 0] = 1
    for k in range(1, order + 1):
        rows[k, 1:] = rows[k - 1, :-1]
        rows[k] = (rows[k] - h[k - 1, k - 1] * rows[k - 1]) % p
        product = 1
        for i in range(1, k):
            product = product * int(h[k - i, k - i - 1]) % p
            if not product:
                break
            rows[k] = (rows[k] - int(h[k - i - 1, k - 1]) * product % p * rows[k - i - 1]) % p
    return np.asarray(rows[order])


def _hessenberg(h: Array, p: int) -> Array:
    """A similar matrix modulo p that is zero below the first subdiagonal."""
    for column in range(len(h) - 2):
        below = column + 1 + np.flatnonzero(h[column + 1 :, column])
        if not len(below):
            continue
        pivot = column + 1
        h[[pivot, below[0]]] = h[[below[0], pivot]]
        h[:, [pivot, below[0]]] = h[:, [below[0], pivot]]
        factors = h[pivot + 1 :, column] * pow(int(h[pivot, column]), -1, p) % p
        h[pivot + 1 :] = (h[pivot + 1 :] - factors[:, None] * h[pivot] % p) % p
        gained = np.zeros(len(h), dtype=np.int64)
        for factor, part in zip(factors.tolist(), h[:, pivot + 1 :].T, strict=True):
            gained = (gained + factor * part) % p
        h[:, pivot] = (h[:, pivot] + gained) % p
    return h


def _common_factor(f: Array, g: Array, p: int) -> bool:
    """Whether two monic polynomials have a common factor modulo p."""
    while len(g) > 1:
        f, g = g, _remainder(f, g, p)
    return not g.any()


def _remainder(f: Array, g: Array, p: int) -> Array:
    """The remainder of f divided by g modulo p, without leading zeros; [0] for zero."""
    f = f.copy()
    inverse = pow(int(g[-1]), -1, p)
    while len(f) >= len(g):
        factor = int(f[-1]) * inverse % p
        f[len(f) - len(g) :] = (f[len(f) - len(g) :] - factor * g % p) % p
        f = f[:-1]
    return _trimmed(f)


def _trimmed(f: Array) -> Array:
    """The polynomial without leading zeros; [0] for zero."""
    kept = np.flatnonzero(f)
    return f[: kept[-1] + 1] if len(kept) else np.zeros(1, dtype=np.int64)
