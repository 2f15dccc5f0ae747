"""Bounds of the largest and the smallest singular value, from an approximate singular value decomposition.

With computed U, w and V, R = M - U diag(w) V^T and the defects D_U = U^T U - I and D_V, every sigma_i(M) is within
||R||_2 of sigma_i(U diag(w) V^T), which is between w_i ((1 - d_U) (1 - d_V))^(1/2) and w_i ((1 + d_U) (1 + d_V))^(1/2)
for d = ||D||_2, and so within w_i (d_U + d_V) of w_i. 2-norms are bounded by ||R^T R||_F^(1/2).
References: Weyl, Math. Ann. 71 (1912); Ostrowski, Proc. Natl. Acad. Sci. 45 (1959); Rump, BIT 51 (2011).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from matfn_kernels.linalg import invariant, scaling
from matfn_kernels.proofs.balls import difference, minus_identity, product, source, up
from matfn_kernels.proofs.proof import out_of_range, peak_exponent, read

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball

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
    balls = [_squared(ball.rounded()) for ball in (missing, *defects)]  # all of them before the first is asked
    reach, first, second = (torch.minimum(x.frobenius, up(square.frobenius.sqrt())) for x, square in balls)
    doubt = torch.stack(list(out_of_range(matrix).values())).any(0)
    zero = ~tall.flatten(1).any(-1)
    ends = [_interval(value, up(value * (first + second) + reach), doubt, zero) for value in (w.amax(-1), w.amin(-1))]
    return Extremes(exponent, ends[0], ends[1])


def _squared(x: Ball) -> tuple[Ball, Ball]:
    """X and X^T X, whose norms bound the 2-norm of X."""
    return x, product(x.mT, x, symmetric=True)


def _interval(value: Tensor, reach: Tensor, doubt: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
    """The value less and plus its reach, 0 and infinity where that is in doubt, 0 and 0 for a zero matrix."""
    lo, hi = (
        torch.nextafter(x, torch.full_like(x, end)) for x, end in ((value - reach, 0.0), (value + reach, torch.inf))
    )
    doubt = doubt | ~torch.isfinite(lo) | ~torch.isfinite(hi)
    lo, hi = torch.where(doubt, 0.0, lo.clamp_min(0.0)), torch.where(doubt, torch.inf, hi)
    return torch.where(zero, 0.0, lo), torch.where(zero, 0.0, hi)
