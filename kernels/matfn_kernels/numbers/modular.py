"""Floating-point matrices modulo a prime, for questions about them that rounding leaves open.

Floating-point numbers are integers times a power of two, so that a polynomial identity in them, such as det A = 0,
holds modulo every prime if it holds at all, and otherwise only with a chance near 1 / prime: two primes make that
1e-18. Each prime is 1 modulo 4, which gives the imaginary unit a residue.
Reference: von zur Gathen and Gerhard, Modern Computer Algebra (2013), chapter 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["PRIMES", "is_singular", "quotient", "rank", "rank_of_square", "residues"]

PRIMES: Final = (2147483629, 2147483549)
"""Below 2^31, so that the product of two residues fits into 64 bits, and 1 modulo 4."""

_DIGITS: Final = 53
"""Bits of a float64's mantissa."""
_LARGEST: Final = 1200
"""2^1200 makes an integer of every float64."""


def residues(a: Array, p: int) -> Array:
    """2^1200 A modulo p, real or complex."""
    if np.iscomplexobj(a):
        return np.asarray((residues(a.real, p) + _imaginary_unit(p) * residues(a.imag, p)) % p)
    mantissa, exponent = np.frexp(a.astype(np.float64))
    whole = np.ldexp(mantissa, _DIGITS).astype(np.int64) % p
    powers = {int(e): pow(2, int(e) - _DIGITS + _LARGEST, p) for e in np.unique(exponent)}
    factors = np.vectorize(powers.__getitem__, otypes=[np.int64])(exponent)
    return np.asarray(whole * factors % p)


def is_singular(a: Array) -> bool:
    """Whether det A = 0 in the numbers as they are stored, by elimination; O(n^3) integer operations."""
    return all(_rank(residues(a, p), p, stop=True) < len(a) for p in PRIMES)


def rank(a: Array) -> int:
    """Rank of A (n, n) in the numbers as they are stored."""
    return max(_rank(residues(a, p), p) for p in PRIMES)


def rank_of_square(a: Array) -> int:
    """Rank of A^2 in the numbers as they are stored."""
    return max(_rank(_square(residues(a, p), p), p) for p in PRIMES)


def quotient(e: Array, a: Array, p: int) -> Array | None:
    """E^-1 A modulo p of residues E (n, n) and A (n, m), by elimination; None where E has no inverse modulo p."""
    system, n = np.hstack([e, a]), len(e)
    for k in range(n):
        candidates = k + np.flatnonzero(system[k:, k])
        if not len(candidates):
            return None
        system[[k, candidates[0]]] = system[[candidates[0], k]]
        system[k, k:] = system[k, k:] * pow(int(system[k, k]), -1, p) % p
        factors = system[:, k].copy()
        factors[k] = 0
        system[:, k:] = (system[:, k:] - factors[:, None] * system[k, k:] % p) % p
    return system[:, n:]


def _rank(a: Array, p: int, *, stop: bool = False) -> int:
    """Rank modulo p of residues (n, n), which are lost; with `stop` any number below n if it is below n."""
    done = 0
    for k in range(len(a)):
        candidates = done + np.flatnonzero(a[done:, k])
        if not len(candidates):
            if stop:
                return done
            continue
        a[[done, candidates[0]]] = a[[candidates[0], done]]
        factors = a[done + 1 :, k] * pow(int(a[done, k]), -1, p) % p
        a[done + 1 :, k + 1 :] -= factors[:, None] * a[done, k + 1 :] % p
        a[done + 1 :, k + 1 :] %= p
        done += 1
    return done


def _square(a: Array, p: int) -> Array:
    """A^2 modulo p, column by row: a sum of two products of residues would not fit into 64 bits."""
    found = np.zeros_like(a)
    for k in range(len(a)):
        found = (found + a[:, k : k + 1] * a[k : k + 1] % p) % p
    return found


def _imaginary_unit(p: int) -> int:
    """A number whose square is -1 modulo p."""
    roots = (pow(base, (p - 1) // 4, p) for base in range(2, p))
    return next(root for root in roots if root * root % p == p - 1)
