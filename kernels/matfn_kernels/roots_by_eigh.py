"""Roots through eigh: serves every matrix, and finds the smallest eigenvalue and with it the damping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels import probes
from matfn_kernels.damping import FLOOR, regularise
from matfn_kernels.findings import Findings
from matfn_kernels.precision import spacing
from matfn_kernels.products import symmetrise
from matfn_kernels.scaling import narrowed
from matfn_kernels.spectral import BACKWARD_ERROR, propagated

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.foundation import Eigen
    from matfn_kernels.roots import RootProgram

__all__ = ["by_eigh"]


def by_eigh(program: RootProgram, eigen: Eigen, g: Tensor | None) -> Findings:
    """The powers of matrices that have been diagonalised, multiplied by G if there is one."""
    a, exponent, vectors = eigen.a, eigen.exponent, eigen.v
    values = eigen.w.to(torch.float64)
    noise = BACKWARD_ERROR * spacing(program.precision) * values.abs().amax(-1)
    rules = regularise(program, values, noise, exponent)
    left, left_exponent = (None, None) if g is None else narrowed(g, a.dtype)
    parts = [
        _assemble(_Power(program, sign, rules.keep), vectors, rules.spectrum, noise, left) for sign in program.signs
    ]
    turned = [program.turned(part.value, exponent + part.exponent, part.sign, left_exponent) for part in parts]
    return Findings(
        outputs=tuple(value for value, _ in turned),
        exponents=tuple(whole for _, whole in turned),
        residual_name=_residual_name(program),
        residual=_residual(program, vectors, rules.spectrum, a, rules.shift, parts[-1]),
        error=torch.where(rules.ambiguous, math.inf, torch.stack([part.error for part in parts]).amax(0)),
        condition=rules.condition,
        rank=rules.keep.sum(-1) if program.damping == "range" else _rank(program, values),
        damping=rules.damping,
        shift=torch.ldexp(rules.shift, exponent),
        failures=rules.failures,
        remarks=rules.remarks,
    )


def _rank(program: RootProgram, values: Tensor) -> Tensor:
    """Eigenvalues of A itself above 8 eps of the largest."""
    return (values > FLOOR * program.eps * values[:, -1:].clamp_min(0)).sum(-1)


@dataclass(frozen=True, slots=True)
class _Power:
    """lambda^(sign s/r), zero on the eigenvalues that a pseudo-inverse drops."""

    program: RootProgram
    sign: int
    keep: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        floor = 0.0 if self.sign > 0 else torch.finfo(torch.float64).tiny
        powers = values.clamp_min(floor).pow(self.sign * self.program.s / self.program.r)
        return torch.where(self.keep, powers, 0.0) if self.program.damping == "range" else powers

    def least(self, values: Tensor) -> Tensor:
        """What an eigenvalue within its noise of zero is taken for: zero, or for an inverse a sixteenth of itself."""
        return torch.zeros_like(values) if self.sign > 0 else values / 16

    def unit(self, spectrum: Tensor) -> Tensor:
        """Exponent of the eigenvalue whose power is largest, (batch,): in its units no power overflows."""
        if self.sign > 0:
            leading = spectrum[:, -1]
        else:
            used = self.keep if self.program.damping == "range" else spectrum > 0
            leading = torch.where(used, spectrum, math.inf).amin(-1)
        usable = torch.isfinite(leading) & (leading > 0)
        return torch.frexp(torch.where(usable, leading, torch.ones_like(leading))).exponent.to(torch.int64)


@dataclass(frozen=True, slots=True)
class _Part:
    """One power in units of 2^exponent: its value, its relative error, and f on the spectrum."""

    value: Tensor
    error: Tensor
    exponent: Tensor
    sign: int
    f: Tensor


def _assemble(power: _Power, vectors: Tensor, spectrum: Tensor, noise: Tensor, g: Tensor | None) -> _Part:
    """V f(w) V^H, or G V f(w) V^H, and the relative error that a backward error of eigh leaves in it."""
    unit = power.unit(spectrum)
    spectrum, noise = torch.ldexp(spectrum, -unit[:, None]), torch.ldexp(noise, -unit)
    f = power(spectrum)
    coordinates = vectors if g is None else g @ vectors
    product = (coordinates * f[:, None, :].to(vectors.dtype)) @ vectors.mH
    weights = torch.ones_like(f) if g is None else torch.linalg.vector_norm(coordinates, dim=-2).to(torch.float64)
    size = (weights * f).square().sum(-1).sqrt()
    error = propagated(spectrum, power, noise, (weights, power.least(spectrum))) / size
    rounding = spacing(power.program.precision) * BACKWARD_ERROR
    return _Part(
        symmetrise(product) if g is None else product,
        torch.where(size > 0, error, torch.zeros_like(error)) + rounding,
        unit,
        power.sign,
        f,
    )


def _residual_name(program: RootProgram) -> str:
    if program.signs == (1,):
        return "X^r - A^s"
    return "A X^r A^s - A" if program.damping == "range" else "X^r A^s - I"


def _residual(program: RootProgram, vectors: Tensor, spectrum: Tensor, a: Tensor, shift: Tensor, part: _Part) -> Tensor:
    """Relative residual of the defining equation on random columns, A applied as it was given."""
    z = probes.gaussian(a, program.order).to(vectors.dtype)
    spectrum = torch.ldexp(spectrum, -part.exponent[:, None])
    unit = torch.exp2(-part.exponent.to(torch.float64))[:, None, None].to(a.dtype)

    def applied(columns: Tensor, diagonal: Tensor) -> Tensor:
        return probes.times(vectors, diagonal[:, :, None].to(vectors.dtype) * probes.times(vectors.mH, columns))

    def operator(columns: Tensor) -> Tensor:
        return unit * (probes.times(a, columns) + shift[:, None, None].to(a.dtype) * columns)

    times_s, times_r = spectrum.pow(program.s - 1), part.f.pow(program.r)
    if part.sign > 0:
        target = applied(operator(z), times_s)
        return probes.ratio(applied(z, times_r) - target, target)
    found = applied(operator(z), times_s * times_r)
    return probes.ratio(operator(found - z), operator(z)) if program.damping == "range" else probes.ratio(found - z, z)
