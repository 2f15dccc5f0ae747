"""Matrices known to within a Frobenius norm, and their sums and products with every rounding accounted for.

u = 2^-53 and gamma_k = k u / (1 - k u). A product of k terms an entry, in any order and with or without fused
multiplications, satisfies |fl(X Y) - X Y| <= gamma_k |X| |Y| entrywise. An entry that underflows, even to zero, is
wrong by less than 2^-1022, and `TINY` covers all of them. Norms and radii are computed upward: each nonnegative
quantity is enlarged by more than the rounding of the few operations that gave it.

A ball with a second part `low` is kept in twice the digits: its products are split as in `numbers.extended_product`.
`natively` does the same in C where the library is built.
References: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 3; Ozaki, Ogita, Oishi and Rump,
Numerical Algorithms 59 (2012); Rump, Acta Numerica 19 (2010).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.proofs import natively

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "TINY",
    "Ball",
    "Part",
    "difference",
    "exact",
    "factored",
    "frobenius",
    "inverted",
    "minus_identity",
    "power",
    "product",
    "rounded",
    "scaled_columns",
    "skew_part",
    "sum_of",
    "symmetric_part",
    "up",
    "widened",
]

_UNIT: Final = 2.0**-53
_DIGITS: Final = 53
"""Unit roundoff and digits of IEEE 754's double precision."""
TINY: Final = 1e-200
"""More than all underflow in one operation on entries below 1e100 adds to a Frobenius norm."""
_SMALL: Final = 1e-150
"""More than squares that underflow take from a norm."""
_SLACK: Final = 1 + 2.0**-47
"""Covers 60 roundings of nonnegative numbers."""
_SPLITTER: Final = 2.0**27 + 1
"""Dekker's, which halves the 53 bits of a number so that products of halves are exact."""


def up(x: Tensor) -> Tensor:
    """An upper bound of a nonnegative expression that took at most 60 roundings, none of them in a difference."""
    return x * _SLACK


class Part(IntEnum):
    """Where a matrix may have other entries than zeros, by its number in native.h."""

    FULL = 0
    LOWER = 1
    UPPER = 2

    @property
    def transposed(self) -> Part:
        """That of the transpose."""
        return Part(-self % len(Part))


@dataclass(frozen=True, slots=True)
class Ball:
    """The matrices within `radius` (batch,) of high + low (batch, m, n) in the Frobenius norm.

    Attributes:
        high: the centre, or its leading part.
        low: what the centre has beyond `high`, or None where `high` is all of it.
        radius: the largest distance, (batch,).
        norms: upper bounds of norms that were asked for before.
        part: where the centre may have other entries than zeros.
    """

    high: Tensor
    low: Tensor | None
    radius: Tensor
    norms: dict[str, Tensor] = field(default_factory=dict, repr=False)
    part: Part = Part.FULL

    @property
    def frobenius(self) -> Tensor:
        """An upper bound of the Frobenius norm, (batch,)."""
        return self._norm("frobenius")

    @property
    def spectral(self) -> Tensor:
        """An upper bound of the 2-norm, of the absolute values too, (batch,)."""
        return self._norm("spectral")

    @property
    def rest(self) -> Tensor:
        """An upper bound of the Frobenius norm of `low`, (batch,)."""
        return self._norm("rest")

    def _norm(self, name: str) -> Tensor:
        if name not in self.norms:
            self.norms.update(_named(natively.norms(self)) if natively.is_ready() else self._measured())
        return self.norms[name]

    def _measured(self) -> dict[str, Tensor]:
        rest = torch.zeros_like(self.radius) if self.low is None else frobenius(self.low)
        length = up(frobenius(self.high) + self.radius + rest)
        absolute = up(_rows_and_columns(self.high) + self.radius + rest)
        return _named((length, torch.minimum(absolute, length), rest))

    @property
    def mT(self) -> Ball:  # noqa: N802 - as torch names it
        """The transpose, which has the same norms."""
        low = None if self.low is None else self.low.mT
        return Ball(self.high.mT, low, self.radius, self.norms, self.part.transposed)

    def times_power(self, factor: float) -> Ball:
        """The ball times a power of two."""
        low = None if self.low is None else self.low * factor
        return Ball(self.high * factor, low, self.radius * abs(factor))


def _named(norms: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(("frobenius", "spectral", "rest"), norms, strict=True))


def _of(made: tuple[Tensor, Tensor | None, Tensor], part: Part = Part.FULL) -> Ball:
    """A ball that the library made."""
    high, low, facts = made
    radius, *norms = facts.unbind()
    return Ball(high, low, radius, _named(tuple(norms)), part)


