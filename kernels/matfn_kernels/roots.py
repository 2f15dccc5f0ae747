"""Powers A^(s/r) and A^(-s/r) of symmetric positive semidefinite matrices, alone or multiplied from the left by G.

Two methods give the same answers. `eigh` diagonalises; it serves every matrix, finds the smallest eigenvalue and with
it the damping. `engine` runs the coupled iteration of `engine.coupled` on A / ||A||_F and is meant for matrices that
are positive definite in their dtype; a Cholesky factorisation of A - floor I in float64 proves that of each matrix, and
one that has no proof is handed on by an infinite error estimate.

A^(s/r) is A^k A^(-(k - s/r)) with k = ceil(s/r), so that one kind of iterate and one kind of certificate serve both.
Damping: the answer is that of A + shift I, the shift added in the working precision.
References: kexue.fm/archives/11175; Guo and Higham (2006); Higham, Functions of Matrices (2008), chapter 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import torch

from matfn_kernels import probes
from matfn_kernels.coefficients import safe, schedule
from matfn_kernels.engine import coupled, tiles
from matfn_kernels.findings import Findings
from matfn_kernels.precision import Precision, spacing, working
from matfn_kernels.products import add_diagonal, symmetrise
from matfn_kernels.spectral import BACKWARD_ERROR, eigh, normalise, propagated, real_dtype, rescale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["FLOOR", "RootProgram", "run", "schedule_for"]

FLOOR: Final = 8.0
"""Default damping lifts the smallest eigenvalue to this many eps of the input's dtype, relative to the largest."""

_BOUNDS: Final = {Precision.BF16: 1e-3, Precision.FP32: 1e-6, Precision.FP64: 1e-8}
_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
_POWER_ROUNDS: Final = 5
_DISTRUST: Final = 0.3


@dataclass(frozen=True, slots=True)
class RootProgram:
    """What a batch of roots must have in common to be computed together.

    Attributes:
        order: n.
        rows: rows of G, or None without G.
        r: the root.
        s: the power.
        inverse: A^(-s/r) rather than A^(s/r).
        pair: both.
        damping: as the caller gave it.
        dtype: of the inputs and outputs.
        method: engine or eigh.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    order: int
    rows: int | None
    r: int
    s: int
    inverse: bool
    pair: bool
    damping: float | str | None
    dtype: torch.dtype
    method: Literal["engine", "eigh"]
    precision: Precision
    ceiling: Precision

    @property
    def negative(self) -> tuple[int, int, int]:
        """(k, s', r): the answer is A^k A^(-s'/r) in lowest terms."""
        common = math.gcd(self.s, self.r)
        s, r = self.s // common, self.r // common
        k = 0 if self.inverse else -(-s // r)
        return k, (s if self.inverse else k * r - s), r


def schedule_for(r: int, precision: Precision) -> tuple[tuple[float, float, float], ...]:
    """Coefficients for eigenvalues in [bound, 1], the bound being what the precision resolves."""
    steps = schedule(r, _BOUNDS[precision] ** (1 / r), target=spacing(precision) / 4)
    return safe(steps, r, _SAFETY[precision])


def run(program: RootProgram, inputs: Mapping[str, Tensor]) -> Findings:
    """Computes a batch: inputs a (batch, n, n) and, if the program has rows, g (batch, m, n)."""
    given, exponent = normalise(inputs["a"].to(working(_at_least_single(program.precision), program.dtype)))
    a = symmetrise(given)
    method = _by_engine if program.method == "engine" else _by_eigh
    findings = method(program, a, exponent, inputs.get("g"))
    return replace(findings, remarks={**findings.remarks, "asymmetric": _asymmetric(given, a, program.dtype)})


def _asymmetric(given: Tensor, a: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether ||A - A^H||_F is above 8 eps ||A||_F: rounding, but more than a symmetric computation leaves."""
    limit = FLOOR * torch.finfo(dtype).eps
    return torch.gt(2 * torch.linalg.matrix_norm(given - a), limit * torch.linalg.matrix_norm(given))


def _at_least_single(precision: Precision) -> Precision:
    """Scaling and certificates of a bf16 iteration are kept in fp32."""
    return Precision.FP32 if precision is Precision.BF16 else precision


# --- eigh ----------------------------------------------------------------------------------------------------------


