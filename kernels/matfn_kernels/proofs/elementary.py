"""Logarithms, exponentials and real powers of numbers of float64, with bounds of their errors.

No library's functions are trusted: each value is a series of sums and products in float64, u = 2^-53 a rounding.

* log(m 2^e), m in [2^(-1/2), 2^(1/2)]: log m = 2 (s + s^3 / 3 + s^5 / 5 + ...), s = (m - 1) / (m + 1), where m - 1 is
  exact and |s| < 0.1716, so that 14 terms leave 1e-23 of it. All after the first are below 0.011 of the sum, so that
  their rounding counts little: log m has a relative error below 8 u. e log 2 is the exact product of e with the 33
  leading bits of log 2, and a small rest. |log m| <= log(2) / 2 is at most the size of the sum for e != 0, which has a
  relative error below 8 u + 4 u.
* e^x = 2^k e^r with r = x - k log 2 in the same two parts, |r| < 0.36, whose error is below 2 u for |k| < 2^20. 16
  terms of its series leave 1e-20 of it, and Horner's rule loses less than 6 u.
* x^p = e^(p log x): the exponent has an error of 13 u |p log x|.

Each bound below is the sum of these and of its own rounding, doubled or more. Compilers may fuse products with sums,
which makes errors smaller; the exact operations are single ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["exponential", "logarithm", "real_power"]

_UNIT: Final = 2.0**-53
_LN2: Final = (float.fromhex("0x1.62e42feep-1"), 1.9082149292705877e-10)
"""log 2 as a number of 33 bits, of which multiples to 2^20 are exact, and the rest, rounded."""
_LOGARITHM_TERMS: Final = 14
_EXPONENTIAL_TERMS: Final = 15
_RELATIVE: Final = 32 * _UNIT
"""Above the relative errors of a logarithm and of an exponential as sent."""
_LARGEST: Final = 2.0**19
"""Of arguments of an exponential: k is then below 2^20."""


def logarithm(x: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """Log(x 2^exponent) of positive x (batch, n), exponent (batch,), and a bound of its error; NaN for others."""
    mantissa, power = torch.frexp(torch.where(x > 0, x, torch.nan))
    low = mantissa < math.sqrt(0.5)
    m = torch.where(low, 2 * mantissa, mantissa)
    e = (power - low.to(power.dtype) + exponent[:, None]).to(torch.float64)
    s = (m - 1) / (m + 1)
    z, series = s * s, torch.full_like(s, 1 / (2 * _LOGARITHM_TERMS - 1))
    for j in range(_LOGARITHM_TERMS - 2, 0, -1):
        series = series * z + 1 / (2 * j + 1)
    log_m = 2 * (s + s * z * series)
    value = e * _LN2[0] + (log_m + e * _LN2[1])
    return value, value.abs() * _RELATIVE


def exponential(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """e^x = y 2^k of x (...): y near 1, k in int64, and a bound of the relative error; NaN for |x| > 2^19."""
    x = torch.where(x.abs() <= _LARGEST, x, torch.nan)
    k = torch.round(x / math.log(2)).nan_to_num(0.0)
    r = (x - k * _LN2[0]) - k * _LN2[1]
    y = torch.ones_like(r)
    for j in range(_EXPONENTIAL_TERMS, 0, -1):
        y = 1 + y * r / j
    return y, k.to(torch.int64), torch.full_like(y, _RELATIVE)


def real_power(x: Tensor, exponent: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x 2^exponent)^p of positive x (batch, n) as y 2^k, and a bound of the relative error."""
    log, off = logarithm(x, exponent)
    argument = log * p
    y, k, error = exponential(argument)
    moved = (off * abs(p) + argument.abs() * _UNIT) * (1 + 2.0**-40)
    moved = torch.where(moved < 2.0**-10, moved, torch.nan)  # e^d - 1 < d (1 + d) below
    return y, k, error + moved * (1 + 2.0**-9)
