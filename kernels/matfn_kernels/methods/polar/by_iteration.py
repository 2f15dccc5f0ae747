"""Polar factors and clippings by Newton-Schulz, for matrices that a Cholesky factorisation proves of full rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.cholesky import solver
from matfn_kernels.linalg.decompositions import Ground, scaled
from matfn_kernels.linalg.iteration import plain, tiles
from matfn_kernels.linalg.products import add_diagonal, product, symmetrise
from matfn_kernels.linalg.scaling import norm, norm_bound
from matfn_kernels.linalg.spectral import BACKWARD_ERROR
from matfn_kernels.numbers.coefficients import CUSHION, safe, schedule
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn_kernels.linalg.kernel_choice import Kernel
    from matfn_kernels.methods.polar.program import PolarProgram

__all__ = ["BOUND", "Polar", "PolarFoundation", "by_iteration", "law", "rows_from"]

BOUND: Final = 1e-7
"""Smallest singular value that the schedule resolves, relative to the Frobenius norm."""

_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
_LOSS_IN_BF16: Final = 0.6
_LOSS_OF_SUMS: Final = 0.25
"""Loss in sums of n terms, by sqrt(n) eps ||M||_F ||M^+||_F / n: up to 0.13 in any spectrum and shape."""
_POWER_ROUNDS: Final = 5
_LOOSE: Final = 1e-2
_LOOSE_CUSHION: Final = 0.02
"""What rounding gains by a cushion is far below so loose a tolerance, and it costs a step."""

Row = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Polar(Ground):
    """Tall matrices scaled by 2^-exponent, a bound of their norms, polar factors O, and H = sym(O^H M) / bound."""

    m: Tensor
    exponent: Tensor
    size: Tensor
    o: Tensor
    h: Tensor


@dataclass(frozen=True, slots=True)
class PolarFoundation:
    """The iteration for tall matrices of one shape in one arithmetic, by the universal or the caller's coefficients."""

    rows: int
    columns: int
    dtype: torch.dtype
    precision: Precision
    obeyed: tuple[Row, ...] | None
    allowed: float
    kernel: Kernel

    @property
    def schedule(self) -> tuple[Row, ...]:
        """The coefficients that are run."""
        return self.obeyed or rows_from(self.precision, self.allowed)

    def of(self, matrices: Sequence[Tensor]) -> Polar:
        """Polar factors of several batches (batch, m, n), m >= n."""
        m, exponent = scaled(matrices, self.dtype)
        size = norm_bound(m, invariant.matrix_norm(m))
        x = invariant.divided(m, size[:, None, None])
        narrow = x.to(working(self.precision, self.dtype))
        parts = [plain(narrow[tile], self.schedule, self.kernel) for tile in tiles(narrow, self.rows)]
        o = torch.cat(parts).to(x.dtype)
        wide = _wide(x.dtype)
        return Polar(m, exponent, size, o, symmetrise(product(o.to(wide).mH, x.to(wide))))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


def by_iteration(program: PolarProgram, polar: Polar) -> Findings:
    """Polar factor or clipping of matrices whose polar factor has been computed."""
    o, h, size, steps = (
        polar.o,
        polar.h,
        polar.size,
        len(program.obeyed or rows_from(program.precision, program.allowed)),
    )
    wide = h.dtype
    proof = _proof(program, o, h)
    value, error = o, proof.error
    if program.bounds is not None:
        lo, hi = (bound / size.to(torch.float64)[:, None] for bound in program.scaled_bounds(polar.exponent))
        clipped, missing = _clip(h, lo, hi)
        value = product(o.to(wide), clipped) * size.to(wide)[:, None, None]
        steps, error = steps + 2 * len(rows_from(Precision.FP64)), error + missing
    return Findings(
        outputs=(value,),
        residual_name=program.residual_name,
        residual=program.residual(polar.m, value.to(polar.m.dtype)),
        error=error,
        condition=proof.condition,
        steps=steps,
        rank=torch.where(proof.definite, program.small, -1),
    )