def _by_eigh(program: RootProgram, a: Tensor, exponent: Tensor, g: Tensor | None) -> Findings:
    values, vectors = eigh(a)
    values = values.to(torch.float64)
    top, bottom = values[:, -1], values[:, 0]
    size = torch.where(top > 0, top, torch.ones_like(top))
    noise = BACKWARD_ERROR * spacing(program.precision) * values.abs().amax(-1)
    relative = bottom / size
    damping = _damping(program, relative)
    spectrum = (values + (damping * size)[:, None]).clamp_min(0)
    keep = spectrum > FLOOR * torch.finfo(program.dtype).eps * size[:, None]
    powers = [_Power(program, sign, keep) for sign in _signs(program)]
    left = None if g is None else normalise(g.to(a.dtype))
    outputs, errors = [], []
    for power in powers:
        value, error = _assemble(power, vectors, spectrum, noise, None if left is None else left[0])
        outputs.append(_unscale(program, value, exponent, power.sign, None if left is None else left[1]))
        errors.append(error)
    shift = torch.ldexp(damping * size, exponent)
    zero = (top <= 0) & (bottom >= 0)
    return Findings(
        outputs=tuple(outputs),
        residual_name=_residual_name(program),
        residual=_residual(program, vectors, spectrum, a, damping * size, powers[-1]),
        error=torch.stack(errors).amax(0) + torch.finfo(program.dtype).eps / 2,
        condition=size / (bottom + damping * size).clamp_min(0),
        rank=(values > FLOOR * torch.finfo(program.dtype).eps * size[:, None]).sum(-1),
        damping=damping,
        shift=shift,
        failures=_failures(program, relative + damping, spectrum[:, 0] <= noise, top < 0, zero),
        remarks={"negative": relative < -FLOOR * torch.finfo(program.dtype).eps, **_damped(program, damping)},
    )


def _damped(program: RootProgram, damping: Tensor) -> dict[str, Tensor]:
    return {"damped": damping > 0} if program.damping is None else {}


def _signs(program: RootProgram) -> tuple[int, ...]:
    """+1 for A^(s/r), -1 for A^(-s/r)."""
    if program.pair:
        return (1, -1)
    return (-1,) if program.inverse else (1,)


def _damping(program: RootProgram, relative: Tensor) -> Tensor:
    """Relative shift of each matrix, (batch,)."""
    if isinstance(program.damping, float):
        return torch.full_like(relative, program.damping)
    if program.damping is None and (program.inverse or program.pair):
        return (FLOOR * torch.finfo(program.dtype).eps - relative).clamp_min(0)
    return torch.zeros_like(relative)


def _failures(
    program: RootProgram, relative: Tensor, vanishing: Tensor, negative: Tensor, zero: Tensor
) -> dict[str, Tensor]:
    not_positive = (relative < -math.sqrt(torch.finfo(program.dtype).eps)) | negative
    failures = {"not_positive": not_positive & ~zero}
    if program.damping == "range":
        return failures
    if program.inverse or program.pair:
        failures["singular"] = zero | vanishing if program.damping == 0 else zero
    return failures


@dataclass(frozen=True, slots=True)
class _Power:
    """lambda^(sign s/r), zero on the eigenvalues that a pseudo-inverse drops."""

    program: RootProgram
    sign: int
    keep: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        exponent = self.sign * self.program.s / self.program.r
        if self.sign > 0:
            return values.clamp_min(0).pow(exponent)
        powers = values.clamp_min(torch.finfo(torch.float64).tiny).pow(exponent)
        return torch.where(self.keep, powers, 0.0) if self.program.damping == "range" else powers


def _assemble(
    power: _Power, vectors: Tensor, spectrum: Tensor, noise: Tensor, g: Tensor | None
) -> tuple[Tensor, Tensor]:
    """V f(w) V^H, or G V f(w) V^H, and the relative error that a backward error of eigh leaves in it."""
    f = power(spectrum)
    if g is None:
        weights = torch.ones_like(spectrum)
        value = symmetrise((vectors * f[:, None, :].to(vectors.dtype)) @ vectors.mH)
    else:
        coordinates = g @ vectors
        weights = torch.linalg.vector_norm(coordinates, dim=-2).to(torch.float64)
        value = (coordinates * f[:, None, :].to(vectors.dtype)) @ vectors.mH
    size = (weights * f).square().sum(-1).sqrt()
    rounding = spacing(power.program.precision) * BACKWARD_ERROR
    error = propagated(spectrum, power, noise, weights) / size
    return value, torch.where(size > 0, error, torch.zeros_like(error)) + rounding


