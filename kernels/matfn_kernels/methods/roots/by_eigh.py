"""Powers of matrices that have been diagonalised, and the error that a backward error of eigh leaves in them.

In float64 the estimate propagates what LAPACK's backward error is known to be. In float32 it propagates what the
backward error is measured to be, in float64 on random columns: that error is not spread evenly, and it decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

import torch

from matfn_kernels.linalg import eigh_correction, invariant, probes
from matfn_kernels.linalg.backward_error import (
    asymmetric,
    backward_error,
    displaced,
    in_double,
    orthogonality,
    propagated,
    row_error,
)
from matfn_kernels.linalg.eigh_correction import Middle
from matfn_kernels.linalg.narrowing import loss
from matfn_kernels.linalg.products import symmetric_product
from matfn_kernels.linalg.scaling import narrowed, norm
from matfn_kernels.methods.roots.damping import Damped, Regularised, regularise
from matfn_kernels.methods.roots.least import lone, refined
from matfn_kernels.numbers.precision import FLOOR, Precision, spacing
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Eigen
    from matfn_kernels.methods.roots.power import Power

__all__ = ["LEAST", "NEGLIGIBLE", "SKEWED", "Diagonalised", "Left", "Noise", "by_eigh", "cancelled", "law"]

_Question = TypeVar("_Question", bound=Damped)

SKEWED: Final = 3.0
"""Single columns of float32 eigenvectors are off by so much more, and one may carry the whole power."""
LEAST: Final = 1 / 16
"""Least part of itself that an eigenvalue of an inverse may be for its noise. One lost in its noise then counts with an
error of 16^(s/r) - 1 times its power: finite, and above every tolerance by default for r to 100."""
NEGLIGIBLE: Final = 1e-2
"""An error of this many eps of the output's dtype need not be known any better: rounding the output is half of one."""


_DOT: Final = 2.0
"""Error of a column of G V in units of eps ||G||_F: that of its sums, and of the eigenvector itself. Sums of 3 to 2048
products by OpenBLAS and MKL were off by 0.4 at most."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Backward error of eigh: the norm of a column (batch, 1) or of each row (batch, n), and a known part of it.

    Attributes:
        norms: of what is not known of the error.
        defect: the error in the smallest eigenvalues, to be corrected, if it is known.
    """

    norms: Tensor
    defect: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Diagonalised(Generic[_Question]):
    """Diagonalised matrices of which a function is wanted, under the rules of damping.

    Attributes:
        power: the question.
        precision: the arithmetic in which they were diagonalised.
        eigen: the decomposition.
        rules: damping and verdicts.
        eps: the spacing in whose units the rules are given.
        displaced: by how much the smallest eigenvalue may be off, (batch,), infinite where the noise says it.
    """

    power: _Question
    precision: Precision
    eigen: Eigen
    rules: Regularised
    eps: float
    displaced: Tensor

    @classmethod
    def of(cls, power: _Question, precision: Precision, eigen: Eigen, answered: Precision | None = None) -> Self:
        """Applies the rules of damping to the eigenvalues, known to within LAPACK's backward error.

        Args:
            power: the question.
            precision: the arithmetic in which the matrices were diagonalised.
            eigen: the decomposition.
            answered: the arithmetic of the answer, whose rules hold, where it is another one.
        """
        values, eps = eigen.w.to(torch.float64), power.eps(answered or precision)
        noise = law(precision, eigen)
        if power.damps_by_default and eps == spacing(precision):
            values = refined(eigen, values[:, 0] < FLOOR * eps * values[:, -1] + noise, noise)
        displaced = torch.full_like(noise, math.inf)
        if power.signs == (1,) and precision is Precision.FP64 and not power.drops:
            least = lone(eigen, _is_exact(eigen) & (values[:, 0] <= noise))
            displaced = least.displacement
            first = torch.where(displaced.isfinite(), least.value, values[:, 0])
            values = torch.cat([first[:, None], values[:, 1:]], dim=1)
        rules = regularise(power, eps, values, noise, eigen.exponent)
        return cls(power, precision, eigen, rules, eps, torch.where(rules.shift == 0, displaced, math.inf))

    @property
    def values(self) -> Tensor:
        """Eigenvalues of A itself, (batch, n) in float64."""
        return self.eigen.w.to(torch.float64)

    def lawful(self) -> Noise:
        """LAPACK's known backward error, or more where more is measured, and what rounding took from the matrix."""
        return Noise((law(self.precision, self.eigen) + self.eigen.lost)[:, None])

    def measured(self) -> Noise:
        """The backward error as measured, row by row, and what rounding took from the matrix."""
        norms = _at_least(backward_error(self.eigen, in_double(self.eigen)).mT, self.eigen).mT
        return Noise(norms + self.eigen.lost[:, None])

    def corrected(self, count: int) -> Noise:
        """The backward error as measured, that in the `count` smallest eigenvalues known and to be corrected."""
        wide = in_double(self.eigen)
        norms = eigh_correction.remaining(self.rules.spectrum, backward_error(self.eigen, wide), count)
        return Noise(_at_least(norms.mT, self.eigen).mT, eigh_correction.defect(self.eigen, wide, count))


