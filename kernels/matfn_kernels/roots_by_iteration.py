"""Roots by the coupled iteration, for matrices that Cholesky factorisation proves positive definite in their dtype."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import probes
from matfn_kernels.cholesky import inverse_norm
from matfn_kernels.coefficients import safe, schedule
from matfn_kernels.damping import FLOOR, Regularised, regularise
from matfn_kernels.engine import coupled, tiles
from matfn_kernels.findings import Findings
from matfn_kernels.precision import Precision, spacing, working
from matfn_kernels.products import add_diagonal, symmetrise
from matfn_kernels.scaling import narrowed, norm, norm_bound, rescale
from matfn_kernels.spectral import BACKWARD_ERROR, eigh

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.roots import RootProgram

__all__ = ["by_iteration", "schedule_for"]

_BOUNDS: Final = {Precision.BF16: 1e-3, Precision.FP32: 1e-6, Precision.FP64: 1e-8}
_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
_POWER_ROUNDS: Final = 5
_NORM_ROUNDS: Final = 3
_DISTRUST: Final = 0.3


def schedule_for(r: int, precision: Precision) -> tuple[tuple[float, float, float], ...]:
    """Coefficients for eigenvalues in [bound, 1], the bound being what the precision resolves."""
    steps = schedule(r, _BOUNDS[precision] ** (1 / r), target=spacing(precision) / 2)
    return safe(steps, r, _SAFETY[precision])


def by_iteration(program: RootProgram, a: Tensor, exponent: Tensor, g: Tensor | None) -> Findings:
    """The powers of A (batch, n, n), symmetric and scaled by 2^-exponent, multiplied by G if there is one."""
    rules = _rules(program, a, exponent)
    if rules is not None:
        a = add_diagonal(a.clone(), rules.shift[:, None, None].to(a.dtype))
    frobenius, unit = torch.frexp(torch.linalg.matrix_norm(a))
    unit = unit.to(torch.int64)
    a = rescale(a, -unit)
    size = norm_bound(a, frobenius)
    p = a / size[:, None, None]
    rows = schedule_for(program.negative[2], program.precision)
    narrow = p.to(working(program.precision, program.dtype))
    parts = [_iterate(program, narrow[tile], rows) for tile in tiles(narrow, program.order)]
    values = [symmetrise(torch.cat(column).to(p.dtype)) for column in zip(*parts, strict=True)]
    proof = _proof(program, p, values)
    products = [_finished(program, values[k], size, sign, g) for k, sign in enumerate(program.signs)]
    turned = [
        program.turned(product.value, exponent + unit, sign, product.exponent)
        for product, sign in zip(products, program.signs, strict=True)
    ]
    return Findings(
        outputs=tuple(value for value, _ in turned),
        exponents=tuple(whole for _, whole in turned),
        residual_name="X^r - A^s" if program.signs == (1,) else "X^r A^s - I",
        residual=proof.residual,
        error=proof.error * torch.stack([product.amplified for product in products]).amax(0),
        condition=proof.condition,
        steps=len(rows),
        rank=torch.where(proof.definite, program.order, -1),
        damping=None if rules is None else rules.damping,
        shift=None if rules is None else torch.ldexp(rules.shift, exponent),
        failures={} if rules is None else rules.failures,
        remarks={} if rules is None else rules.remarks,
    )


def _rules(program: RootProgram, a: Tensor, exponent: Tensor) -> Regularised | None:
    """The damping of a bf16 iteration, which nothing stands behind; others leave it to eigh."""
    if program.precision is not Precision.BF16:
        return None
    values = eigh(a.to(torch.float64))[0]
    return regularise(program, values, BACKWARD_ERROR * spacing(Precision.FP64) * values.abs().amax(-1), exponent)


@dataclass(frozen=True, slots=True)
class _Product:
    """A power, or G times it, with the power of two that G lacks and what cancellation does to a relative error."""

    value: Tensor
    exponent: Tensor | None
    amplified: Tensor


def _finished(program: RootProgram, power: Tensor, size: Tensor, sign: int, g: Tensor | None) -> _Product:
    value = size.to(torch.float64).pow(sign * program.s / program.r).to(power.dtype)[:, None, None] * power
    if g is None:
        return _Product(value, None, torch.ones(len(value), dtype=torch.float64, device=value.device))
    left, exponent = narrowed(g, value.dtype)
    product = left @ value
    whole = norm(product)
    amplified = norm(left) * norm(value) / torch.where(whole > 0, whole, torch.ones_like(whole))
    return _Product(product, exponent, amplified.clamp_min(1.0))


def _iterate(program: RootProgram, p: Tensor, rows: tuple[tuple[float, float, float], ...]) -> list[Tensor]:
    """The powers asked for of one tile: A^(s/r) starts from G = A^k, the pair from both A and I in one pass."""
    k, s, r = program.negative
    if program.pair:
        identity = torch.eye(program.order, dtype=p.dtype, device=p.device).expand_as(p)
        stacked = coupled(torch.cat([p, identity], dim=-2), p, rows, 2, 1, program.kernel)
        return list(torch.chunk(stacked, 2, dim=-2))
    start = None if k == 0 else torch.linalg.matrix_power(p, k)
    return [coupled(start, p, rows, r, s, program.kernel) if s else torch.linalg.matrix_power(p, k)]


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
    floor = max(FLOOR * program.eps, _BOUNDS[program.precision])
    factor, info = torch.linalg.cholesky_ex(add_diagonal(wide.clone(), -floor))
    definite = info == 0
    if p.device.type != "cpu" or not bool(definite.all()):
        factor = torch.where(definite[:, None, None], factor, torch.eye(program.order, device=p.device).to(wide))
    z = probes.gaussian(p, program.order)
    smallest = floor + 1 / inverse_norm(factor, z, _POWER_ROUNDS)
    condition = (probes.growth(lambda y: probes.times(wide, y), z, _NORM_ROUNDS) / smallest).clamp_min(1.0)
    residual, missing = _equation(program, x, wide, z)
    law = _rounding_law(program, condition)
    trusted = definite & (missing < _DISTRUST) & torch.isfinite(residual)
    # The residual of an inverse carries rounding times the condition, and means nothing below that.
    blind = 0.0 if program.signs == (1,) else 0.5 * condition * spacing(program.precision)
    error = torch.where(trusted, law + torch.where(residual > blind, 2 * missing, 0.0), math.inf)
    return _Proof(residual, error, torch.where(definite, condition, math.nan), definite)


def _equation(program: RootProgram, x: Tensor, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Relative residual of X^r = A^s or X^r A^s = I on columns, and the relative error of X that it stands for."""
    s, r = program.s, program.r
    if program.signs == (1,):
        target = probes.interleaved(x, a, 0, s, z)
        residual = probes.ratio(probes.interleaved(x, a, r, 0, z) - target, target)
        return residual, residual / r
    left = probes.interleaved(x, a, r, s, z) - z
    weighted = probes.column_norm(probes.times(x, left)) / torch.linalg.matrix_norm(x)
    residual = probes.ratio(left, z)
    return residual, torch.maximum(weighted, residual) / r


def _rounding_law(program: RootProgram, condition: Tensor) -> Tensor:
    """Error of the coupled iteration in its arithmetic, a multiple of what was measured over r and conditions."""
    eps = spacing(program.precision)
    k, _, r = program.negative
    law = torch.full_like(condition, BACKWARD_ERROR + 2 * r)
    if -1 in program.signs:
        law = law + 0.5 * condition * program.s / program.r
    if 1 in program.signs:
        law = law + 8 * r * r + 12 * max(1.0, r / 8) * condition.pow(max(k, 1) - program.s / program.r)
    return eps * law