def frobenius(x: Tensor) -> Tensor:
    """An upper bound of the Frobenius norm of X (batch, m, n) in float64, (batch,)."""
    stored = x if x.is_contiguous() else x.mT  # a transpose is read as it lies in memory
    return invariant.matrix_norm(stored) * _summed(x.shape[-1] * x.shape[-2]) + _SMALL


def _rows_and_columns(x: Tensor) -> Tensor:
    """(|X|_1 |X|_inf)^(1/2), which is an upper bound of the 2-norm of |X|, X (batch, m, n) in float64, (batch,)."""
    size, (items, rows, columns) = x.abs(), x.shape
    largest_row = invariant.product(size, size.new_ones(1, columns, 1).expand(items, -1, -1)).flatten(1).amax(-1)
    largest_column = invariant.product(size.new_ones(1, 1, rows).expand(items, -1, -1), size).flatten(1).amax(-1)
    return (largest_row * largest_column).sqrt() * _summed(rows + columns) + _SMALL


def _summed(terms: int) -> float:
    """The factor that covers the rounding of a sum of so many nonnegative numbers, in any order."""
    return 1 + 2 * (terms + 64) * _UNIT


def exact(x: Tensor, *, doubled: bool = False, part: Part = Part.FULL) -> Ball:
    """X (batch, m, n) in float64, known exactly; kept in twice the digits if `doubled`."""
    low = torch.zeros((), dtype=torch.float64).expand(x.shape) if doubled else None
    return Ball(x, low, torch.full((len(x),), TINY, dtype=torch.float64), {}, part)


def rounded(x: Ball) -> Ball:
    """The ball about `high` alone that holds X."""
    if x.low is None:
        return x
    norms = {**x.norms, "rest": torch.zeros_like(x.radius)} if x.norms else {}
    return widened(Ball(x.high, None, x.radius, norms, x.part), x.rest)


def widened(x: Ball, by: Tensor) -> Ball:
    """A larger ball about the centre of X."""
    norms = {name: norm if name == "rest" else up(norm + by) for name, norm in x.norms.items()}
    return Ball(x.high, x.low, up(x.radius + by), norms, x.part)


def factored(x: Tensor, *, doubled: bool = False) -> tuple[Ball, Tensor]:
    """Lower triangular L near L L^T = (X + X^T) / 2, not trusted, and whether there is one, of X (batch, n, n)."""
    lower, exists = natively.factor(x) if natively.is_ready() else invariant.cholesky((x + x.mT) / 2)
    return exact(lower, doubled=doubled, part=Part.LOWER), exists


def inverted(t: Ball) -> Ball:
    """A triangle near T^-1, not trusted, of T with a lower or upper part."""
    upper = t.part is Part.UPPER
    if natively.is_ready():
        return exact(natively.inverse(t.high, upper=upper), part=t.part)
    identity = torch.eye(t.high.shape[-1], dtype=torch.float64).expand_as(t.high)
    return exact(invariant.solve_triangular(t.high, identity, upper=upper), part=t.part)


def sum_of(x: Ball, y: Ball) -> Ball:
    """X + Y."""
    return _total(x, y, 1.0, 1.0)


def difference(x: Ball, y: Ball) -> Ball:
    """X - Y."""
    return _total(x, y, -1.0, 1.0)


def minus_identity(x: Ball) -> Ball:
    """X - I."""
    return _of(natively.total(x, None, sign=-1.0, factor=1.0), x.part) if natively.is_ready() else _less_identity(x)


def symmetric_part(x: Ball) -> Ball:
    """(X + X^T) / 2."""
    return _total(x, x.mT, 1.0, 0.5)


def skew_part(x: Ball) -> Ball:
    """(X - X^T) / 2."""
    return _total(x, x.mT, -1.0, 0.5)


def _total(x: Ball, y: Ball, sign: float, factor: float) -> Ball:
    """(X + sign Y) factor, a power of two."""
    if natively.is_ready():
        part = x.part if x.part is y.part else Part.FULL
        return _of(natively.total(x, y, sign=sign, factor=factor), part)
    if x.low is None and y.low is None:
        found = Ball(x.high + sign * y.high, None, _sum_radius(x, y))
    else:
        found = _doubled_sum(x, y, _two_sum(x.high, sign * y.high), sign)
    return found if factor == 1 else found.times_power(factor)


def _sum_radius(x: Ball, y: Ball) -> Tensor:
    return up(x.radius + y.radius + _UNIT * (x.frobenius + y.frobenius))


