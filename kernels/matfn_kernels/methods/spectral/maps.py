"""The functions of eigenvalues: logarithm, exponential, real powers and whole powers.

Each takes eigenvalues in units of its own, in which neither they nor its values leave the range of float64, and states
the power of two that its values then lack: e^x = 2^k e^(x - k log 2), and (w 2^e)^p = w^p 2^(e p), where e p is split
into a whole number and a fraction without rounding. All have an |f'| that is largest at an end of every interval
without a pole, and inverse powers across it too have |f[x, y]| <= max(|f'(x)|, |f'(y)|).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.methods.roots.by_eigh import LEAST

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CLOSEST", "Arguments", "Exponential", "Logarithm", "RealPower", "Scalar", "WholePower"]

_UNSCALED: Final = 900
"""Largest exponent of two by which an eigenvalue is scaled back before its logarithm is taken: eps^2 times the largest
eigenvalue, which is below every one that has a logarithm, is then a normal number."""
_LN2: Final = (float.fromhex("0x1.62e42feep-1"), 1.9082149292705877e-10)
"""log 2 as a number of 33 bits, of which multiples to 2^20 are exact, and the rest."""
_MOST: Final = 1 << 20
"""Largest exponent of two of a value: beyond the range of every dtype, however small the numbers it multiplies."""
_FAR: Final = 64
"""Exponent of two beyond which arguments of an exponential need not be told apart: all are out of range."""
_STEEPEST: Final = 700.0
"""Largest magnitude of an argument of an exponential: its value is finite and not 0, so that what leaves the range does
so where the power of two is multiplied, and an error of that size is above every tolerance."""
CLOSEST: Final = 2.0**-15
"""Least argument of an inverse power, in units of the least eigenvalue: its power -64 is below 1e300."""
_FINE: Final = 20
"""Bits after the point of the part of an exponent p whose products with exponents of two are exact."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """Eigenvalues as the arguments x of a function g, f = 2^lacking (scale g(x) + offset).

    Attributes:
        x: the arguments, (batch, n).
        unit: change of x by a change of the eigenvalue, positive or negative, (batch,).
        scale: (batch,).
        offset: (batch,).
        lacking: (batch,) int64.
    """

    x: Tensor
    unit: Tensor
    scale: Tensor
    offset: Tensor
    lacking: Tensor

    @property
    def top(self) -> Tensor:
        """The 2-norm of the matrix in units of x, (batch,)."""
        return self.x.abs().amax(-1)


class Scalar(Protocol):
    """A function of eigenvalues; frozen and hashable."""

    @property
    def sign(self) -> int:
        """-1 where an eigenvalue 0 has no value, and else +1."""

    @property
    def is_definite(self) -> bool:
        """Whether eigenvalues have to be positive, or 0."""

    @property
    def is_entire(self) -> bool:
        """Whether it is smooth everywhere."""

    def __hash__(self) -> int: ...

    def arguments(self, spectrum: Tensor, used: Tensor, exponent: Tensor) -> Arguments:
        """Arguments of eigenvalues (batch, n) scaled by 2^-exponent; those that are `used` decide the unit."""

    def plain(self, x: Tensor) -> Tensor:
        """g(x)."""

    def slope(self, x: Tensor) -> Tensor:
        """|g'(x)|."""

    def least(self, x: Tensor) -> Tensor:
        """The least that each argument may be taken for within its noise."""

    def of_numbers(self, numbers: Any) -> Any:
        """F of numbers of numpy's, in their precision; NaN or infinite where it is out of its range."""


@dataclass(frozen=True, slots=True)
class Logarithm:
    """log(w), w > 0."""

    sign: int = -1
    is_definite: bool = True
    is_entire: bool = False

    def arguments(self, spectrum: Tensor, used: Tensor, exponent: Tensor) -> Arguments:
        """The eigenvalues themselves, near 1 as they are; those of very large and small matrices stay scaled."""
        del used
        whole = torch.where(exponent.abs() <= _UNSCALED, exponent, 0)
        rest = (exponent - whole).to(torch.float64)
        x = invariant.ldexp(spectrum, whole[:, None])
        one = torch.ones_like(rest)
        return Arguments(x, invariant.two_to(whole), one, rest * math.log(2), torch.zeros_like(exponent))

    def plain(self, x: Tensor) -> Tensor:
        """log(x)."""
        return invariant.log(x.clamp_min(torch.finfo(torch.float64).tiny))

    def slope(self, x: Tensor) -> Tensor:
        """1 / x."""
        return 1 / x.clamp_min(torch.finfo(torch.float64).tiny)

    def least(self, x: Tensor) -> Tensor:
        """A part of itself."""
        return x * LEAST

    def of_numbers(self, numbers: Any) -> Any:
        """log(numbers)."""
        return np.log(numbers)


