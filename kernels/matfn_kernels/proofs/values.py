"""Bounds of the largest and the smallest singular value, from an approximate singular value decomposition.

With computed U, w and V, R = M - U diag(w) V^T and the defects D_U = U^T U - I and D_V, every sigma_i(M) is within
||R||_2 of sigma_i(U diag(w) V^T), which is between w_i ((1 - d_U) (1 - d_V))^(1/2) and w_i ((1 + d_U) (1 + d_V))^(1/2)
for d = ||D||_2, and so within w_i (d_U + d_V) of w_i. 2-norms are bounded by ||R^T R||_F^(1/2).

Where the value is apart from the next one its own vectors say more. For z with the Rayleigh quotient r and the residual
e = ||H z - r z|| / ||z|| in H = [[0, M], [M^T, 0]], sigma_1 >= r, and by Kato and Temple's theorem sigma_1 <= r + e^2 /
(r - a) where no other eigenvalue is above a < r; likewise sigma_n <= r + e^2 / r and sigma_n >= r - e^2 / (b - r) where
b <= sigma_(n-1).
References: Weyl, Math. Ann. 71 (1912); Kato, J. Phys. Soc. Japan 4 (1949);
Ostrowski, Proc. Natl. Acad. Sci. 45 (1959); Rump, BIT 51 (2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from matfn_kernels.linalg import invariant, scaling
from matfn_kernels.proofs.balls import difference, minus_identity, product, source, up
from matfn_kernels.proofs.proof import out_of_range, peak_exponent, read

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball, Source

__all__ = ["Extremes", "extreme_values"]


class Extremes(NamedTuple):
    """Intervals that hold the largest and the smallest singular value, but for a power of two, (batch,) float64 each.

    Without a proof they are 0 to infinity.
    """

    exponent: Tensor
    largest: tuple[Tensor, Tensor]
    smallest: tuple[Tensor, Tensor]


def extreme_values(m: Tensor) -> Extremes:
    """Intervals of the extreme singular values of M (batch, m, n), m and n at least 1; those of a zero matrix are 0."""
    wide = read(m if m.dtype.is_complex or m.dtype == torch.float64 else m.to(torch.float32)).to(torch.float64)
    tall = wide if wide.shape[-2] >= wide.shape[-1] else wide.mT.contiguous()
    exponent, by = peak_exponent(tall), source(len(tall))
    matrix = by.given(tall, -exponent, doubled=True)
    u, w, vh = invariant.svd(scaling.rescale(tall, -exponent))
    w = w.abs()
    left, right = by.given(u, doubled=True), by.given(vh, doubled=True).mT
    diagonal = by.diagonal(w, w.shape[-1], doubled=True)
    missing = difference(matrix, product(product(left, diagonal), right.mT))
    defects = [minus_identity(product(x.mT, x, symmetric=True)) for x in (left, right)]
    balls = [_squared(ball.rounded()) for ball in (missing, *defects)]
    pairs = [
        _Pair.of(by, tall, matrix, (u[..., i : i + 1], vh[:, i : i + 1].mT), -exponent) for i in (0, -1 % w.shape[-1])
    ]
    # all balls are there before the first is asked
    reach, first, second = (torch.minimum(x.frobenius, up(square.frobenius.sqrt())) for x, square in balls)
    values = w.sort(-1).values
    around = _around(values, up(values * (first + second)[:, None] + reach[:, None]))
    doubt = torch.stack(list(out_of_range(matrix).values())).any(0) | ~torch.isfinite(around[1]).all(-1)
    following = 2 if m.dtype.is_complex else 1  # of a complex matrix as a real one every value is there twice
    largest, smallest = _largest(around, pairs[0], following), _smallest(around, pairs[1], following)
    zero = ~tall.flatten(1).any(-1)
    return Extremes(exponent, *(_settled(*ends, doubt, zero) for ends in (largest, smallest)))


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two vectors u and v, near singular ones: r = u^T M v nearly, and balls that say how nearly.

    The 2-vector z = (u, v) has the Rayleigh quotient 2 u^T M v / (|u|^2 + |v|^2) for H = [[0, M], [M^T, 0]].
    """

    quotient: Tensor
    off: Ball
    residuals: tuple[Ball, Ball]
    lengths: tuple[Ball, Ball]

    @classmethod
    def of(cls, by: Source, m: Tensor, matrix: Ball, vectors: tuple[Tensor, Tensor], exponent: Tensor) -> _Pair:
        """The pair of vectors (batch, m, 1) and (batch, n, 1) for the matrix 2^exponent M."""
        u, v = (x.contiguous() for x in vectors)
        quotient = invariant.product(u.mT, invariant.product(scaling.rescale(m, exponent), v))[:, 0, 0]
        x, y = by.given(u, doubled=True), by.given(v, doubled=True)
        middle = by.diagonal(quotient[:, None], 1, doubled=True)
        image, back = product(matrix, y), product(matrix.mT, x)
        return cls(
            quotient,
            difference(product(x.mT, image), middle).rounded(),
            (difference(image, product(x, middle)).rounded(), difference(back, product(y, middle)).rounded()),
            (minus_identity(product(x.mT, x)).rounded(), minus_identity(product(y.mT, y)).rounded()),
        )

    def facts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lower and upper bounds of the Rayleigh quotient, and one of the square of its residual, (batch,) each.

        The residual of the quotient itself is the least of all. Without a proof they are infinite or not numbers.
        """
        skew = up(self.lengths[0].frobenius + self.lengths[1].frobenius)
        skew = torch.where(skew <= 1, skew, torch.inf)
        apart = up((self.off.frobenius + self.quotient.abs() * skew / 2) * (1 + skew))
        square = up((self.residuals[0].frobenius.square() + self.residuals[1].frobenius.square()) * (1 + skew) / 2)
        lo, hi = _around(self.quotient, apart)
        return lo, hi, square


def _largest(around: tuple[Tensor, Tensor], pair: _Pair, following: int) -> tuple[Tensor, Tensor]:
    """Bounds of sigma_1: that of the values, or the quotient and Kato and Temple's bound where that is sharper."""
    lo, hi, square = pair.facts()
    others = around[1][:, -1 - following] if around[1].shape[-1] > following else torch.zeros_like(hi)
    gap = _less(lo, others)
    sharp = torch.where(gap > 0, _more(hi, up(square / gap)), torch.inf)
    return _larger(around[0][:, -1], lo), torch.fmin(around[1][:, -1], sharp)


