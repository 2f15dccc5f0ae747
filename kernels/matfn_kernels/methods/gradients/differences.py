"""Divided differences of functions of eigenvalues, each to a few roundings, and bounds of the second ones.

The derivative of f(A), A = V diag(w) V^H, is V (F o V^H E V) V^H with F_ij = f[w_i, w_j], the derivative of f where the
two are equal (Daleckii and Krein). No difference of nearly equal numbers is divided: with x = u^r and y = v^r

    (x^(s/r) - y^(s/r)) / (x - y)  =  (u^(s-1) + u^(s-2) v + ... + v^(s-1)) / (u^(r-1) + u^(r-2) v + ... + v^(r-1)),

sums of positive terms, which hold at x = y too, and f[x, y] / (f(x) f(y)) with the opposite sign is that of 1 / f. The
differences of a clip are 0, 1 or quotients of distances from a bound.

The error of a gradient is a second derivative. With T_ikj = |f[w_i, w_k, w_j]| a change E of A changes F o S by at most
|S| T |E| + |E| T |S| entry by entry, to first order. Powers have

    T_ikj <= weight_ij (F_ik + F_jk),    weight_ij = C / max(w_i, w_j),

since |x dF(x, y)/dx| <= (max(r, s) + s) / r F(x, y), for pairs within a factor 2, and |F_ik - F_jk| / |w_i - w_j| is
bounded by its terms for others. The sign of singular values has it with C = 1. A function whose slope jumps by 1 has
T_ikj <= 1 / (largest - smallest of the three), 0 where no jump lies between them.
References: Higham, Functions of Matrices (2008), section 3.2; Bhatia, Matrix Analysis (1997), section V.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Differences", "clipped", "odd_clip", "of_power", "on_range", "powers"]


@dataclass(frozen=True, slots=True)
class Differences:
    """First divided differences of a function on eigenvalues, and what bounds the second ones.

    Attributes:
        first: f[w_i, w_j], (batch, n, n).
        weights: T_ikj <= weights_ij (|f[w_i, w_k]| + |f[w_j, w_k]|), (batch, n, n), or None where `jumps` bounds all.
        jumps: T_ikj <= jumps_ij as well, to be added, (batch, n, n), or None for none.
        piece: number of the linear piece that each eigenvalue lies in, (batch, n): `jumps` count nothing for three of
            one piece. None where they always count.
    """

    first: Tensor
    weights: Tensor | None = None
    jumps: Tensor | None = None
    piece: Tensor | None = None


def powers(w: Tensor, s: int, r: int, *, inverse: bool) -> Tensor:
    """w^(s/r) or w^(-s/r) of w (batch, n) from 0 up."""
    return invariant.power(w, -s / r if inverse else s / r)


def of_power(w: Tensor, s: int, r: int, *, inverse: bool, keep: Tensor | None = None) -> Differences:
    """Differences of w^(s/r) or w^(-s/r) on w (batch, n) from 0 up, in lowest terms inside.

    Args:
        w: eigenvalues.
        s: the power.
        r: the root.
        inverse: the sign.
        keep: eigenvalues (batch, n) outside of which the function is 0, held fixed; None for all.
    """
    common = math.gcd(s, r)
    s, r = s // common, r // common
    u = invariant.power(w, 1 / r) if r > 1 else w
    first = _homogeneous(u, s) / _homogeneous(u, r)
    if s < r:  # 0 / 0 at two zeros, where the derivative of a root is infinite
        first = torch.where((u[:, :, None] == 0) & (u[:, None, :] == 0), math.inf, first)
    if inverse:
        f = powers(w, s, r, inverse=False)
        first = -first / f[:, :, None] / f[:, None, :]
    larger = torch.maximum(w[:, :, None], w[:, None, :])
    if keep is not None:
        first = on_range(first, w, powers(w, s, r, inverse=inverse), keep)
        least = torch.where(keep, w, math.inf).amin(-1)[:, None, None]
        larger = torch.maximum(larger, least.nan_to_num(posinf=1.0))
    if r == 1 and not inverse:  # a polynomial, whose second differences are bounded at 0 too
        size = s * (s - 1) / 2 * invariant.power(w.amax(-1), float(s - 2))[:, None, None]
        return Differences(first, jumps=size.expand_as(first))
    return Differences(first, weights=max(2.0, 2 * (max(r, s) + s) / r) / larger)


def _homogeneous(u: Tensor, terms: int) -> Tensor:
    """u_i^(k-1) + u_i^(k-2) u_j + ... + u_j^(k-1) of k terms, (batch, n, n)."""
    rows, columns = u[:, :, None], u[:, None, :]
    power, total = torch.ones_like(rows), torch.ones_like(rows * columns)
    for _ in range(terms - 1):
        power = power * rows
        total = total * columns + power
    return total


def on_range(first: Tensor, w: Tensor, f: Tensor, keep: Tensor) -> Tensor:
    """Differences where the function is 0 on the eigenvalues that are not kept."""
    rows, columns = keep[:, :, None], keep[:, None, :]
    gap = w[:, :, None] - w[:, None, :]
    across = torch.where(rows, f[:, :, None], -f[:, None, :]) / torch.where(rows != columns, gap, 1.0)
    return torch.where(rows & columns, first, torch.where(rows != columns, across, 0.0))


def clipped(w: Tensor, lo: Tensor, hi: Tensor, noise: Tensor) -> tuple[Differences, Tensor]:
    """Differences of a clip to [lo, hi] on w (batch, n), and where w lies on a bound to within the noise.

    A value on a bound counts as inside, as automatic differentiation takes the derivative of a clip there.

    Args:
        w: values.
        lo: lower bound (batch, 1), -infinity for none.
        hi: upper bound (batch, 1), infinity for none.
        noise: (batch, 1) within which a value cannot be told from a bound.

    Returns:
        The differences, and a mask (batch,) of matrices with a value on a bound.
    """
    below, above = w < lo - noise, w > hi + noise
    inside = ~(below | above)
    f = torch.where(below, lo, torch.where(above, hi, w))
    piece = above.to(torch.int8) - below.to(torch.int8)
    same = piece[:, :, None] == piece[:, None, :]
    gap = torch.where(same, 1.0, w[:, :, None] - w[:, None, :])
    across = ((f[:, :, None] - f[:, None, :]) / gap).clamp(0, 1)
    slope = inside.to(w.dtype)[:, :, None]
    distance = torch.minimum((w - lo).abs(), (w - hi).abs())
    near = (distance <= noise).any(-1)
    jumps = 1 / torch.maximum(distance[:, :, None], distance[:, None, :]).clamp_min(noise[:, :, None])
    return Differences(torch.where(same, slope, across), jumps=jumps, piece=piece), near


def odd_clip(sigma: Tensor, f: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """(f_i - f_j) / (sigma_i - sigma_j) and (f_i + f_j) / (sigma_i + sigma_j) of values of a clip, (batch, n, n) each.

    Args:
        sigma: singular values (batch, n).
        f: the function's values.
        slope: its derivative, which counts where two singular values are equal.
    """
    gap = sigma[:, :, None] - sigma[:, None, :]
    total = sigma[:, :, None] + sigma[:, None, :]
    equal = gap == 0
    minus = torch.where(equal, slope[:, :, None], (f[:, :, None] - f[:, None, :]) / torch.where(equal, 1.0, gap))
    plus = (f[:, :, None] + f[:, None, :]) / torch.where(total == 0, 1.0, total)
    return minus, torch.where(total == 0, slope[:, :, None], plus)