@dataclass(frozen=True, slots=True)
class Exponential:
    """e^(t w).

    Attributes:
        t: the factor.
    """

    t: float
    sign: int = 1
    is_definite: bool = False
    is_entire: bool = True

    def arguments(self, spectrum: Tensor, used: Tensor, exponent: Tensor) -> Arguments:
        """T w - k log 2 with the whole number k that makes the largest near 0."""
        del used
        factor, power = math.frexp(self.t)
        unit = factor * invariant.two_to((exponent + power).clamp_max(_FAR))
        x = spectrum * unit[:, None]
        k = torch.round(x.amax(-1) / math.log(2)).clamp(-_MOST, _MOST)
        x = (x - k[:, None] * _LN2[0]) - k[:, None] * _LN2[1]
        one = torch.ones_like(unit)
        return Arguments(x, unit, one, torch.zeros_like(one), k.to(torch.int64))

    def plain(self, x: Tensor) -> Tensor:
        """e^x."""
        return invariant.exp(x.clamp(-_STEEPEST, _STEEPEST))

    def slope(self, x: Tensor) -> Tensor:
        """e^x."""
        return self.plain(x)

    def least(self, x: Tensor) -> Tensor:
        """Any number."""
        return torch.full_like(x, -math.inf)

    def of_numbers(self, numbers: Any) -> Any:
        """e^(t numbers)."""
        return _unless_lost(np.exp(np.longdouble(self.t) * numbers), np.ones_like(numbers))


@dataclass(frozen=True, slots=True)
class RealPower:
    """w^p, w >= 0, for p that is not a whole number.

    Attributes:
        p: the exponent.
    """

    p: float
    is_definite: bool = True
    is_entire: bool = False

    @property
    def sign(self) -> int:
        """That of the exponent."""
        return 1 if self.p > 0 else -1

    def arguments(self, spectrum: Tensor, used: Tensor, exponent: Tensor) -> Arguments:
        """The eigenvalues in units of the one whose power is largest."""
        return _in_units(spectrum, used, exponent, self.p)

    def plain(self, x: Tensor) -> Tensor:
        """x^p."""
        return invariant.power(x.clamp_min(0.0 if self.p > 0 else CLOSEST), self.p)

    def slope(self, x: Tensor) -> Tensor:
        """|p| x^(p - 1), infinite at 0 for p < 1."""
        return _quotient(abs(self.p) * self.plain(x), x.clamp_min(0.0 if self.p > 0 else CLOSEST))

    def least(self, x: Tensor) -> Tensor:
        """Zero, or for an inverse power a part of itself."""
        return torch.zeros_like(x) if self.p > 0 else x * LEAST

    def of_numbers(self, numbers: Any) -> Any:
        """numbers^p."""
        return _unless_lost(np.power(numbers, np.longdouble(self.p)), numbers)


@dataclass(frozen=True, slots=True)
class WholePower:
    """w^p for a whole number p.

    Attributes:
        p: the exponent.
    """

    p: int
    is_definite: bool = False

    @property
    def is_entire(self) -> bool:
        """Whether it is a polynomial."""
        return self.p >= 0

    @property
    def sign(self) -> int:
        """-1 for an inverse power."""
        return 1 if self.p >= 0 else -1

    def arguments(self, spectrum: Tensor, used: Tensor, exponent: Tensor) -> Arguments:
        """The eigenvalues in units of the one whose power is largest."""
        return _in_units(spectrum, used, exponent, float(self.p))

    def plain(self, x: Tensor) -> Tensor:
        """x^p."""
        if self.p >= 0:
            return invariant.power(x, float(self.p))
        size = invariant.power(x.abs().clamp_min(CLOSEST), float(self.p))
        return torch.where(x < 0, -size, size) if self.p % 2 else size

    def slope(self, x: Tensor) -> Tensor:
        """|p x^(p - 1)|."""
        if self.p == 0:
            return torch.zeros_like(x)
        size = x.abs().clamp_min(0.0 if self.p > 0 else CLOSEST)
        return abs(self.p) * invariant.power(size, float(self.p - 1))

    def least(self, x: Tensor) -> Tensor:
        """Any number."""
        return torch.full_like(x, -math.inf)

    def of_numbers(self, numbers: Any) -> Any:
        """numbers^p."""
        return _unless_lost(np.power(numbers, np.longdouble(self.p)), numbers)


def _unless_lost(values: Any, origin: Any) -> Any:
    """Values, NaN for those that are 0 although their origin is not: they have left the range."""
    return np.where((values == 0) & (origin != 0), np.nan, values)


def _in_units(spectrum: Tensor, used: Tensor, exponent: Tensor, p: float) -> Arguments:
    """Arguments of a power p: relative to the largest eigenvalue, or for an inverse power to the least that is used."""
    size = spectrum.abs()
    leading = size.amax(-1) if p >= 0 else torch.where(used & (size > 0), size, math.inf).amin(-1)
    usable = torch.isfinite(leading) & (leading > 0)
    unit = torch.frexp(torch.where(usable, leading, torch.ones_like(leading))).exponent.to(torch.int64)
    fraction, whole = _product(exponent + unit, p)
    scale = invariant.exp2(fraction)
    x = invariant.ldexp(spectrum, -unit[:, None])
    return Arguments(x, invariant.two_to(-unit), scale, torch.zeros_like(scale), whole)


def _product(exponent: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """A fraction, rounded once, and a whole number whose sum is exponent p, (batch,) each."""
    coarse = math.ldexp(round(math.ldexp(p, _FINE)), -_FINE)
    product = exponent.to(torch.float64) * coarse
    whole = product.floor()
    return (product - whole) + exponent.to(torch.float64) * (p - coarse), whole.to(torch.int64)


def _quotient(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole, infinite where the whole is 0."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1.0), math.inf)
