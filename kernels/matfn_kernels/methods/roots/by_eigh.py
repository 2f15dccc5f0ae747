"""Roots through eigh: serves every matrix, and finds the smallest eigenvalue and with it the damping.

In float64 the error estimate propagates what LAPACK's backward error is known to be. In float32 it propagates what the
backward error is measured to be, in float64 on random columns: that error is not spread evenly, and it decides. Where
float64 stands behind it, float32 answers for matrices that are positive definite far beyond its rounding only, with
what it got wrong in the smallest eigenvalues corrected, and leaves every verdict on others to float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, perturbation, probes
from matfn_kernels.linalg.perturbation import Middle
from matfn_kernels.linalg.products import add_diagonal, symmetric_product
from matfn_kernels.linalg.scaling import narrowed
from matfn_kernels.linalg.spectral import (
    BACKWARD_ERROR,
    backward_error,
    displaced,
    in_double,
    orthogonality,
    propagated,
)
from matfn_kernels.methods.roots.damping import regularise
from matfn_kernels.numbers.precision import FLOOR, Precision, spacing
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Eigen
    from matfn_kernels.methods.roots.program import RootProgram

__all__ = ["LOOSE", "by_eigh", "promising"]

LOOSE: Final = 1e-3
"""Tightest tolerance for which float32 is worth trying where float64 is allowed."""

_DEFINITE: Final = 64.0
"""Smallest eigenvalue, in eps of the largest, whose sign and place beside the default damping float32 knows."""
_CORRECTED: Final = 8
"""One in so many eigenvalues, the smallest, has its error corrected."""
_SKEWED: Final = 3.0
"""Single columns of float32 eigenvectors are off by so much more, and one may carry the whole power."""
_NORM_ROUNDS: Final = 2
_NEGLIGIBLE: Final = 1e-2
"""An error of this many eps of the output's dtype need not be known any better."""


def promising(program: RootProgram, a: Tensor) -> Tensor:
    """Which A (batch, n, n), Hermitian but for rounding, a Cholesky factorisation gives hope for: float32 may do."""
    least = _DEFINITE * program.eps
    if -1 in program.signs:
        least = max(least, program.s / program.r * program.eps / LOOSE)
    damping = program.damping if isinstance(program.damping, float) else 0.0
    if damping >= least:
        return torch.ones(len(a), dtype=torch.bool, device=a.device)
    z = probes.gaussian(a, program.order).to(a.dtype)
    largest = probes.growth(lambda y: probes.times(a, y), z, _NORM_ROUNDS)
    shifted = add_diagonal(a.clone(), ((damping - least) * largest)[:, None, None])
    return invariant.cholesky(shifted)[1]


def by_eigh(program: RootProgram, eigen: Eigen, g: Tensor | None) -> Findings:
    """The powers of matrices that have been diagonalised, multiplied by G if there is one."""
    a, exponent, vectors = eigen.a, eigen.exponent, eigen.v
    values = eigen.w.to(torch.float64)
    largest = values.abs().amax(-1)
    noise = BACKWARD_ERROR * spacing(program.precision) * largest
    rules = regularise(program, values, noise, exponent)
    left = (None, None) if g is None else narrowed(g, a.dtype)
    basis = _Basis(vectors, rules.spectrum, *_noise(program, eigen, noise, rules.spectrum), exponent, *left)
    parts = [_assemble(_Power(program, sign, rules.keep), basis) for sign in program.signs]
    doubtful = rules.ambiguous
    if program.is_trial:
        doubtful = doubtful | (rules.spectrum.amin(-1) <= _DEFINITE * program.eps * largest)
    return Findings(
        outputs=tuple(part.value for part in parts),
        exponents=tuple(part.lacking for part in parts),
        residual_name=_residual_name(program),
        residual=_residual(program, vectors, rules.spectrum, a, rules.shift, parts[-1]),
        error=torch.where(doubtful, math.inf, torch.stack([part.error for part in parts]).amax(0)),
        condition=rules.condition,
        rank=rules.keep.sum(-1) if program.damping == "range" else _rank(program, values),
        damping=rules.damping,
        shift=invariant.ldexp(rules.shift, exponent),
        failures={} if program.is_trial else rules.failures,
        remarks=rules.remarks,
    )