def _smallest(around: tuple[Tensor, Tensor], pair: _Pair, following: int) -> tuple[Tensor, Tensor]:
    """Bounds of sigma_n likewise; no other eigenvalue of H is between 0 and it, nor between it and sigma_(n-1)."""
    lo, hi, square = pair.facts()
    others = around[0][:, following] if around[0].shape[-1] > following else torch.full_like(hi, torch.inf)
    gap = torch.where(others > around[1][:, 0], _less(others, hi), 0.0)
    below = torch.where(gap > 0, _less(lo, up(square / gap)), 0.0)
    above = torch.where(lo > 0, _more(hi, up(square / lo)), torch.inf)
    return _larger(around[0][:, 0], below), torch.fmin(around[1][:, 0], above)


def _larger(lo: Tensor, other: Tensor) -> Tensor:
    """The larger of two lower bounds from 0 up, of which the second may be no number."""
    return torch.fmax(lo, other).clamp_min(0.0)


def _around(value: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """The value less and plus its reach."""
    return _less(value, reach), _more(value, reach)


def _less(x: Tensor, y: Tensor) -> Tensor:
    """A lower bound of X - Y."""
    return torch.nextafter(x - y, torch.full_like(x, -torch.inf))


def _more(x: Tensor, y: Tensor) -> Tensor:
    """An upper bound of X + Y."""
    return torch.nextafter(x + y, torch.full_like(x, torch.inf))


def _squared(x: Ball) -> tuple[Ball, Ball]:
    """X and X^T X, whose norms bound the 2-norm of X."""
    return x, product(x.mT, x, symmetric=True)


def _settled(lo: Tensor, hi: Tensor, doubt: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
    """The bounds, 0 and infinity where they are in doubt, 0 and 0 for a zero matrix."""
    doubt = doubt | ~torch.isfinite(lo) | torch.isnan(hi)
    lo, hi = torch.where(doubt, 0.0, lo), torch.where(doubt, torch.inf, hi)
    return torch.where(zero, 0.0, lo), torch.where(zero, 0.0, hi)
