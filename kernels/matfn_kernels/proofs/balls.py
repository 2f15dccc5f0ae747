"""Matrices known to within a Frobenius norm, and their sums and products with every rounding accounted for.

u = 2^-53 and gamma_k = k u / (1 - k u). A product of k terms an entry, in any order and with or without fused
multiplications, satisfies |fl(X Y) - X Y| <= gamma_k |X| |Y| entrywise. An entry that underflows, even to zero, is
wrong by less than 2^-1022, and `TINY` covers all of them. Norms and radii are computed upward: each nonnegative
quantity is enlarged by more than the rounding of the few operations that gave it.

A ball with a second part `low` is kept in twice the digits: its products are split as in `numbers.extended_product`.
`recorded` does the same in C where the library is built.
References: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 3; Ozaki, Ogita, Oishi and Rump,
Numerical Algorithms 59 (2012); Rump, Acta Numerica 19 (2010).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import torch

from matfn_kernels.linalg import invariant, scaling
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.linalg.native.structures import Half
from matfn_kernels.linalg.triangles import read_triangle
from matfn_kernels.proofs.recorded import Tape

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Ball",
    "Source",
    "difference",
    "minus_identity",
    "power",
    "product",
    "skew_part",
    "source",
    "symmetric_part",
    "up",
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
_LARGEST_DEFECT: Final = 0.9
"""Largest defect of an approximate inverse that is used: any below 1 bounds an error, 0.9 by ten times the residual."""
_FARTHEST: Final = 300
"""Exponent by which a row is scaled at most, so that underflow before stays below `TINY`."""


def up(x: Tensor) -> Tensor:
    """An upper bound of a nonnegative expression that took at most 60 roundings, none of them in a difference."""
    return x * _SLACK


Ball: TypeAlias = Any
"""`Recorded` or `Centred`, all of a proof from one source."""


class Source(Protocol):
    """Where the balls of a proof come from."""

    def given(
        self,
        x: Tensor,
        exponent: Tensor | None = None,
        *,
        doubled: bool = False,
        unread: Half | None = None,
        ones: bool = False,
    ) -> Ball:
        """X 2^exponent of X (batch, m, n) in float32 or float64; half of it may be unread, its diagonal be ones."""

    def diagonal(self, values: Tensor | None, order: int, *, doubled: bool = False) -> Ball:
        """diag(l) of l (batch, n) in float64, or I."""


def source(items: int) -> Source:
    """The source for a batch of so many matrices: in C where the library is built."""
    return Tape(items) if is_built() else Torch(items)


@dataclass(frozen=True, slots=True)
class Torch:
    """Balls by torch, where the library in C is not built."""

    items: int

    def given(
        self,
        x: Tensor,
        exponent: Tensor | None = None,
        *,
        doubled: bool = False,
        unread: Half | None = None,
        ones: bool = False,
    ) -> Centred:
        """X 2^exponent of X (batch, m, n), as `Tape.given`."""
        x = x.to(torch.float64)
        if unread is not None:
            x = read_triangle(x, lower=unread is Half.UPPER_HALF, unit=ones)
        return _exact(x if exponent is None else scaling.rescale(x, exponent), doubled=doubled)

    def diagonal(self, values: Tensor | None, order: int, *, doubled: bool = False) -> Centred:
        """diag(l) of l (batch, n) in float64, or I."""
        values = torch.ones(self.items, order, dtype=torch.float64) if values is None else values
        return _exact(torch.diag_embed(values), doubled=doubled)


@dataclass(frozen=True, slots=True)
class Centred:
    """The matrices within `radius` (batch,) of high + low (batch, m, n) in the Frobenius norm.

    Attributes:
        high: the centre, or its leading part.
        low: what the centre has beyond `high`, or None where `high` is all of it.
        radius: the largest distance, (batch,).
        exists: of a factor, whether it was computed, (batch,).
        norms: upper bounds of norms that were asked for before.
    """

    high: Tensor
    low: Tensor | None
    radius: Tensor
    exists: Tensor | None = None
    norms: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.high.shape[-2], self.high.shape[-1]

    @property
    def doubled(self) -> bool:
        """Whether it is kept in twice the digits."""
        return self.low is not None

    @property
    def frobenius(self) -> Tensor:
        """An upper bound of the Frobenius norm, (batch,)."""
        if "frobenius" not in self.norms:
            self.norms["frobenius"] = self._at_most(frobenius(self.high))
        return self.norms["frobenius"]

    @property
    def spectral(self) -> Tensor:
        """An upper bound of the 2-norm, of the absolute values too, (batch,)."""
        if "spectral" not in self.norms:
            self.norms["spectral"] = torch.minimum(self._at_most(_rows_and_columns(self.high)), self.frobenius)
        return self.norms["spectral"]

    @property
    def uncertainty(self) -> Tensor:
        """The radius about `high`, (batch,)."""
        return self.rounded().radius

    def _at_most(self, length: Tensor) -> Tensor:
        length = length + self.radius
        return up(length if self.low is None else length + frobenius(self.low))

    @property
    def mT(self) -> Centred:  # noqa: N802 - as torch names it
        """The transpose, which has the same norms."""
        return Centred(self.high.mT, None if self.low is None else self.low.mT, self.radius, None, self.norms)

    def rounded(self) -> Centred:
        """The ball about `high` alone that holds this one."""
        return self if self.low is None else Centred(self.high, None, up(self.radius + frobenius(self.low)))

    def times(self, y: Centred, *, symmetric: bool) -> Centred:
        """X Y."""
        del symmetric
        made = _plain(self, y) if self.low is None and y.low is None else _doubled(self, y)
        inherited = self.radius * y.spectral + self.spectral * y.radius
        return Centred(made.high, made.low, up(made.radius + inherited))

    def plus(self, y: Centred, *, sign: float, factor: float) -> Centred:
        """(X + sign Y) factor, a power of two."""
        if self.low is None and y.low is None:
            high = self.high + y.high * sign
            found = Centred(high, None, up(self.radius + y.radius + _UNIT * frobenius(high) + TINY))
        else:
            found = _doubled_sum(self, y, _two_sum(self.high, y.high * sign), sign)
        low = None if found.low is None else found.low * factor
        return Centred(found.high * factor, low, found.radius * factor)

    def identity(self) -> Centred:
        """I of the same order."""
        return Torch(len(self.high)).diagonal(None, self.shape[0])

    def factored(self) -> Centred:
        """Lower triangular L near L L^T = (X + X^T) / 2, not trusted."""
        lower, exists = invariant.cholesky((self.high + self.high.mT) / 2)
        exact = _exact(lower, doubled=self.doubled)
        return Centred(exact.high, exact.low, exact.radius, exists)

    def inverted(self) -> Centred:
        """A triangle near the inverse of this one, not trusted."""
        identity = torch.eye(self.shape[0], dtype=torch.float64).expand_as(self.high)
        upper = bool(self.high.tril(-1).eq(0).all())
        return _exact(invariant.solve_triangular(self.high, identity, upper=upper))

    def rows_like(self, y: Centred) -> Centred:
        """Rows times powers of two that bring those of Y near 1; of what was given exactly."""
        exponents = torch.frexp(y.high.abs().amax(-1, keepdim=True)).exponent
        found = _exact(self.high * invariant.two_to(-exponents), doubled=self.doubled)
        far = (exponents.abs() > _FARTHEST).flatten(1).any(-1)
        return Centred(found.high, found.low, torch.where(far, torch.nan, found.radius))

    def strictly_lower(self) -> Centred:
        """The entries below the diagonal."""
        return Centred(self.high.tril(-1), None if self.low is None else self.low.tril(-1), self.radius)

    def wider(self, defect: Centred) -> Centred:
        """The ball that holds (I + G)^-1 X (I + G)^-T too, for any G no larger than the defect.

        It is 1 / (1 - g)^2 - 1 <= 2 g / (1 - g)^2 times as large.
        """
        g = torch.where(defect.spectral <= _LARGEST_DEFECT, defect.spectral, torch.nan)
        left = (1 - g) * (1 - 2.0**-45)
        return Centred(self.high, self.low, up(self.radius + up(self.frobenius * (2 * g / (left * left)))))


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


def _exact(x: Tensor, *, doubled: bool = False) -> Centred:
    """X (batch, m, n) in float64, known exactly; kept in twice the digits if `doubled`."""
    low = torch.zeros_like(x) if doubled else None
    return Centred(x, low, torch.full((len(x),), TINY, dtype=torch.float64))


def difference(x: Ball, y: Ball) -> Ball:
    """X - Y."""
    return x.plus(y, sign=-1.0, factor=1.0)


def minus_identity(x: Ball) -> Ball:
    """X - I."""
    return difference(x, x.identity())


def symmetric_part(x: Ball) -> Ball:
    """(X + X^T) / 2."""
    return x.plus(x.mT, sign=1.0, factor=0.5)


def skew_part(x: Ball) -> Ball:
    """(X - X^T) / 2."""
    return x.plus(x.mT, sign=-1.0, factor=0.5)


def product(x: Ball, y: Ball, *, symmetric: bool = False) -> Ball:
    """X Y, in twice the digits if one of the factors is; `symmetric` says that the exact product is known to be."""
    return x.times(y, symmetric=symmetric)


def power(x: Ball, exponent: int) -> Ball:
    """X^exponent of symmetric X by binary powering, exponent >= 1."""
    if exponent == 1:
        return x
    half = power(product(x, x, symmetric=True), exponent // 2)
    return product(half, x, symmetric=True) if exponent % 2 else half


def _doubled_sum(x: Centred, y: Centred, leading: tuple[Tensor, Tensor], sign: float) -> Centred:
    """X + sign Y, given the sum of the leading parts and its error."""
    high, low = leading
    lost = frobenius(low)
    for ball, factor in ((x, 1.0), (y, sign)):
        if ball.low is not None:
            low = low + ball.low * factor
            lost = lost + frobenius(ball.low)
    high, low = _two_sum(high, low)
    return Centred(high, low, up(x.radius + y.radius + 3 * _UNIT * lost))


def _gamma(terms: int) -> float:
    return terms * _UNIT / (1 - terms * _UNIT) * _SLACK


def _plain(x: Centred, y: Centred) -> Centred:
    size = torch.minimum(x.frobenius * y.spectral, x.spectral * y.frobenius)
    return Centred(invariant.product(x.high, y.high), None, up(_gamma(x.high.shape[-1]) * size) + TINY)


def _doubled(x: Centred, y: Centred) -> Centred:
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
    return Centred(high, low, up((_gamma(terms) + 3 * _UNIT) * size + beyond + 4 * TINY))


def _leading(x: Tensor, bits: int, dim: int) -> Tensor:
    """X rounded to multiples of 2^(e - bits), where 2^e is above the largest entry along `dim`."""
    exponent = torch.frexp(x.abs().amax(dim, keepdim=True)).exponent
    shift = 1.5 * invariant.two_to(exponent + (_DIGITS - 1 - bits))
    return (x + shift) - shift


def _rest(x: Centred, leading: Tensor) -> Tensor:
    """The centre less its leading bits: exact without a low part, else rounded once."""
    rest = x.high - leading
    return rest if x.low is None else rest + x.low


def _two_sum(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """fl(X + Y) and its error, exactly (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)
