"""The polar iteration by torch's products, its proof of full rank, and clippings from its factor.

Clipping uses the H-form: with O the polar factor, H = sym(O^H M) and S_t = sign(H - t I),
O ((lo + hi) I + (H - lo I) S_lo - (H - hi I) S_hi) / 2. It costs one more polar iteration of order n a bound and keeps
the conditioning linear in sigma_max / hi, where forms in M^H M square it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.cholesky import solver
from matfn_kernels.linalg.decompositions import Decomposition, scaled
from matfn_kernels.linalg.iteration import plain, tiles
from matfn_kernels.linalg.products import add_diagonal, product, symmetrise
from matfn_kernels.linalg.scaling import norm, norm_bound
from matfn_kernels.methods.polar.schedule import BOUND, rows_from
from matfn_kernels.numbers.precision import Precision, spacing, working

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn_kernels.linalg.kernel_choice import Kernel
    from matfn_kernels.methods.polar.schedule import Obeyed, Row

__all__ = ["Factors", "Proof", "SharedFactors", "astray", "clip", "distance", "misses"]

_POWER_ROUNDS: Final = 5
"""Rounds of power iteration for the largest and the smallest singular value, which find a condition from below.

The law of rounding has room for that: it is twice what was measured."""
_UNRESOLVED_MARGIN: Final = 8.0
"""How often what a sign left counts, half of which is the error: four random columns of unit rows see less than a
sixteenth of what lies in one direction once in 30 000 times."""
_UNSOLVED: Final = 1e-2
"""Largest residual of a solution with H, whose rounding is eps times the condition: a larger one proves nothing."""


@dataclass(frozen=True, slots=True)
class Factors(Decomposition):
    """Tall matrices scaled by 2^-exponent, a bound of their norms, polar factors O, and H = sym(O^H M) / bound."""

    m: Tensor
    exponent: Tensor
    size: Tensor
    o: Tensor
    h: Tensor


@dataclass(frozen=True, slots=True)
class SharedFactors:
    """The iteration for tall matrices of one shape in one arithmetic, by the universal or the caller's coefficients."""

    rows: int
    columns: int
    dtype: torch.dtype
    precision: Precision
    obeyed: Obeyed | None
    allowed: float
    kernel: Kernel

    @property
    def schedule(self) -> tuple[Row, ...]:
        """The coefficients that are run."""
        return self.obeyed.rows if self.obeyed else rows_from(self.precision, self.allowed)

    def of(self, matrices: Sequence[Tensor]) -> Factors:
        """Polar factors of several batches (batch, m, n), m >= n."""
        m, exponent = scaled(matrices, self.dtype)
        size = self._size(m)
        x = invariant.divided(m, size[:, None, None])
        narrow = x.to(working(self.precision, self.dtype))
        parts = [plain(narrow[tile], self.schedule, self.kernel) for tile in tiles(narrow, self.rows)]
        o = torch.cat(parts).to(x.dtype)
        wide = _wide(x.dtype)
        return Factors(m, exponent, size, o, symmetrise(product(o.to(wide).mH, x.to(wide))))

    def _size(self, m: Tensor) -> Tensor:
        """The norm that each matrix is divided by, 1 for zero, (batch,)."""
        frobenius = invariant.matrix_norm(m)
        if self.obeyed is None or not self.obeyed.by_frobenius:
            return norm_bound(m, frobenius)
        return torch.where(frobenius > 0, frobenius, torch.ones_like(frobenius))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


