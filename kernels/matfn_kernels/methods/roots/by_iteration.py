"""Roots by the coupled iteration, for matrices that Cholesky factorisation proves positive definite in their dtype."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.cholesky import inverse_norm
from matfn_kernels.linalg.iteration import coupled, tiles
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import add_diagonal, product, symmetrise
from matfn_kernels.linalg.scaling import narrowed, norm, power_of_two
from matfn_kernels.linalg.spectral import BACKWARD_ERROR, eigh
from matfn_kernels.methods.roots.damping import Regularised, regularise
from matfn_kernels.numbers.coefficients import Step, safe, schedule
from matfn_kernels.numbers.precision import FLOOR, Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.roots.program import RootProgram

__all__ = [
    "Product",
    "by_iteration",
    "judged",
    "least_eigenvalue",
    "multiplied",
    "rows_for",
    "rows_from",
    "steps_for",
]

_BOUNDS: Final = {Precision.BF16: 1e-3, Precision.FP32: 1e-6, Precision.FP64: 1e-8}
_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
_USUAL_BOUND: Final = 1e-4
_POWER_ROUNDS: Final = 3
_NORM_ROUNDS: Final = 3
_DISTRUST: Final = 0.3
_LEAST_EXPONENT: Final = 0.5
"""Rounding of A^(s/r) = A^k A^-(k - s/r) grows at least with the root of the condition: up to 6 eps kappa^(1/2) was
seen for A^(3/4) and A^(4/5) with clusters of eigenvalues, by every kernel, orders 16 to 128."""


def steps_for(program: RootProgram) -> tuple[Step, ...]:
    """The steps for eigenvalues in [bound, 1], to half of what the precision resolves or to what is allowed.

    Of the kernels in C, which choose for each matrix, those for a matrix of no special condition.
    """
    return _steps(program, _USUAL_BOUND if program.kernel is Kernel.NATIVE else least_eigenvalue(program))


def _steps(program: RootProgram, bound: float) -> tuple[Step, ...]:
    r = program.negative[2]
    return schedule(r, bound ** (1 / r), target=max(spacing(program.precision) / 2, program.allowed))


def rows_for(program: RootProgram) -> tuple[tuple[float, float, float], ...]:
    """The coefficients that are run on every matrix."""
    return rows_from(program, least_eigenvalue(program))


def rows_from(program: RootProgram, bound: float) -> tuple[tuple[float, float, float], ...]:
    """The coefficients for eigenvalues in [bound, 1]."""
    return safe(_steps(program, bound), program.negative[2], _SAFETY[program.precision])


def least_eigenvalue(program: RootProgram) -> float:
    """Least eigenvalue: what is smaller has rounding errors above what is allowed, or too few matrices have it."""
    return max(_BOUNDS[program.precision], program.allowed)


def by_iteration(program: RootProgram, a: Tensor, exponent: Tensor, g: Tensor | None) -> Findings:
    """The powers of A (batch, n, n), symmetric and scaled by 2^-exponent, multiplied by G if there is one."""
    rules = _rules(program, a, exponent)
    if rules is not None:
        a = add_diagonal(a.clone(), rules.shift[:, None, None].to(a.dtype))
    size = _size(a)
    p = invariant.divided(a, size[:, None, None])
    rows = rows_for(program)
    narrow = p.to(working(program.precision, program.dtype))
    parts = [_iterate(program, narrow[tile], rows) for tile in tiles(narrow, program.order)]
    values = [symmetrise(torch.cat(column).to(p.dtype)) for column in zip(*parts, strict=True)]
    proof = _proof(program, p, values)
    unit = torch.frexp(size.to(torch.float64))
    scale = _Scale(unit.mantissa, exponent + unit.exponent)
    products = [_finished(program, values[k], scale, sign, g) for k, sign in enumerate(program.signs)]
    return Findings(
        outputs=tuple(product.value for product in products),
        exponents=tuple(product.exponent for product in products),
        residual_name="X^r - A^s" if program.signs == (1,) else "X^r A^s - I",
        residual=proof.residual,
        error=proof.error * torch.stack([product.amplified for product in products]).amax(0),
        condition=proof.condition,
        steps=len(rows),
        rank=torch.where(proof.definite, program.order, -1),
        damping=None if rules is None else rules.damping,
        shift=None if rules is None else invariant.ldexp(rules.shift, exponent),
        failures={} if rules is None else rules.failures,
        remarks={} if rules is None else rules.remarks,
    )


def _size(a: Tensor) -> Tensor:
    """||A^2||_F^(1/2) (batch,) of entries near 1: see `scaling.norm_bound`; 1 for zero."""
    size = invariant.matrix_norm(product(a, a)).sqrt()
    return torch.where(size > 0, size, torch.ones_like(size))


def _rules(program: RootProgram, a: Tensor, exponent: Tensor) -> Regularised | None:
    """The damping of a bf16 iteration, which nothing stands behind; others leave it to eigh."""
    if program.precision is not Precision.BF16:
        return None
    values = eigh(a.to(torch.float64))[0]
    return regularise(program, values, BACKWARD_ERROR * spacing(Precision.FP64) * values.abs().amax(-1), exponent)


@dataclass(frozen=True, slots=True)
class _Scale:
    """What a matrix was divided by, as a number near 1 and a power of two, both (batch,)."""

    value: Tensor
    exponent: Tensor


@dataclass(frozen=True, slots=True)
class Product:
    """A power, or G times it, but for 2^exponent, and what cancellation does to a relative error."""

    value: Tensor
    exponent: Tensor
    amplified: Tensor


def _finished(program: RootProgram, power: Tensor, scale: _Scale, sign: int, g: Tensor | None) -> Product:
    s, r = sign * program.s, program.r
    factor, exponent = power_of_two(invariant.power(scale.value, s / r), scale.exponent, s, r)
    return multiplied(factor.to(power.dtype)[:, None, None] * power, exponent, g)


def multiplied(value: Tensor, exponent: Tensor, g: Tensor | None) -> Product:
    """A power but for 2^exponent, from the left multiplied by G if there is one."""
    if g is None:
        return Product(value, exponent, torch.ones(len(value), dtype=torch.float64, device=value.device))
    left, left_exponent = narrowed(g, value.dtype)
    image = product(left, value)
    whole = norm(image)
    amplified = norm(left) * norm(value) / torch.where(whole > 0, whole, torch.ones_like(whole))
    return Product(image, exponent + left_exponent, amplified.clamp_min(1.0))


def _iterate(program: RootProgram, p: Tensor, rows: tuple[tuple[float, float, float], ...]) -> list[Tensor]:
    """The powers asked for of one tile: A^(s/r) starts from G = A^k, the pair from both A and I in one pass."""
    k, s, r = program.negative
    if program.pair:
        identity = torch.eye(program.order, dtype=p.dtype, device=p.device).expand_as(p)
        stacked = coupled(torch.cat([p, identity], dim=-2), p, rows, 2, 1, program.kernel)
        return list(torch.chunk(stacked, 2, dim=-2))
    start = None if k == 0 else invariant.matrix_power(p, k)
    return [coupled(start, p, rows, r, s, program.kernel) if s else invariant.matrix_power(p, k)]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was established of A / ||A||_F and of its computed power X."""

    residual: Tensor
    error: Tensor
    condition: Tensor
    definite: Tensor