def rows_from(precision: Precision, allowed: float = 0.0, bound: float = BOUND) -> tuple[Row, ...]:
    """The coefficients for singular values in [bound, 1], to a quarter of the spacing or to what is allowed."""
    cushion = _LOOSE_CUSHION if allowed >= _LOOSE else CUSHION
    steps = schedule(2, bound, cushion=cushion, target=max(spacing(precision) / 4, allowed))
    return safe(steps, 2, _SAFETY[precision])


def law(program: PolarProgram, condition: Tensor, spread: Tensor) -> Tensor:
    """Error of the iteration: a multiple of the rounding that was measured, and what is allowed to be left.

    Args:
        program: what is computed.
        condition: of the matrices, (batch,).
        spread: ||M||_F ||M^+||_F / n of the matrices, (batch,): what rounding does to the whole factor.
    """
    loss = _LOSS_OF_SUMS * math.sqrt(program.small) * spread
    if program.precision is Precision.BF16:
        loss = torch.maximum(loss, _LOSS_IN_BF16 * condition)
    return spacing(program.precision) * (20 + loss) + program.allowed


@dataclass(frozen=True, slots=True)
class _Proof:
    error: Tensor
    condition: Tensor
    definite: Tensor


def _proof(program: PolarProgram, o: Tensor, h: Tensor) -> _Proof:
    """Full numerical rank by Cholesky of H - floor I, the condition by power iteration, orthogonality on columns."""
    order = h.shape[-1]
    floor = max(2 * program.threshold, 10 * BOUND)
    factor, definite = invariant.cholesky(add_diagonal(h.clone(), -floor))
    factor = torch.where(definite[:, None, None], factor, torch.eye(order, dtype=factor.dtype, device=h.device))
    z = probes.gaussian(h, order)
    solve = solver(factor)
    smallest = floor + 1 / probes.growth(solve, z, _POWER_ROUNDS)
    inverse = torch.maximum(probes.column_norm(solve(z)), 1 / smallest)
    spread = invariant.matrix_norm(h) * inverse / order
    condition = (probes.growth(lambda y: probes.times(h, y), z, _POWER_ROUNDS) / smallest).clamp_min(1.0)
    wide = o.to(h.dtype)
    gap = (
        probes.ratio(probes.times(wide.mH, probes.times(wide, z)) - z, z) if program.obeyed is None else _distance(wide)
    )
    trusted = definite & torch.isfinite(gap)
    return _Proof(
        torch.where(trusted, torch.maximum(law(program, condition, spread), gap), math.inf), condition, definite
    )


def _distance(o: Tensor) -> Tensor:
    """||O^H O - I||_F / sqrt(n), which bounds the distance of the caller's own iterate from its polar factor."""
    gap = invariant.matrix_norm(add_diagonal(product(o.mH, o), -1.0))
    return gap / math.sqrt(o.shape[-1])


def _clip(h: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """H (batch, n, n) >= 0 with its eigenvalues clipped to [lo, hi], and the relative error of that, (batch,).

    A bound above the norm is open: the sum below would cancel against it. Eigenvalues too near a bound for their sign
    to be resolved are off by half of their distance at most.
    """
    rows = rows_from(Precision.FP64)
    size = invariant.matrix_norm(h)[:, None].clamp_min(torch.finfo(torch.float64).tiny)
    top = torch.where(hi >= size, torch.maximum(2 * size, lo), hi)
    below, above = _shifted(h, lo), _shifted(h, top)
    total = (lo + top)[:, :, None] * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
    clipped = symmetrise((total + product(below, _sign(below, rows)) - product(above, _sign(above, rows))) / 2)
    rounding = BACKWARD_ERROR * spacing(Precision.FP64) * (size + lo + top) * h.shape[-1] ** 0.5
    whole = norm(clipped)
    missing = (size * BOUND + rounding)[:, 0] / whole
    return clipped, torch.where(whole > 0, missing, torch.full_like(whole, math.inf))


def _shifted(h: Tensor, value: Tensor) -> Tensor:
    return h - value[:, :, None] * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)


def _sign(h: Tensor, rows: tuple[Row, ...]) -> Tensor:
    size = invariant.matrix_norm(h).clamp_min(torch.finfo(h.dtype).tiny)
    return symmetrise(plain(invariant.divided(h, size[:, None, None]), rows))