def _unscale(program: RootProgram, value: Tensor, exponent: Tensor, sign: int, left: Tensor | None) -> Tensor:
    """Undoes the scaling of A by 2^-e, and of G, on a power of A."""
    turned = sign * exponent.to(torch.float64) * program.s / program.r
    whole = turned.floor()
    fraction = torch.exp2(turned - whole).to(real_dtype(value.dtype))
    whole = whole.to(torch.int64) + (0 if left is None else left)
    return rescale(value * fraction[:, None, None], whole).to(program.dtype)


def _residual_name(program: RootProgram) -> str:
    if not (program.inverse or program.pair):
        return "X^r - A^s"
    return "A X^r A^s - A" if program.damping == "range" else "X^r A^s - I"


def _residual(
    program: RootProgram, vectors: Tensor, spectrum: Tensor, a: Tensor, shift: Tensor, power: _Power
) -> Tensor:
    """Relative residual of the defining equation on random columns, A applied as it was given."""
    z = probes.gaussian(a, program.order).to(vectors.dtype)
    f = power(spectrum)

    def applied(columns: Tensor, diagonal: Tensor) -> Tensor:
        return vectors @ (diagonal[:, :, None].to(vectors.dtype) * (vectors.mH @ columns))

    def operator(columns: Tensor) -> Tensor:
        return a @ columns + shift[:, None, None].to(a.dtype) * columns

    times_s, times_r = spectrum.pow(program.s - 1), f.pow(program.r)
    if power.sign > 0:
        target = applied(operator(z), times_s)
        return _ratio(applied(z, times_r) - target, target)
    found = applied(operator(z), times_s * times_r)
    return _ratio(operator(found - z), operator(z)) if program.damping == "range" else _ratio(found - z, z)


def _ratio(difference: Tensor, reference: Tensor) -> Tensor:
    size = probes.column_norm(reference).to(torch.float64)
    ratio = probes.column_norm(difference).to(torch.float64) / size
    return torch.where(size > 0, ratio, torch.zeros_like(ratio))


# --- engine --------------------------------------------------------------------------------------------------------


def _by_engine(program: RootProgram, a: Tensor, exponent: Tensor, g: Tensor | None) -> Findings:
    size = torch.linalg.matrix_norm(a)
    p = a / torch.where(size > 0, size, torch.ones_like(size))[:, None, None]
    rows = schedule_for(program.negative[2], program.precision)
    narrow = p.to(working(program.precision, program.dtype))
    parts = [_iterate(program, narrow[tile], rows) for tile in tiles(len(p), program.order, narrow.itemsize)]
    values = [symmetrise(torch.cat(column).to(p.dtype)) for column in zip(*parts, strict=True)]
    proof = _proof(program, p, values)
    left = None if g is None else normalise(g.to(p.dtype))
    outputs, error = [], proof.error
    for sign, power in zip(_signs(program), values, strict=True):
        value = size.to(torch.float64).pow(sign * program.s / program.r).to(power.dtype)[:, None, None] * power
        if left is not None:
            value, amplified = _multiplied(left[0], value)
            error = error * amplified
        outputs.append(_unscale(program, value, exponent, sign, None if left is None else left[1]))
    zeros = torch.zeros_like(error)
    return Findings(
        outputs=tuple(outputs),
        residual_name="X^r - A^s" if _signs(program) == (1,) else "X^r A^s - I",
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
    if _signs(program) == (1,):
        target = probes.interleaved(x, a, 0, s, z)
        residual = _ratio(probes.interleaved(x, a, r, 0, z) - target, target)
        return residual, residual / r
    left = probes.interleaved(x, a, r, s, z) - z
    weighted = probes.column_norm(x @ left) / torch.linalg.matrix_norm(x)
    residual = _ratio(left, z)
    return residual, torch.maximum(weighted, residual) / r


def _rounding_law(program: RootProgram, condition: Tensor) -> Tensor:
    """Error of the coupled iteration in its arithmetic, a multiple of what was measured over r and conditions."""
    eps = spacing(program.precision)
    k, _, _ = program.negative
    inverse = 0.5 * condition * program.s / program.r if -1 in _signs(program) else torch.zeros_like(condition)
    forward = 4 * condition.pow(max(k, 1) - program.s / program.r) if 1 in _signs(program) else inverse
    return eps * (BACKWARD_ERROR + torch.maximum(inverse, forward))
