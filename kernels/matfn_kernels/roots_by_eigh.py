"""Roots through eigh: serves every matrix, and finds the smallest eigenvalue and with it the damping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import probes
from matfn_kernels.findings import Findings
from matfn_kernels.precision import spacing
from matfn_kernels.products import symmetrise
from matfn_kernels.spectral import BACKWARD_ERROR, eigh, normalise, propagated

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.roots import RootProgram

__all__ = ["FLOOR", "by_eigh"]

FLOOR: Final = 8.0
"""Default damping lifts the smallest eigenvalue to this many eps of the input's dtype, relative to the largest."""


def by_eigh(program: RootProgram, a: Tensor, exponent: Tensor, g: Tensor | None) -> Findings:
    """The powers of A (batch, n, n), symmetric and scaled by 2^-exponent, multiplied by G if there is one."""
    values, vectors = eigh(a)
    values = values.to(torch.float64)
    top, bottom = values[:, -1], values[:, 0]
    size = torch.where(top > 0, top, torch.ones_like(top))
    noise = BACKWARD_ERROR * spacing(program.precision) * values.abs().amax(-1)
    relative = bottom / size
    damping = _damping(program, relative)
    spectrum = (values + (damping * size)[:, None]).clamp_min(0)
    keep = spectrum > FLOOR * torch.finfo(program.dtype).eps * size[:, None]
    powers = [_Power(program, sign, keep) for sign in program.signs]
    left = None if g is None else normalise(g.to(a.dtype))
    outputs, errors = [], []
    for power in powers:
        value, error = _assemble(power, vectors, spectrum, noise, None if left is None else left[0])
        outputs.append(program.unscale(value, exponent, power.sign, None if left is None else left[1]))
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
        return probes.ratio(applied(z, times_r) - target, target)
    found = applied(operator(z), times_s * times_r)
    return probes.ratio(operator(found - z), operator(z)) if program.damping == "range" else probes.ratio(found - z, z)