def _is_exact(eigen: Eigen) -> Tensor:
    """Which matrices are Hermitian as they were sent, and decomposed within LAPACK's law, (batch,)."""
    same = torch.eq(eigen.given, eigen.a).flatten(1).all(-1)
    return same & (eigen.lost == 0) & (eigen.backward == 0) & (eigen.skew == 0)


def law(precision: Precision, eigen: Eigen) -> Tensor:
    """Norm of a column of LAPACK's known backward error, or what was measured where that is more, (batch,)."""
    unit = row_error(eigen.w.shape[-1]) * spacing(precision)
    return _at_least(unit * eigen.w.to(torch.float64).abs().amax(-1), eigen)


def _at_least(noise: Tensor, eigen: Eigen) -> Tensor:
    """Noise (..., batch) where it explains what was measured, else that, which may lie in a single row."""
    return torch.maximum(noise, math.sqrt(eigen.w.shape[-1]) * eigen.backward)


def by_eigh(matrices: Diagonalised[Power], noise: Noise, g: Tensor | None) -> Findings:
    """The powers of matrices that have been diagonalised, multiplied by G if there is one."""
    power, eigen, rules = matrices.power, matrices.eigen, matrices.rules
    left = None if g is None else Left.of(g, eigen.a.dtype)
    basis = _Basis(eigen.v, rules.spectrum, noise, matrices.displaced, eigen.exponent, left)
    parts = [_assemble(_Function(power, matrices.precision, sign, rules.keep), basis) for sign in power.signs]
    return Findings(
        outputs=tuple(part.value for part in parts),
        exponents=tuple(part.lacking for part in parts),
        residual_name=power.equation,
        residual=_residual(matrices, parts[-1]),
        error=torch.where(rules.ambiguous, math.inf, torch.stack([part.error for part in parts]).amax(0) + eigen.skew),
        condition=rules.condition,
        rank=rules.keep.sum(-1) if power.drops else _rank(matrices),
        damping=rules.damping,
        shift=invariant.ldexp(rules.shift, eigen.exponent),
        failures=rules.failures,
        remarks={**rules.remarks, "asymmetric": asymmetric(eigen.given, eigen.a, matrices.eps)},
    )


def _rank(matrices: Diagonalised[Power]) -> Tensor:
    """Eigenvalues of A itself above 8 eps of the largest."""
    values = matrices.values
    return (values > FLOOR * matrices.eps * values[:, -1:].clamp_min(0)).sum(-1)


@dataclass(frozen=True, slots=True)
class _Function:
    """lambda^(sign s/r), zero on the eigenvalues that a pseudo-inverse drops."""

    power: Power
    precision: Precision
    sign: int
    keep: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        floor = 0.0 if self.sign > 0 else torch.finfo(torch.float64).tiny
        powers = invariant.power(values.clamp_min(floor), self.sign * self.power.s / self.power.r)
        return torch.where(self.keep, powers, 0.0) if self.jumps else powers

    @property
    def jumps(self) -> bool:
        """Whether it drops eigenvalues: its derivative is then not monotone."""
        return self.power.drops

    def slope(self, values: Tensor, powers: Tensor) -> Tensor:
        """The derivative, given the powers."""
        return self.sign * self.power.s / self.power.r * powers / values

    def least(self, values: Tensor) -> Tensor:
        """The least that an eigenvalue within its noise of zero may be: zero, or for an inverse a part of itself."""
        return torch.zeros_like(values) if self.sign > 0 else values * LEAST

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
class Left:
    """G scaled by 2^-exponent, its norm, and the part of it that rounding to the arithmetic took, (batch,) each."""

    value: Tensor
    exponent: Tensor
    size: Tensor
    lost: Tensor

    @classmethod
    def of(cls, g: Tensor, dtype: torch.dtype) -> Self:
        """G (batch, m, n) in the arithmetic's dtype."""
        value, exponent = narrowed(g, dtype)
        return cls(value, exponent, norm(value), loss(g, dtype))


@dataclass(frozen=True, slots=True)
class _Basis:
    """Eigenvectors and spectrum of A 2^-exponent + shift I, their noise, the least one's, and G if there is one."""

    vectors: Tensor
    spectrum: Tensor
    noise: Noise
    displaced: Tensor
    exponent: Tensor
    left: Left | None


@dataclass(frozen=True, slots=True)
class _Part:
    """One power: its value but for 2^lacking, its relative error, and f in the eigenbasis in units of 2^exponent."""

    value: Tensor
    lacking: Tensor
    error: Tensor
    exponent: Tensor
    sign: int
    f: Middle


