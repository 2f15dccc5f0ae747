"""Random probes: images of a few fixed Gaussian vectors under an operator, in float64.

A certificate needs norms of operators that are never formed, X^r A - I among them. Four Gaussian columns give the
Frobenius norm to within a quarter. The columns depend on the order alone, so that a certificate depends on its own
matrix and on nothing else in the batch.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.native.structures import PROBES
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.numbers.pinned import used

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = [
    "COUNT",
    "column_norm",
    "columns",
    "gaussian",
    "growth",
    "interleaved",
    "ratio",
    "spread",
    "spread_columns",
    "square",
    "times",
]

COUNT: Final = PROBES
_SEED: Final = 20240901
"""Any number: with the order it makes the columns the same in every process."""


@lru_cache(maxsize=64)
def _columns(order: int, count: int, device: torch.device) -> Tensor:
    """Gaussian columns (order, count), cached on the device: a copy would wait for all that is under way there."""
    generator = torch.Generator().manual_seed(_SEED + order)
    return torch.randn(order, count, generator=generator, dtype=torch.float64, device="cpu").to(device)


def gaussian(like: Tensor, order: int, count: int = COUNT) -> Tensor:
    """Fixed Gaussian columns (batch, order, count) in the double precision of `like`."""
    dtype = torch.complex128 if like.dtype.is_complex else torch.float64
    return used(_columns(order, count, like.device)).to(dtype).expand(like.shape[0], order, count)


def columns(order: int) -> Tensor:
    """Fixed Gaussian columns for one matrix on a CPU, (order, COUNT) float64."""
    return _columns(order, COUNT, torch.device("cpu"))


def spread(like: Tensor, order: int) -> Tensor:
    """Fixed Gaussian columns (batch, order, COUNT), scaled to rows of unit length.

    All columns of the matrix that they multiply have equal weight.

    The Frobenius norm of E Z is that of E where a single column of E is not zero, and near it otherwise.
    """
    z = gaussian(like, order)
    return invariant.divided(z, invariant.row_norm(z)[..., None])


@lru_cache(maxsize=64)
def spread_columns(order: int) -> Tensor:
    """`spread` for one matrix on a CPU, (order, COUNT) float64 without gaps."""
    return spread(torch.empty(1, order, device="cpu"), order)[0].contiguous()


def square(like: Tensor) -> Tensor:
    """Fixed Gaussian matrices of the shape of `like` (batch, n, n), real float64."""
    order = like.shape[-1]
    generator = torch.Generator().manual_seed(_SEED + order)
    numbers = torch.randn(order, order, generator=generator, dtype=torch.float64, device="cpu")
    return numbers.to(like.device).expand_as(like)


def times(x: Tensor, z: Tensor) -> Tensor:
    """X Z for a few columns Z, as (Z^T X^T)^T: two to twenty times as fast in BLAS as the product of tall and thin."""
    return invariant.product(z.mT, x.mT).mT


def column_norm(x: Tensor) -> Tensor:
    """Frobenius norm over the columns of x (batch, n, COUNT), divided by sqrt(COUNT); (batch,) real."""
    return invariant.matrix_norm(x) / COUNT**0.5


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Norm of some columns over that of others, (batch,) float64; where the others vanish 0, or infinite if alone."""
    size, value = norm(whole), norm(part)
    alone = torch.where(value > 0, torch.full_like(value, math.inf), torch.zeros_like(value))
    return torch.where(size > 0, value / size, alone)


def growth(apply: Callable[[Tensor], Tensor], start: Tensor, rounds: int) -> Tensor:
    """Norm of a positive semidefinite operator by block power iteration, (batch,); a lower bound, mostly within 20%."""
    x = start
    size = torch.ones(start.shape[0], dtype=torch.float64, device=start.device)
    tiny = torch.finfo(start.dtype).tiny
    for _ in range(rounds):
        x = invariant.divided(x, invariant.row_norm(x.mT)[:, None].clamp_min(tiny))
        x = apply(x)
        size = invariant.row_norm(x.mT).amax(-1)
    return size


def interleaved(x: Tensor, a: Tensor, r: int, s: int, start: Tensor) -> Tensor:
    """X^r A^s applied to columns, the factors spread evenly so that no partial product overflows."""
    done_x = done_a = 0
    z = start
    while done_x < r or done_a < s:
        if done_x * (s + 1) <= done_a * r + r // 2 and done_x < r:
            z, done_x = times(x, z), done_x + 1
        elif done_a < s:
            z, done_a = times(a, z), done_a + 1
        else:
            z, done_x = times(x, z), done_x + 1
    return z
