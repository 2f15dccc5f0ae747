"""Matrix products in extended precision, at the price of three ordinary ones.

X = X1 + X2 and Y = Y1 + Y2, where X1 keeps so few leading bits of each row and Y1 of each column that X1 Y1 has no
rounding at all in float64; the rest is smaller by 2^-20 and may be rounded. The sum is kept in longdouble, and
`EXTENDED` is its spacing.
Reference: Ozaki, Ogita, Oishi and Rump, Numerical Algorithms 59 (2012).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CANCELLING", "EXTENDED", "narrow", "product", "wide"]

Array: TypeAlias = "NDArray[Any]"
EXTENDED: Final = float(np.finfo(np.longdouble).eps)
"""Spacing of the sums; that of float64 where the machine has nothing wider."""

CANCELLING: Final = float(np.finfo(np.float64).eps) * 2.0**-20
"""Rounding of a product relative to the sizes of its terms, where they cancel; `EXTENDED` is relative to their sum."""

_DIGITS: Final = 53
"""Bits of a float64's mantissa: the products of leading parts, and their sums, fit into them."""


def wide(x: Array) -> Array:
    """A copy in extended precision, real or complex."""
    return x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble)


def narrow(x: Array) -> Array:
    """A copy in float64 or complex128."""
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def product(x: Array, y: Array) -> Array:
    """X Y in extended precision, for X (..., m, k) in either precision and Y (..., k, n) in double precision."""
    if np.iscomplexobj(x) or np.iscomplexobj(y):
        return _complex_product(x, y)
    lead = narrow(x)
    terms = x.shape[-1]
    first, second = _leading(lead, terms, axis=-1), _leading(y, terms, axis=-2)
    rest = first @ (y - second) + (lead - first) @ y
    if x.dtype == np.longdouble:
        rest = rest + narrow(x - lead) @ y
    return np.asarray(wide(first @ second) + rest)


def _complex_product(x: Array, y: Array) -> Array:
    """X Y by the products of real and imaginary parts."""
    real = product(x.real, y.real) - product(x.imag, y.imag)
    return np.asarray(real + 1j * (product(x.real, y.imag) + product(x.imag, y.real)))


def _leading(x: Array, terms: int, axis: int) -> Array:
    """X with so few bits, counted from the largest entry along `axis`, that sums of `terms` products are exact."""
    bits = (_DIGITS - terms.bit_length()) // 2
    exponent = np.frexp(np.abs(x).max(axis=axis, keepdims=True))[1]
    return np.asarray(np.ldexp(np.rint(np.ldexp(x, bits - exponent)), exponent - bits))