def _doubled_sum(x: Ball, y: Ball, leading: tuple[Tensor, Tensor], sign: float) -> Ball:
    """X + sign Y, given the sum of the leading parts and its error."""
    high, low = leading
    lost = frobenius(low)
    for ball, factor in ((x, 1.0), (y, sign)):
        if ball.low is not None:
            low = low + ball.low * factor
            lost = lost + frobenius(ball.low)
    high, low = _two_sum(high, low)
    return Ball(high, low, up(x.radius + y.radius + 3 * _UNIT * lost))


def _less_identity(x: Ball) -> Ball:
    high, low = x.high.clone(), None if x.low is None else x.low.clone()
    diagonal = high.diagonal(dim1=-2, dim2=-1)
    total, error = _two_sum(diagonal.contiguous(), torch.full_like(diagonal, -1.0))
    diagonal.copy_(total)
    lost = total
    if low is not None:
        lost = error + low.diagonal(dim1=-2, dim2=-1)
        low.diagonal(dim1=-2, dim2=-1).copy_(lost)
    return Ball(high, low, up(x.radius + _UNIT * (frobenius(lost[:, None]) + TINY)))


def product(x: Ball, y: Ball, *, symmetric: bool = False) -> Ball:
    """X Y, in twice the digits if one of the factors is; `symmetric` says that the exact product is known to be."""
    if natively.is_ready():
        part = x.part if x.part is y.part else Part.FULL
        return _of(natively.product(x, y, symmetric=symmetric), part)
    made = _plain(x, y) if x.low is None and y.low is None else _doubled(x, y)
    return Ball(made.high, made.low, up(made.radius + x.radius * y.spectral + x.spectral * y.radius))


def power(x: Ball, exponent: int) -> Ball:
    """X^exponent of symmetric X by binary powering, exponent >= 1."""
    if exponent == 1:
        return x
    half = power(product(x, x, symmetric=True), exponent // 2)
    return product(half, x, symmetric=True) if exponent % 2 else half


def scaled_columns(v: Tensor, w: Tensor, *, doubled: bool) -> Ball:
    """V diag(w) of V (batch, m, n) and w (batch, n)."""
    w = w[:, None, :].expand_as(v)
    high = v * w
    if not doubled:
        return Ball(high, None, up(_UNIT * frobenius(high) + TINY))
    return Ball(high, _product_error(v, w, high), torch.full((len(v),), TINY, dtype=torch.float64))


def _gamma(terms: int) -> float:
    return terms * _UNIT / (1 - terms * _UNIT) * _SLACK


def _plain(x: Ball, y: Ball) -> Ball:
    size = torch.minimum(x.frobenius * y.spectral, x.spectral * y.frobenius)
    return Ball(invariant.product(x.high, y.high), None, up(_gamma(x.high.shape[-1]) * size) + TINY)


def _doubled(x: Ball, y: Ball) -> Ball:
    """X1 Y1 without rounding plus X1 (Y - Y1) + (X - X1) Y in float64; X1, Y1 are leading bits of rows, columns."""
    terms = x.high.shape[-1]
    bits = (_DIGITS - terms.bit_length()) // 2
    left, right = _leading(x.high, bits, -1), _leading(y.high, bits, -2)
    left_rest, right_rest = _rest(x, left), _rest(y, right)
    first, second = invariant.product(left, right_rest), invariant.product(left_rest, y.high)
    high, low = _two_sum(invariant.product(left, right), first + second)
    lost_left, lost_right = frobenius(left_rest), frobenius(right_rest)
    size = (x.spectral + lost_left) * lost_right + lost_left * y.spectral
    beyond = 0.0 if y.low is None else lost_left * frobenius(y.low)
    return Ball(high, low, up((_gamma(terms) + 3 * _UNIT) * size + beyond + 4 * TINY))


def _leading(x: Tensor, bits: int, dim: int) -> Tensor:
    """X rounded to multiples of 2^(e - bits), where 2^e is above the largest entry along `dim`."""
    exponent = torch.frexp(x.abs().amax(dim, keepdim=True)).exponent
    shift = 1.5 * invariant.two_to(exponent + (_DIGITS - 1 - bits))
    return (x + shift) - shift


def _rest(x: Ball, leading: Tensor) -> Tensor:
    """The centre less its leading bits: exact without a low part, else rounded once."""
    rest = x.high - leading
    return rest if x.low is None else rest + x.low


def _two_sum(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """fl(X + Y) and its error, exactly (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _product_error(x: Tensor, y: Tensor, rounded_product: Tensor) -> Tensor:
    """X Y - fl(X Y) entrywise, exactly but for underflow (Veltkamp and Dekker)."""
    left, right = _SPLITTER * x, _SPLITTER * y
    left, right = left - (left - x), right - (right - y)
    left_rest, right_rest = x - left, y - right
    error = left * right - rounded_product
    return ((error + left * right_rest) + left_rest * right) + left_rest * right_rest