def _proof(program: RootProgram, p: Tensor, values: list[Tensor]) -> Proof:
    """Positive definiteness by Cholesky, the condition by power iteration, the residual on random columns."""
    wide, z = p.to(torch.float64), probes.gaussian(p, program.order)
    floor = max(FLOOR * program.eps, least_eigenvalue(program))
    shifted = add_diagonal(wide.clone(), -floor)
    if program.signs == (1,):
        definite, smallest = _smallest_by_cholesky(shifted, z)
        smallest = floor + smallest
    else:
        definite, smallest = invariant.cholesky(shifted)[1], _smallest_by_inverse(program, values[-1], z)
    residual, missing = _equation(program, values[-1].to(torch.float64), wide, z)
    condition = (_largest(p, z) / smallest).clamp_min(1.0)
    return judged(program, condition, definite, residual, missing)


def judged(program: RootProgram, condition: Tensor, definite: Tensor, residual: Tensor, missing: Tensor) -> Proof:
    """The error by the law of the iteration's rounding, unless a residual contradicts it."""
    law = _law(program, condition)
    trusted = definite & (missing < _DISTRUST) & torch.isfinite(residual)
    # The residual of an inverse carries rounding times the condition, and means nothing below that.
    blind = 0.0 if program.signs == (1,) else 0.5 * condition * spacing(program.precision)
    error = torch.where(trusted, law + torch.where(residual > blind, 2 * missing, 0.0), math.inf)
    return Proof(residual, error, torch.where(definite, condition, math.nan), definite)


def _largest(p: Tensor, z: Tensor) -> Tensor:
    """The largest eigenvalue of P by power iteration."""
    return probes.growth(lambda y: probes.times(p, y), z.to(p.dtype), _NORM_ROUNDS).to(torch.float64)


def _smallest_by_cholesky(a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Which A are positive definite, and their smallest eigenvalues by inverse iteration."""
    factor, definite = invariant.cholesky(a)
    factor = torch.where(definite[:, None, None], factor, torch.eye(a.shape[-1], device=a.device).to(a))
    return definite, 1 / inverse_norm(factor, z, _POWER_ROUNDS)


def _smallest_by_inverse(program: RootProgram, x: Tensor, z: Tensor) -> Tensor:
    """The smallest eigenvalue of P by power iteration on X = P^(-s/r), whose error is small wherever it is trusted."""

    def applied(y: Tensor) -> Tensor:
        for _ in range(program.r):
            y = probes.times(x, y)
        return y

    growth = probes.growth(applied, z.to(x.dtype), _POWER_ROUNDS).to(torch.float64)
    return invariant.power(growth, -1 / program.s)


def _equation(program: RootProgram, x: Tensor, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Relative residual of X^r = A^s or X^r A^s = I on columns, and the relative error of X that it stands for."""
    s, r = program.s, program.r
    if program.signs == (1,):
        target = probes.interleaved(x, a, 0, s, z)
        residual = probes.ratio(probes.interleaved(x, a, r, 0, z) - target, target)
        return residual, residual / r
    left = probes.interleaved(x, a, r, s, z) - z
    weighted = probes.column_norm(probes.times(x, left)) / invariant.matrix_norm(x)
    residual = probes.ratio(left, z)
    return residual, torch.maximum(weighted, residual) / r


def _law(program: RootProgram, condition: Tensor) -> Tensor:
    """Error of the coupled iteration: what its last step leaves, and a multiple of the rounding that was measured."""
    eps = spacing(program.precision)
    k, _, r = program.negative
    law = torch.full_like(condition, BACKWARD_ERROR + 2 * r)
    if -1 in program.signs:
        law = law + 0.65 * condition * program.s / program.r
    if 1 in program.signs:
        exponent = max(max(k, 1) - program.s / program.r, _LEAST_EXPONENT)
        law = law + 8 * r * r + 12 * max(1.0, r / 8) * invariant.power(condition, exponent)
    return eps * law + (program.s * steps_for(program)[-1].error if program.allowed else 0.0)