@dataclass(frozen=True, slots=True)
class Proof:
    """Rank, condition and spread as a Cholesky factorisation of H - floor I proves them, (batch,) each.

    Attributes:
        definite: whether M has full numerical rank.
        condition: of M.
        spread: ||M||_F ||M^+||_F / n.
        columns: random columns, (batch, n, COUNT).
        solved: (H - floor I)^-1 of them.
    """

    definite: Tensor
    condition: Tensor
    spread: Tensor
    columns: Tensor
    solved: Tensor

    @classmethod
    def of(cls, h: Tensor, floor: float) -> Proof:
        """Full numerical rank by Cholesky of H - floor I, the condition by power iteration."""
        order = h.shape[-1]
        factor, definite = invariant.cholesky(add_diagonal(h.clone(), -floor))
        factor = torch.where(definite[:, None, None], factor, torch.eye(order, dtype=factor.dtype, device=h.device))
        z = probes.gaussian(h, order)
        solve = solver(factor)
        smallest = floor + 1 / probes.growth(solve, z, _POWER_ROUNDS)
        solved = solve(z)
        left = probes.ratio(probes.times(h, solved) - floor * solved - z, z)
        inverse = torch.maximum(probes.column_norm(solved), 1 / smallest)
        spread = invariant.matrix_norm(h) * inverse / order
        condition = (probes.growth(lambda y: probes.times(h, y), z, _POWER_ROUNDS) / smallest).clamp_min(1.0)
        return cls(definite & (left <= _UNSOLVED), condition, spread, z, solved)


def misses(o: Tensor) -> Tensor:
    """||O^H O - I|| on random columns (batch,), O in double precision."""
    z = probes.gaussian(o, o.shape[-1])
    return probes.ratio(probes.times(o.mH, probes.times(o, z)) - z, z)


def astray(factors: Factors, proof: Proof, m: Tensor) -> Tensor:
    """||(M - O H) H^-1|| on random columns, (batch,), M as it was sent: the distance of O from M's own polar factor.

    To first order it is no smaller, in whatever direction O is off.
    """
    y, wide = proof.solved, factors.h.dtype
    image = probes.times(invariant.divided(m.to(wide), factors.size.to(torch.float64)[:, None, None]), y)
    return probes.ratio(image - probes.times(factors.o.to(wide), probes.times(factors.h, y)), proof.columns)


def distance(o: Tensor) -> Tensor:
    """||O^H O - I||_F / sqrt(n), which bounds the distance of the caller's own iterate from its polar factor."""
    gap = invariant.matrix_norm(add_diagonal(product(o.mH, o), -1.0))
    return gap / math.sqrt(o.shape[-1])


def clip(h: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """H (batch, n, n) >= 0 with its eigenvalues clipped to [lo, hi], and the relative error of that, (batch,).

    A bound above the norm is open: the sum below would cancel against it. Eigenvalues too near a bound for their sign
    to be resolved are off by half of their distance at most, and by no more than (H - t I) (S_t^2 - I) has on them.
    """
    rows = rows_from(Precision.FP64)
    size = invariant.matrix_norm(h)[:, None].clamp_min(torch.finfo(torch.float64).tiny)
    top = torch.where(hi >= size, torch.maximum(2 * size, lo), hi)
    below, above = _shifted(h, lo), _shifted(h, top)
    total = (lo + top)[:, :, None] * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
    signs = _sign(below, rows), _sign(above, rows)
    clipped = symmetrise((total + product(below, signs[0]) - product(above, signs[1])) / 2)
    unresolved = _unresolved(below, signs[0]) + _unresolved(above, signs[1])
    rounding = BACKWARD_ERROR * spacing(Precision.FP64) * (size + lo + top) * h.shape[-1] ** 0.5
    whole = norm(clipped)
    missing = (torch.minimum(size[:, 0] * BOUND, unresolved) + rounding[:, 0]) / whole
    return clipped, torch.where(whole > 0, missing, torch.full_like(whole, math.inf))


def _shifted(h: Tensor, value: Tensor) -> Tensor:
    return h - value[:, :, None] * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)


def _unresolved(shifted: Tensor, sign: Tensor) -> Tensor:
    """||(H - t I) (S^2 - I)||_F on random columns, (batch,)."""
    z = probes.spread(shifted, shifted.shape[-1])
    left = probes.times(sign, probes.times(sign, z)) - z
    return _UNRESOLVED_MARGIN * norm(probes.times(shifted, left))


def _sign(h: Tensor, rows: tuple[Row, ...]) -> Tensor:
    size = invariant.matrix_norm(h).clamp_min(torch.finfo(h.dtype).tiny)
    return symmetrise(plain(invariant.divided(h, size[:, None, None]), rows))
