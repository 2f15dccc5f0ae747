"""Logarithms, exponentials and powers of numbers of float64, with bounds of their errors.

No library's functions are trusted: each value is a series of sums and products in float64, u = 2^-53 a rounding.

* log m, m in [2^(-1/2), 2^(1/2)], is 2 (s + s^3 / 3 + s^5 / 5 + ...), s = (m - 1) / (m + 1), where m - 1 is exact and
  |s| < 0.1716, so that 14 terms leave 1e-23 of it. All after the first are below 0.011 of the sum, so that their
  rounding counts little: a relative error below 8 u.
* log(m 2^e) = e log 2 + log m, with the exact product of e and the 33 leading bits of log 2, and a small rest. |log m|
  is at most log(2) / 2, and so at most the size of the sum for e != 0: a relative error below 12 u.
* e^x = 2^k e^r with r = x - k log 2 in the same two parts, |r| < 0.36, whose error is below 2 u for |k| < 2^20. The 16
  terms of its series leave 1e-20 of it, and Horner's rule loses less than 6 u: together below 9 u.
* (m 2^e)^p = 2^(e p) e^(p log m), where the whole part of e p and the rest are exact but for one rounding.
* x^p for whole p by multiplications of m in [1/2, 1): |p| roundings at most.

The bounds are these, doubled or nearly. Compilers may fuse products with sums, which makes errors smaller; the exact
operations are single ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["expanded", "exponential", "logarithm", "real_power", "whole_power"]

_UNIT: Final = 2.0**-53
_LN2: Final = (float.fromhex("0x1.62e42feep-1"), 1.9082149292705877e-10)
"""log 2 as a number of 33 bits, of which multiples to 2^20 are exact, and the rest, rounded."""
_LOGARITHM_TERMS: Final = 14
"""Of log m as a series in s = (m - 1) / (m + 1), |s| < 0.172: what follows is below s^28 / 29 < 2^-75 of the value."""
_EXPONENTIAL_TERMS: Final = 15
"""Of the series of e^r, |r| <= log(2) / 2: what follows is about r^16 / 16! < 2^-68."""
_OF_MANTISSA: Final = 12 * _UNIT
_OF_LOGARITHM: Final = 20 * _UNIT
_OF_EXPONENTIAL: Final = 16 * _UNIT
"""Above the relative errors of log m, of a logarithm and of an exponential."""
_LARGEST: Final = 2.0**19
"""Of arguments of an exponential: k is then below 2^20."""
_STEEPEST: Final = 64.0
"""Largest |p|: m^p and p times a whole number keep their digits."""
_FINE: Final = 20
"""Bits after the point of the part of p whose products with exponents of two are exact."""
_FIRST_ORDER: Final = 2.0**-10
"""Largest d of which e^d - 1 is taken for d, enlarged."""


def logarithm(x: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """Log(x 2^exponent) of positive x (batch, n), exponent (batch,), and a bound of its error; NaN for others."""
    m, power = _centred(x)
    e = (power + exponent[:, None]).to(torch.float64)
    value = e * _LN2[0] + (_log(m) + e * _LN2[1])
    return value, value.abs() * _OF_LOGARITHM


def exponential(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """e^x = y 2^k of x (...): y near 1, k in int64, and a bound of the relative error; NaN for |x| > 2^19."""
    x = torch.where(x.abs() <= _LARGEST, x, torch.nan)
    k = torch.round(x / math.log(2)).nan_to_num(0.0)
    r = (x - k * _LN2[0]) - k * _LN2[1]
    y = torch.ones_like(r)
    for j in range(_EXPONENTIAL_TERMS, 0, -1):
        y = 1 + y * r / j
    return y, k.to(torch.int64), torch.full_like(y, _OF_EXPONENTIAL)


def expanded(error: Tensor) -> Tensor:
    """A bound of the relative error of e^x by one of x; NaN where that is large."""
    return torch.where(error < _FIRST_ORDER, error, torch.nan) * (1 + 2 * _FIRST_ORDER)


def real_power(x: Tensor, exponent: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x 2^exponent)^p of positive x (batch, n) as y 2^k, and a bound of the relative error; NaN for |p| > 64."""
    m, power = _centred(x)
    e = (power + exponent[:, None]).to(torch.float64)
    coarse = math.ldexp(round(math.ldexp(p, _FINE)), -_FINE)
    product = e * coarse
    whole = product.floor()
    fraction = (product - whole) + e * (p - coarse)
    inner = _log(m) * p
    argument = fraction * math.log(2) + inner
    y, k, error = exponential(argument if abs(p) <= _STEEPEST else torch.full_like(argument, torch.nan))
    moved = expanded(inner.abs() * (_OF_MANTISSA + 2 * _UNIT) + (argument.abs() + 4) * (2 * _UNIT))
    return y, k + whole.to(torch.int64), error + moved


def whole_power(x: Tensor, exponent: Tensor, p: int) -> tuple[Tensor, Tensor, Tensor]:
    """(x 2^exponent)^p of x (batch, n) of either sign, as `real_power`; 0 has the powers from 0 up."""
    m, power = torch.frexp(x)
    y = torch.ones_like(m) if abs(p) <= _STEEPEST else torch.full_like(m, torch.nan)
    for bit in f"{abs(p):b}":
        y = y * y * m if bit == "1" else y * y
    y = torch.where(m != 0, 1 / y, torch.nan) if p < 0 else y
    k = (power.to(torch.int64) + exponent[:, None]) * p
    return y, k, torch.full_like(y, 2 * (abs(p) + 2) * _UNIT)


def _centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """M within 2^(1/2) of 1 and e with x = m 2^e; NaN for x that is not positive."""
    mantissa, power = torch.frexp(torch.where(x > 0, x, torch.nan))
    low = mantissa < math.sqrt(0.5)
    return torch.where(low, 2 * mantissa, mantissa), power.to(torch.int64) - low.to(torch.int64)


def _log(m: Tensor) -> Tensor:
    """Log m of m within 2^(1/2) of 1, with a relative error below `_OF_MANTISSA`."""
    s = (m - 1) / (m + 1)
    z, series = s * s, torch.full_like(s, 1 / (2 * _LOGARITHM_TERMS - 1))
    for j in range(_LOGARITHM_TERMS - 2, 0, -1):
        series = series * z + 1 / (2 * j + 1)
    return 2 * (s + s * z * series)
