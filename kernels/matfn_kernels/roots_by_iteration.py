"""Roots by the coupled iteration, for matrices that Cholesky factorisation proves positive definite in their dtype."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import probes
from matfn_kernels.coefficients import safe, schedule
from matfn_kernels.engine import coupled, tiles
from matfn_kernels.findings import Findings
from matfn_kernels.precision import Precision, spacing, working
from matfn_kernels.products import add_diagonal, symmetrise
from matfn_kernels.roots_by_eigh import FLOOR
from matfn_kernels.spectral import BACKWARD_ERROR, normalise

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.roots import RootProgram

__all__ = ["by_iteration", "schedule_for"]

_BOUNDS: Final = {Precision.BF16: 1e-3, Precision.FP32: 1e-6, Precision.FP64: 1e-8}
_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
_POWER_ROUNDS: Final = 5
_DISTRUST: Final = 0.3


def schedule_for(r: int, precision: Precision) -> tuple[tuple[float, float, float], ...]:
    """Coefficients for eigenvalues in [bound, 1], the bound being what the precision resolves."""
    steps = schedule(r, _BOUNDS[precision] ** (1 / r), target=spacing(precision) / 4)
    return safe(steps, r, _SAFETY[precision])


def _asymmetric(given: Tensor, a: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether ||A - A^H||_F is above 8 eps ||A||_F: rounding, but more than a symmetric computation leaves."""
    limit = FLOOR * torch.finfo(dtype).eps
    return torch.gt(2 * torch.linalg.matrix_norm(given - a), limit * torch.linalg.matrix_norm(given))


def by_iteration(program: RootProgram, a: Tensor, exponent: Tensor, g: Tensor | None) -> Findings:
    """The powers of A (batch, n, n), symmetric and scaled by 2^-exponent, multiplied by G if there is one."""
    size = torch.linalg.matrix_norm(a)
    p = a / torch.where(size > 0, size, torch.ones_like(size))[:, None, None]
    rows = schedule_for(program.negative[2], program.precision)
    narrow = p.to(working(program.precision, program.dtype))
    parts = [_iterate(program, narrow[tile], rows) for tile in tiles(len(p), program.order, narrow.itemsize)]
    values = [symmetrise(torch.cat(column).to(p.dtype)) for column in zip(*parts, strict=True)]
    proof = _proof(program, p, values)
    left = None if g is None else normalise(g.to(p.dtype))
    outputs, error = [], proof.error
    for sign, power in zip(program.signs, values, strict=True):
        value = size.to(torch.float64).pow(sign * program.s / program.r).to(power.dtype)[:, None, None] * power
        if left is not None:
            value, amplified = _multiplied(left[0], value)
            error = error * amplified
        outputs.append(program.unscale(value, exponent, sign, None if left is None else left[1]))
    zeros = torch.zeros_like(error)
    return Findings(
        outputs=tuple(outputs),
        residual_name="X^r - A^s" if program.signs == (1,) else "X^r A^s - I",
        residual=proof.residual,
        error=error + torch.finfo(program.dtype).eps / 2,
        condition=proof.condition,
        steps=len(rows),
        rank=torch.where(proof.definite, program.order, -1),
        damping=zeros,
        shift=zeros,
    )


def _iterate(program: RootProgram, p: Tensor, rows: tuple[tuple[float, float, float], ...]) -> list[Tensor]:
    """The powers asked for of one tile: A^(s/r) starts from G = A^k, the pair from both A and I in one pass."""
    k, s, r = program.negative
    if program.pair:
        identity = torch.eye(program.order, dtype=p.dtype, device=p.device).expand_as(p)
        stacked = coupled(torch.cat([p, identity], dim=-2), p, rows, r=2, s=1)
        return list(torch.chunk(stacked, 2, dim=-2))
    start = None if k == 0 else torch.linalg.matrix_power(p, k)
    return [coupled(start, p, rows, r, s) if s else torch.linalg.matrix_power(p, k)]


def _multiplied(g: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """G X, and how much cancellation in it may amplify a relative error of X, (batch,)."""
    product = g @ value
    bound = torch.linalg.matrix_norm(g) * torch.linalg.matrix_norm(value)
    size = torch.linalg.matrix_norm(product)
    return product, torch.where(size > 0, bound / size, torch.ones_like(size)).to(torch.float64)


@dataclass(frozen=True, slots=True)
class _Proof:
    """What was established of A / ||A||_F and of its computed power X."""

    residual: Tensor
    error: Tensor
    condition: Tensor
    definite: Tensor


def _proof(program: RootProgram, p: Tensor, values: list[Tensor]) -> _Proof:
    """Positive definiteness by Cholesky, the condition by power iteration, the residual on random columns."""
    wide, x = p.to(torch.float64), values[-1].to(torch.float64)
    floor = max(FLOOR * torch.finfo(program.dtype).eps, _BOUNDS[program.precision])
    factor, info = torch.linalg.cholesky_ex(add_diagonal(wide.clone(), -floor))
    definite = info == 0
    identity = torch.eye(program.order, dtype=torch.float64, device=p.device)
    factor = torch.where(definite[:, None, None], factor, identity)
    z = probes.gaussian(p, program.order)
    smallest = floor + 1 / probes.growth(lambda y: torch.cholesky_solve(y, factor), z, _POWER_ROUNDS)
    condition = probes.growth(lambda y: wide @ y, z, _POWER_ROUNDS) / smallest
    residual, missing = _equation(program, x, wide, z)
    law = _rounding_law(program, condition)
    trusted = definite & (missing < _DISTRUST) & torch.isfinite(residual)
    # The residual carries rounding times the condition; only what exceeds that is a failure to converge.
    unconverged = torch.where(residual > 0.5 * condition * spacing(program.precision), missing, 0.0)
    error = torch.where(trusted, torch.maximum(law, unconverged), math.inf)
    return _Proof(residual, error, torch.where(definite, condition, math.nan), definite)


def _equation(program: RootProgram, x: Tensor, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Relative residual of X^r = A^s or X^r A^s = I on columns, and the relative error of X that it stands for."""
    s, r = program.s, program.r
    if program.signs == (1,):
        target = probes.interleaved(x, a, 0, s, z)
        residual = probes.ratio(probes.interleaved(x, a, r, 0, z) - target, target)
        return residual, residual / r
    left = probes.interleaved(x, a, r, s, z) - z
    weighted = probes.column_norm(x @ left) / torch.linalg.matrix_norm(x)
    residual = probes.ratio(left, z)
    return residual, torch.maximum(weighted, residual) / r


def _rounding_law(program: RootProgram, condition: Tensor) -> Tensor:
    """Error of the coupled iteration in its arithmetic, a multiple of what was measured over r and conditions."""
    eps = spacing(program.precision)
    k, _, _ = program.negative
    inverse = 0.5 * condition * program.s / program.r if -1 in program.signs else torch.zeros_like(condition)
    forward = 4 * condition.pow(max(k, 1) - program.s / program.r) if 1 in program.signs else inverse
    return eps * (BACKWARD_ERROR + torch.maximum(inverse, forward))