def _noise(program: RootProgram, eigen: Eigen, law: Tensor, spectrum: Tensor) -> tuple[Tensor, Tensor | None]:
    """Backward error of eigh: the norm of a column by the law (batch, 1), or of each row as measured (batch, n).

    In the latter case it is what remains of it, with what is to be corrected.
    """
    if program.precision is not Precision.FP32 or program.damping == "range":
        return law[:, None], None
    wide = in_double(eigen)
    noise = backward_error(eigen, wide)
    if not program.is_trial:
        return noise, None
    count = -(-program.order // _CORRECTED)
    return perturbation.remaining(spectrum, noise, count), perturbation.defect(eigen, wide, count)


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
        powers = invariant.power(values.clamp_min(floor), self.sign * self.program.s / self.program.r)
        return torch.where(self.keep, powers, 0.0) if self.jumps else powers

    @property
    def jumps(self) -> bool:
        """Whether it drops eigenvalues: its derivative is then not monotone."""
        return self.program.damping == "range"

    def slope(self, values: Tensor, powers: Tensor) -> Tensor:
        """The derivative, given the powers."""
        return self.sign * self.program.s / self.program.r * powers / values

    def least(self, values: Tensor) -> Tensor:
        """What an eigenvalue within its noise of zero is taken for: zero, or for an inverse a sixteenth of itself."""
        return torch.zeros_like(values) if self.sign > 0 else values / 16

    def unit(self, spectrum: Tensor) -> Tensor:
        """Exponent of the eigenvalue whose power is largest, (batch,): in its units no power overflows."""
        if self.sign > 0:
            leading = spectrum[:, -1]
        else:
            used = self.keep if self.jumps else spectrum > 0
            leading = torch.where(used, spectrum, math.inf).amin(-1)
        usable = torch.isfinite(leading) & (leading > 0)
        return torch.frexp(torch.where(usable, leading, torch.ones_like(leading))).exponent.to(torch.int64)


@dataclass(frozen=True, slots=True)
class _Basis:
    """Eigenvectors and spectrum of A 2^-exponent + shift I, noise and known error, G 2^-left_exponent if any."""

    vectors: Tensor
    spectrum: Tensor
    noise: Tensor
    defect: Tensor | None
    exponent: Tensor
    left: Tensor | None
    left_exponent: Tensor | None


@dataclass(frozen=True, slots=True)
class _Part:
    """One power: its value but for 2^lacking, its relative error, and f in the eigenbasis in units of 2^exponent."""

    value: Tensor
    lacking: Tensor
    error: Tensor
    exponent: Tensor
    sign: int
    f: Middle


def _assemble(power: _Power, basis: _Basis) -> _Part:
    """V f(w) V^H, or G V f(w) V^H, and the relative error that a backward error of eigh leaves in it."""
    program, vectors, g = power.program, basis.vectors, basis.left
    unit = power.unit(basis.spectrum)
    spectrum = invariant.ldexp(basis.spectrum, -unit[:, None])
    f = power(spectrum)
    middle = Middle(f, None)
    if basis.defect is not None:
        small = basis.defect * invariant.two_to(-unit).to(basis.defect.real.dtype)[:, None, None]
        middle = perturbation.corrected(spectrum, f, power.slope(spectrum, f), small)
    turned, lacking = _turned(program, middle, basis, unit, power.sign)
    coordinates = vectors if g is None else invariant.product(g, vectors)
    scaled = turned.before(coordinates)
    weights = torch.ones_like(f) if g is None else invariant.row_norm(coordinates.mT, torch.float64)
    return _Part(
        symmetric_product(scaled, vectors.mH) if g is None else invariant.product(scaled, vectors.mH),
        lacking,
        _error(power, spectrum, f, invariant.ldexp(basis.noise, -unit[:, None]), weights),
        unit,
        power.sign,
        middle,
    )


def _turned(program: RootProgram, middle: Middle, basis: _Basis, unit: Tensor, sign: int) -> tuple[Middle, Tensor]:
    exponent = basis.exponent + unit
    f, lacking = program.turned(middle.f, exponent, sign, basis.left_exponent)
    return Middle(f, None if middle.d is None else program.turned(middle.d, exponent, sign)[0]), lacking


def _error(power: _Power, spectrum: Tensor, f: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
    """What a backward error of that norm does to the power, relative to it, and what its products round."""
    size = invariant.row_norm(weights * f)
    limits = weights, power.least(spectrum)
    rounding = spacing(power.program.precision) * orthogonality(power.program.order)
    if noise.shape == spectrum.shape:
        moved = displaced(spectrum, power, noise, limits)
        rounding *= _SKEWED
    else:
        negligible = None if power.jumps else _NEGLIGIBLE * torch.finfo(power.program.dtype).eps * size
        moved = propagated(spectrum, power, noise.squeeze(-1), limits, negligible)
    return torch.where(size == 0, torch.zeros_like(size), moved / size) + rounding


def _residual_name(program: RootProgram) -> str:
    if program.signs == (1,):
        return "X^r - A^s"
    return "A X^r A^s - A" if program.damping == "range" else "X^r A^s - I"


def _residual(program: RootProgram, vectors: Tensor, spectrum: Tensor, a: Tensor, shift: Tensor, part: _Part) -> Tensor:
    """Relative residual of the defining equation on random columns, A applied as it was given."""
    z = probes.gaussian(a, program.order).to(vectors.dtype)
    spectrum = invariant.ldexp(spectrum, -part.exponent[:, None])
    unit = invariant.two_to(-part.exponent)[:, None, None].to(a.dtype)

    def applied(columns: Tensor, powers: Callable[[Tensor], Tensor]) -> Tensor:
        inside = powers(probes.times(vectors.mH, columns))
        return probes.times(vectors, inside)

    def powered(columns: Tensor) -> Tensor:
        for _ in range(program.r):
            columns = part.f.times(columns)
        return columns

    def operator(columns: Tensor) -> Tensor:
        return unit * (probes.times(a, columns) + shift[:, None, None].to(a.dtype) * columns)

    raised = invariant.power(spectrum, program.s - 1).to(vectors.real.dtype)[:, :, None]
    if part.sign > 0:
        target = applied(operator(z), lambda y: raised * y)
        return probes.ratio(applied(z, powered) - target, target)
    found = applied(operator(z), lambda y: powered(raised * y))
    return probes.ratio(operator(found - z), operator(z)) if program.damping == "range" else probes.ratio(found - z, z)
