"""Powers that are 0: shown of nilpotent matrices by the places of their entries, or in exact arithmetic.

A^q is 0 where no walk of q steps leads through entries that are not 0, as in strictly triangular matrices in any order
of rows and columns. Matrices of multiples of one power of two have exact products as long as sums of magnitudes stay
below 2^53 multiples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from matfn_kernels.numbers.arrays import shifted

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.numbers.arrays import Array

__all__ = ["vanishing"]

_EXACT: Final = 2.0**53
"""Whole numbers to here are exact in float64."""
_NOTHING: Final = 1 << 20
"""Lowest bit of zeros alone, above that of every number."""


def vanishing(a: Tensor, value: Tensor, q: int) -> Tensor:
    """Which powers A^q (batch, n, n), computed as `value`, are shown to be 0 though A is not, (batch,)."""
    found = (value == 0).flatten(1).all(-1) & (a != 0).flatten(1).any(-1)
    for row in found.nonzero().flatten().tolist():
        one = a[row].numpy()
        found[row] = _has_no_walk(one != 0, q) or _is_zero_exactly(one, q)
    return found


def _has_no_walk(edges: Array, q: int) -> bool:
    """Whether no walk of q steps leads along the edges (n, n)."""
    reached: Array | None = None
    power = edges.astype(np.float64)
    while q:
        if q & 1:
            reached = power if reached is None else np.minimum(reached @ power, 1)
        q >>= 1
        if q:
            power = np.minimum(power @ power, 1)
    return reached is not None and not reached.any()


def _is_zero_exactly(a: Array, q: int) -> bool:
    """Whether A^q is 0 by products without rounding: they and the sums of magnitudes in them are whole numbers."""
    parts = (a.real, a.imag) if np.iscomplexobj(a) else (a,)
    whole = shifted(a, -min(map(_lowest_bit, parts)))
    power, bound = whole, np.abs(whole.real) + np.abs(whole.imag)
    found: Array | None = None
    reach: Array | None = None
    while q and bound.max() < _EXACT:
        if q & 1:
            found = power if found is None else found @ power
            reach = bound if reach is None else reach @ bound
            if not reach.max() < _EXACT:
                return False
        q >>= 1
        if q:
            power, bound = power @ power, bound @ bound
        if bound.max() < _EXACT and not power.any():  # a factor of what is left
            return True
    return q == 0 and found is not None and not found.any()


def _lowest_bit(x: Array) -> int:
    """Exponent of the lowest bit that is set in any of the numbers."""
    mantissas, exponents = np.frexp(x[x != 0])
    if not len(exponents):
        return _NOTHING
    digits = np.ldexp(mantissas, 53).astype(np.int64)
    lowest = np.frexp((digits & -digits).astype(np.float64))[1] - 1
    return int((exponents - 53 + lowest).min())
