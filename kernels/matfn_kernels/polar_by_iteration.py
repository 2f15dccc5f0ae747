"""Polar factors and clippings by Newton-Schulz, for matrices that a Cholesky factorisation proves of full rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import probes
from matfn_kernels.coefficients import safe, schedule
from matfn_kernels.engine import plain, tiles
from matfn_kernels.findings import Findings
from matfn_kernels.precision import Precision, spacing, working
from matfn_kernels.products import add_diagonal, symmetrise
from matfn_kernels.spectral import BACKWARD_ERROR

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.polar import PolarProgram

__all__ = ["BOUND", "by_iteration"]

BOUND: Final = 1e-7
"""Smallest singular value that the schedule resolves, relative to the Frobenius norm."""

_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
_POWER_ROUNDS: Final = 5

Row = tuple[float, float, float]


def by_iteration(program: PolarProgram, m: Tensor, exponent: Tensor) -> Findings:
    """Polar factor or clipping of M (batch, m, n), m >= n, scaled by 2^-exponent."""
    size = torch.linalg.matrix_norm(m)
    x = m / torch.where(size > 0, size, torch.ones_like(size))[:, None, None]
    rows = program.obeyed or _universal(program.precision)
    narrow = x.to(working(program.precision, program.dtype))
    order = max(program.rows, program.columns)
    o = torch.cat([plain(narrow[t], rows) for t in tiles(len(x), order, narrow.itemsize)]).to(x.dtype)
    if program.obeyed is not None:
        return _obeyed(program, o, len(rows))
    h = symmetrise(o.to(torch.float64).mH @ x.to(torch.float64))
    proof = _proof(program, o, h)
    error = proof.error
    value, steps = o, len(rows)
    if program.bounds is not None:
        lo, hi = (bound.to(torch.float64) / size[:, None] for bound in program.scaled_bounds(exponent))
        clipped, signs = _clip(h, lo, hi)
        value = (o.to(torch.float64) @ clipped) * size.to(torch.float64)[:, None, None]
        steps += signs
        error = error + _clip_error(program, clipped, h)
    return Findings(
        outputs=(value,),
        residual_name=program.residual_name,
        residual=program.residual(m, value.to(m.dtype)),
        error=error,
        condition=proof.condition,
        steps=steps,
        rank=torch.where(proof.definite, program.small, -1),
    )


def _universal(precision: Precision) -> tuple[Row, ...]:
    return safe(schedule(2, BOUND, target=spacing(precision) / 4), 2, _SAFETY[precision])


@dataclass(frozen=True, slots=True)
class _Proof:
    error: Tensor
    condition: Tensor
    definite: Tensor


def _proof(program: PolarProgram, o: Tensor, h: Tensor) -> _Proof:
    """Full numerical rank by Cholesky of H - floor I, the condition by power iteration, orthogonality on columns."""
    order = h.shape[-1]
    floor = max(2 * program.threshold, 10 * BOUND)
    factor, info = torch.linalg.cholesky_ex(add_diagonal(h.clone(), -floor))
    definite = info == 0
    factor = torch.where(definite[:, None, None], factor, torch.eye(order, dtype=factor.dtype, device=h.device))
    z = probes.gaussian(h, order)
    smallest = floor + 1 / probes.growth(lambda y: torch.cholesky_solve(y, factor), z, _POWER_ROUNDS)
    condition = probes.growth(lambda y: h @ y, z, _POWER_ROUNDS) / smallest
    wide = o.to(torch.float64)
    gap = probes.column_norm(wide.mH @ (wide @ z) - z) / probes.column_norm(z)
    law = spacing(program.precision) * (20 + 0.3 * condition)
    trusted = definite & torch.isfinite(gap)
    return _Proof(torch.where(trusted, torch.maximum(law, gap), math.inf), condition, definite)


def _obeyed(program: PolarProgram, o: Tensor, steps: int) -> Findings:
    """The caller's own iteration: its distance from orthogonality bounds the error of a full-rank matrix."""
    wide = o.to(torch.float64)
    gram = wide.mH @ wide
    gap = torch.linalg.matrix_norm(add_diagonal(gram, -1.0)) / program.small**0.5
    return Findings(
        outputs=(o,),
        residual_name="O^H O - I",
        residual=gap,
        error=torch.where(torch.isfinite(gap), gap + 20 * spacing(program.precision), math.inf),
        condition=torch.full_like(gap, math.nan),
        steps=steps,
    )


def _clip(h: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, int]:
    """Eigenvalues of H (batch, n, n) >= 0 clipped to [lo, hi], and the steps it took."""
    rows = _universal(Precision.FP64)
    open_above = ~torch.isfinite(hi)
    top = torch.where(open_above, torch.linalg.matrix_norm(h)[:, None] * 2, hi)
    below, above = _shifted(h, lo), _shifted(h, top)
    total = (lo + top)[:, :, None] * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
    total = total + below @ _sign(below, rows) - above @ _sign(above, rows)
    return symmetrise(total / 2), 2 * len(rows)


def _shifted(h: Tensor, value: Tensor) -> Tensor:
    return h - value[:, :, None] * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)


def _sign(h: Tensor, rows: tuple[Row, ...]) -> Tensor:
    size = torch.linalg.matrix_norm(h).clamp_min(torch.finfo(h.dtype).tiny)
    return symmetrise(plain(h / size[:, None, None], rows))


def _clip_error(program: PolarProgram, clipped: Tensor, h: Tensor) -> Tensor:
    """What singular values too near a bound to be resolved leave behind, and the products' rounding."""
    size = torch.linalg.matrix_norm(clipped)
    scale = torch.linalg.matrix_norm(h) * (BOUND + BACKWARD_ERROR * spacing(program.precision))
    return torch.where(size > 0, scale / size, torch.zeros_like(size))
