"""The exponential of matrices near zero by its Taylor polynomial of degree 20, and how far to scale them down.

The powers B..B^5 give the polynomial by Horner's scheme in B^5, seven products in all (Paterson and Stockmeyer). In
exact arithmetic it is e^(B + D) with ||D|| <= 2^-53 ||B|| if max(||B^4||^(1/4), ||B^5||^(1/5)) is at most `_REACH`: of
a nonnormal matrix the powers may be far smaller than those of the norm.
References: Paterson and Stockmeyer, SIAM J. Comput. 2 (1973); Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 31 (2009)
and SIAM J. Sci. Comput. 33 (2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.scaling import normalise, rescale

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DEGREE", "Scaled"]

DEGREE: Final = 20
"""Of the polynomial: degrees 16 and 25 take as many products, with the squarings that their reach asks for."""
_REACH: Final = 1.4382
"""Largest size of B^4 and B^5, by their roots, at which the backward error is rounding: where the series of
log(e^-x T(x)), with the magnitudes of its coefficients, is 2^-53 x, rounded down; found with 60 digits."""
_BLOCK: Final = 5
"""The powers that are formed."""
_TESTED: Final = (4, 5)
"""Powers whose norms bound those of all that are left out: 4 * 3 is at most 21."""
_MOST: Final = 32
"""Most squarings: with more the condition number is above 2^32 as a rule, and every step is kept for the certificate. A
matrix that asks for more has no answer."""


def _table() -> Tensor:
    """Coefficients (5, 6) of I..B^5 in the four blocks of the polynomial, the last block first, and in e^(B/2)."""
    rows = [[1 / math.factorial(_BLOCK * block + i) for i in range(_BLOCK)] + [0.0] for block in (3, 2, 1, 0)]
    rows[0][-1] = 1 / math.factorial(DEGREE)
    return torch.tensor([*rows, [0.5**i / math.factorial(i) for i in range(_BLOCK + 1)]], dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Scaled:
    """Matrices C = t A / 2^s (batch, n, n) near zero.

    Attributes:
        c: C.
        powers: B..B^5 of B = C 2^-exponent, whose entries are near 1.
        exponent: of each matrix, (batch,).
        squarings: s of each matrix, (batch,).
        is_beyond: whether a matrix asks for more squarings than there may be, (batch,).
    """

    c: Tensor
    powers: tuple[Tensor, ...]
    exponent: Tensor
    squarings: Tensor
    is_beyond: Tensor

    @classmethod
    def of(cls, a: Tensor, t: float, *, by_powers: bool) -> Self:
        """T A scaled down: as far as its powers ask for, or as far as its norm does if that is not too far."""
        b, exponent = normalise(a)
        if t != 1:
            factor, whole = math.frexp(t)
            b, exponent = b * factor, exponent + whole
        second = invariant.product(b, b)
        fourth = invariant.product(second, second)
        powers = (b, second, invariant.product(second, b), fourth, invariant.product(fourth, b))
        wanted = exponent + torch.stack([_bits(powers[k - 1], k) for k in _TESTED]).amax(0)
        if not by_powers:
            by_norm = exponent + _bits(b, 1)
            wanted = torch.where(by_norm > _MOST, wanted, by_norm)
        squarings = wanted.clamp(0, _MOST)
        left = exponent - squarings
        return cls(rescale(b, left), powers, left, squarings, wanted > _MOST)

    def exponential(self) -> tuple[Tensor, Tensor]:
        """e^C, and e^(C/2) to a thousandth where C is small by its norm."""
        identity = torch.eye(self.c.shape[-1], dtype=self.c.dtype, device=self.c.device)
        stacked = torch.stack([identity.expand_as(self.c), *self.powers], 1).flatten(2)
        steps = torch.arange(_BLOCK + 1, device=self.c.device) * self.exponent[:, None]
        steps = steps.clamp(-_FINITE, _FINITE)  # beyond, a power that counts leaves the range too
        coefficients = _table().to(self.c.device) * invariant.two_to(steps)[:, None]
        blocks = invariant.product(coefficients.to(self.c.dtype), stacked).view(len(self.c), -1, *self.c.shape[1:])
        fifth = rescale(self.powers[-1], _BLOCK * self.exponent)
        x = blocks[:, 0].contiguous()
        for block in (1, 2, 3):
            x = invariant.product(fifth, x, blocks[:, block].contiguous(), beta=1.0)
        return x, blocks[:, 4].contiguous()

    def on_columns(self, z: Tensor) -> Tensor:
        """E^C Z by as many products with columns (batch, n, k) as the degree."""
        y = z
        for k in range(DEGREE, 0, -1):
            y = z + probes.times(self.c, y) / k
        return y


def _bits(power: Tensor, k: int) -> Tensor:
    """The least e with ||B^k||^(1/k) <= 2^e times the reach, in the norm of row sums, (batch,) int64."""
    size = invariant.sums(invariant.magnitude(power)).amax(-1) / _REACH**k
    found = torch.frexp(size).exponent.to(torch.int64)
    return torch.where(size > 0, -torch.div(-found, k, rounding_mode="floor"), -_LEAST)


_FINITE: Final = 1000
"""Powers of two up to this one are finite, so that their products with a power that is zero are zero."""
_LEAST: Final = 1 << 20
"""Beyond all exponents."""