def _assemble(function: _Function, basis: _Basis) -> _Part:
    """V f(w) V^H, or G V f(w) V^H, and the relative error that a backward error of eigh leaves in it."""
    vectors, left = basis.vectors, basis.left
    unit = function.unit(basis.spectrum)
    spectrum = invariant.ldexp(basis.spectrum, -unit[:, None])
    f = function(spectrum)
    middle = Middle(f, None)
    if basis.noise.defect is not None:
        small = basis.noise.defect * invariant.two_to(-unit).to(basis.noise.defect.real.dtype)[:, None, None]
        middle = eigh_correction.corrected(spectrum, f, function.slope(spectrum, f), small)
    turned, lacking = _turned(function, middle, basis, unit)
    coordinates = vectors if left is None else invariant.product(left.value, vectors)
    scaled = turned.before(coordinates)
    weights = torch.ones_like(f) if left is None else invariant.row_norm(coordinates.mT, torch.float64)
    noise = invariant.ldexp(basis.noise.norms, -unit[:, None]), invariant.ldexp(basis.displaced, -unit)
    error = _error(function, spectrum, f, noise, weights)
    return _Part(
        symmetric_product(scaled, vectors.mH) if left is None else invariant.product(scaled, vectors.mH),
        lacking,
        error if left is None else error + cancelled(function.precision, f, weights, left),
        unit,
        function.sign,
        middle,
    )


def _turned(function: _Function, middle: Middle, basis: _Basis, unit: Tensor) -> tuple[Middle, Tensor]:
    """The power and its correction in the eigenbasis in the units of A, and the power of two that both lack."""
    power, exponent, sign = function.power, basis.exponent + unit, function.sign
    f, lacking = power.turned(middle.f, exponent, sign, None if basis.left is None else basis.left.exponent)
    return Middle(f, None if middle.d is None else power.turned(middle.d, exponent, sign)[0]), lacking


def _error(function: _Function, spectrum: Tensor, f: Tensor, noises: tuple[Tensor, Tensor], weights: Tensor) -> Tensor:
    """Relative error of the power from a backward error of that norm and from the rounding of its products.

    Args:
        function: f.
        spectrum: its arguments, (batch, n).
        f: its values, (batch, n).
        noises: the norm of the backward error, of all or of each row, and by how much the smallest argument is off.
        weights: norms of the columns that multiply f from the left, (batch, n).
    """
    noise, displaced_least = noises
    size = invariant.row_norm(weights * f)
    limits = weights, function.least(spectrum)
    rounding = spacing(function.precision) * orthogonality(function.power.order)
    if noise.shape == spectrum.shape:
        moved = displaced(spectrum, function, noise, limits)
        rounding *= SKEWED
    else:
        negligible = None if function.jumps else NEGLIGIBLE * torch.finfo(function.power.dtype).eps * size
        own = None
        if function.sign > 0 and function.precision is Precision.FP64:
            own = noise.repeat(1, spectrum.shape[-1])
            own[:, 0] = torch.minimum(own[:, 0], displaced_least)
        moved = propagated(spectrum, function, noise.squeeze(-1), limits, negligible, own)
    return torch.where(size == 0, torch.zeros_like(size), moved / size) + rounding


def cancelled(precision: Precision, f: Tensor, weights: Tensor, left: Left) -> Tensor:
    """Relative error from the rounding of G and of G V, which cancellation in G f(A) magnifies, (batch,)."""
    size = invariant.row_norm(weights * f)
    rounding = _DOT * spacing(precision) * invariant.row_norm(f) + left.lost * f.abs().amax(-1)
    return torch.where(size > 0, left.size * rounding / size, torch.zeros_like(size))


def _residual(matrices: Diagonalised[Power], part: _Part) -> Tensor:
    """Relative residual of the defining equation on random columns, A applied as it was given."""
    power, a, vectors, shift = matrices.power, matrices.eigen.a, matrices.eigen.v, matrices.rules.shift
    z = probes.gaussian(a, power.order).to(vectors.dtype)
    spectrum = invariant.ldexp(matrices.rules.spectrum, -part.exponent[:, None])
    unit = invariant.two_to(-part.exponent)[:, None, None].to(a.dtype)

    def applied(columns: Tensor, powers: Callable[[Tensor], Tensor]) -> Tensor:
        inside = powers(probes.times(vectors.mH, columns))
        return probes.times(vectors, inside)

    def powered(columns: Tensor) -> Tensor:
        for _ in range(power.r):
            columns = part.f.times(columns)
        return columns

    def operator(columns: Tensor) -> Tensor:
        return unit * (probes.times(a, columns) + shift[:, None, None].to(a.dtype) * columns)

    raised = invariant.power(spectrum, power.s - 1).to(vectors.real.dtype)[:, :, None]
    if part.sign > 0:
        target = applied(operator(z), lambda y: raised * y)
        return probes.ratio(applied(z, powered) - target, target)
    found = applied(operator(z), lambda y: powered(raised * y))
    return probes.ratio(operator(found - z), operator(z)) if power.drops else probes.ratio(found - z, z)
