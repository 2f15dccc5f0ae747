"""Points A #_t B = A^(1/2) (A^(-1/2) B A^(-1/2))^t A^(1/2) of the geodesic of positive definite (Hermitian) matrices.

With A = L L^H, B = K K^H and L^-1 K = U S V^H it is P S^(2t) P^H for P = L U, and since L U S = K V

    L (U S^(2t-1) V^H) K^H    for t from 1/2 to 1,        (K V S^(t-1)) (K V S^(t-1))^H    for t above 1.

Since A #_t B = B #_(1-t) A, t is at least 1/2: then no power of a singular value is negative, and small ones, which
have the largest relative errors, count no more than large ones. At t = 0 and 1 the point is A and B, and at 1/2 the
geometric mean, by its own program (`geometric_mean`).

Domain: positive definite, t from -8 to 8. Error: dA = P E P^H and dB = P F P^H give, to first order, dX = P (f o F + h
o E) P^H with f_ij = (l_i^t - l_j^t) / (l_i - l_j) and h_ij = (l_j l_i^t - l_i l_j^t) / (l_j - l_i), l = s^2. Errors of
L^-1 K and of its decomposition change the function of S that stands in the middle. Both are evaluated for random
errors, as that of the mean is.
Condition: with x the logarithm of the largest quotient of two s a relative change of B counts up to
sinh(t x) / sinh(x) times, one of A sinh((1 - t) x) / sinh(x) times, and both at most once within [0, 1].
References: Bhatia, Positive Definite Matrices (2007), chapters 4 and 6; Lim and Palfia, J. Funct. Anal. 262 (2012).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR, relative_to_truth
from matfn_kernels.linalg.invariant import svd
from matfn_kernels.linalg.measured import undecomposed, unsolved
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import narrowed, norm, real_dtype
from matfn_kernels.methods.hermitian.geometric_mean import (
    MARGIN,
    SMALL,
    Factored,
    GeometricMeanProgram,
    gaussian_errors,
    largest_row,
    within,
)
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["GeodesicProgram", "candidates", "differences", "growth", "oriented"]

_HALF: Final = 0.5
"""The place t of the geometric mean, which has a program of its own."""
_PROBES: Final = 80
"""Products that the estimate takes, as that of the mean does."""
_DECOMPOSED: Final = 4.0
"""Error of svd in eps times the norm, an entry, beside the margin, from order 2 on. With 1 an estimate was a third of
the error for one of 900 random pairs of orders 1 to 6, against 80 digits; with 4 none of 2400 was too small."""
_FINE: Final = 2.0**20
"""t times a difference of exponents is exact for multiples of its inverse, and what t has beyond them is small."""


@dataclass(frozen=True, slots=True)
class GeodesicProgram:
    """Points of geodesics: the values that all pairs in a batch share.

    Attributes:
        order: n.
        t: the place, 0 for A and 1 for B.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    order: int
    t: float
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "cholesky_polar"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a and b (batch, n, n)."""
        a, b = (Factored.of(inputs[name], self) for name in ("a", "b"))
        if self.t in {0.0, 1.0}:
            return self._findings(a, b, *self._end(inputs["b" if self.t else "a"]))
        left, right, t = oriented(a, b, self.t)
        between = invariant.solve_triangular(left.factor, right.factor, upper=False)
        u, s, vh = svd(between)
        backward, skew = undecomposed(between, u, s, vh)
        unexplained = left.unfactored + right.unfactored + unsolved(left.factor, between, right.factor)
        point = _Point.of(left.factor, right.factor, u, s, vh, t)
        error = point.error(spacing(self.precision), unexplained + backward / s[:, 0] + skew)
        mean, exponent = _composed(left.factor, right.factor, u, s, vh, t)
        residual = _residual(mean, left.factor, u, s, exponent, t)
        value, whole = growth(mean, right.exponent - left.exponent, t)
        condition = _condition(left.condition, right.condition, s, t)
        return self._findings(a, b, value, whole + left.exponent + exponent, residual, error, condition)

    def _findings(self, a: Factored, b: Factored, value: Tensor, exponent: Tensor, *numbers: Tensor) -> Findings:
        """The findings from the value, its exponent, its residual, error and condition."""
        residual, error, condition = numbers
        return Findings(
            outputs=(value,),
            exponents=(exponent,),
            residual_name="X P^{-H} - P S^{2t}",
            residual=residual,
            error=relative_to_truth(torch.where((a.lifted | b.lifted) & (error > 0), torch.inf, error)),
            condition=condition,
            failures={"a_not_definite": a.not_positive, "b_not_definite": b.not_positive},
            remarks={"asymmetric": a.asymmetric | b.asymmetric},
        )

    def _end(self, sent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """A or B itself, whose condition is 1; a coarser precision rounds it."""
        given, exponent = narrowed(sent, working(self.precision, self.dtype))
        zero = torch.zeros(len(sent), dtype=torch.float64, device=sent.device)
        rounding = spacing(self.precision) if spacing(self.precision) > torch.finfo(self.dtype).eps else 0.0
        return symmetrise(given), exponent, zero, zero + rounding, zero + 1

    def fallbacks(self) -> tuple[GeodesicProgram, ...]:
        """No fallback: the program has the highest precision that the call allows."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a pair: that of the mean."""
        gemm = profile.cost("gemm", self.precision, self.order)
        return 4 * profile.cost("eigh", self.precision, self.order) + _PROBES * gemm


def oriented(a: Factored, b: Factored, t: float) -> tuple[Factored, Factored, float]:
    """A and B in the order in which t is at least 1/2."""
    return (a, b, t) if t >= _HALF else (b, a, 1 - t)


def growth(value: Tensor, gap: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Value 2^(gap t) of whole gaps (batch,) as a value and its missing exponent, a whole number."""
    coarse, gap = round(t * _FINE) / _FINE, gap.to(torch.float64)
    exact = coarse * gap
    whole = exact.floor()
    fraction = invariant.exp2(exact - whole + (t - coarse) * gap)
    return value * fraction.to(real_dtype(value.dtype)).reshape(-1, *[1] * (value.dim() - 1)), whole.to(torch.int64)


def _condition(left: Tensor, right: Tensor, s: Tensor, t: float) -> Tensor:
    """The condition of a point for those of both matrices and t of at least 1/2, (batch,)."""
    x = invariant.log(s[:, 0].to(torch.float64)) - invariant.log(s[:, -1].to(torch.float64))
    grown = [torch.maximum(_quotient(x, place), torch.ones_like(x)) for place in (t - 1, t)]
    return torch.maximum(left * grown[0], right * grown[1]).nan_to_num(torch.inf)


def _quotient(x: Tensor, t: float) -> Tensor:
    """Sinh(t x) / sinh(x) of x from 0 up, t at x = 0."""
    safe = torch.where(x > 0, x, 1.0)
    quotient = invariant.exp((t - 1) * safe) * invariant.expm1(-2 * t * safe) / invariant.expm1(-2 * safe)
    return torch.where(x > 0, quotient, t)


def differences(s: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """The factors f and h of changes of B and A, (..., n, n), for singular values (..., n)."""
    logarithms = invariant.log(s)
    x = (logarithms[..., :, None] - logarithms[..., None, :]).abs()
    means = s[..., :, None] * s[..., None, :]
    f = _quotient(x, t) * invariant.power(means, t - 1)
    h = -_quotient(x, t - 1) * invariant.power(means, t)
    return f, h


def _composed(left: Tensor, right: Tensor, u: Tensor, s: Tensor, vh: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """The point of L L^H and K K^H without a power of two, and its exponent, (batch,)."""
    exponents = 2 * t - 1 if t <= 1 else t - 1
    powers = invariant.power(s.to(torch.float64), exponents)
    exponent = torch.frexp(powers.amax(-1)).exponent.to(torch.int64)
    middle = invariant.ldexp(powers, -exponent[:, None])[:, None, :].to(real_dtype(u.dtype))
    if t <= 1:
        return symmetrise(product(product(left, product(u * middle, vh)), right.mH)), exponent
    half = product(right, vh.mH) * middle
    return symmetrise(product(half, half.mH)), 2 * exponent


def _residual(mean: Tensor, left: Tensor, u: Tensor, s: Tensor, exponent: Tensor, t: float) -> Tensor:
    """Relative residual of X P^-H = P S^2t on random columns."""
    z = probes.gaussian(mean, mean.shape[-1])
    powers = invariant.ldexp(invariant.power(s.to(torch.float64), 2 * t), -exponent[:, None])
    left, u, mean = (x.to(z.dtype) for x in (left, u, mean))
    target = probes.times(left, probes.times(u, powers[..., None] * z))
    inward = invariant.solve_triangular(left.mH, probes.times(u, z), upper=True)
    return probes.ratio(probes.times(mean, inward) - target, target)


@dataclass(frozen=True, slots=True)
class _Point:
    """L, K and L^-1 K = U S V^H in double precision, (batch, 1, n, n), K and S divided by the largest value."""

    left: Tensor
    right: Tensor
    u: Tensor
    s: Tensor
    vh: Tensor
    t: float

    @classmethod
    def of(cls, left: Tensor, right: Tensor, u: Tensor, s: Tensor, vh: Tensor, t: float) -> _Point:
        double = torch.complex128 if left.dtype.is_complex else torch.float64
        left, right, u, vh = (x[:, None].to(double) for x in (left, right, u, vh))
        s = s[:, None].to(torch.float64)
        top = s[..., :1].clamp_min(torch.finfo(torch.float64).tiny)
        return cls(left, invariant.divided(right, top[..., None]), u, s / top, vh, t)

    def error(self, spacing: float, unexplained: Tensor) -> Tensor:
        """Relative error of X for rounding errors of a spacing, or as large as what it does not explain (batch,).

        Infinite where they are not small beside A, B or S.
        """
        unit = unexplained.clamp_min(spacing)
        order = self.s.shape[-1]
        noise, decomposed = (
            gaussian_errors(order).to(self.left.device, self.left.dtype),
            _DECOMPOSED if order > 1 else 1,
        )
        inward = invariant.solve_triangular(self.left[:, 0].mH, self.u[:, 0], upper=True).mH[:, None]
        e, f = (within(inward, factor, x) for factor, x in ((self.left, noise[0]), (self.right, noise[1])))
        columns = self.s[..., None, :]
        g = (
            product(product(inward, invariant.magnitude(self.left) * noise[2]), self.u * columns)
            + decomposed * noise[3]
        )
        of_b, of_a = differences(self.s, self.t)
        basis = product(self.left, self.u)
        inner = f * of_b + e * of_a + symmetrise(self._turned(g, noise[2], noise[3]))
        moved = largest_row(product(product(basis, inner), basis.mH))
        half = basis * invariant.power(columns, self.t)
        scaled = invariant.divided(invariant.divided(f, columns), self.s[..., :, None])
        reach = max(1.0, self.t) * torch.stack([norm(x) for x in (e, scaled, invariant.divided(g, columns))]).amax(0)
        error = MARGIN * unit * (1 + (moved + self._rounding()) / norm(product(half, half.mH)))
        return torch.where(BACKWARD_ERROR * unit * reach / math.sqrt(noise.shape[1]) < SMALL, error, torch.inf)

    def _turned(self, g: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """The change of P^-1 X P^-H by an error G of S, and by vectors of U and V that are not orthonormal."""
        rows, columns = self.s[..., :, None], self.s[..., None, :]
        if self.t > 1:
            power = invariant.power(columns, 2 * self.t - 2)
            change = differences(self.s, self.t - 1)[0] * (rows * g + g.mH * columns) + 2 * right * power
            return rows * change * columns
        even, odd = (g + g.mH) / 2, (g - g.mH) / 2
        theta = 2 * self.t - 1
        powers = invariant.power(self.s, theta)
        x = (invariant.log(rows) - invariant.log(columns)).abs() / 2
        slopes = _quotient(x, theta) * invariant.power(rows * columns, (theta - 1) / 2)
        sums = (powers[..., :, None] + powers[..., None, :]) / (rows + columns)
        skewed = left * powers[..., None, :] + powers[..., :, None] * right
        turned: Tensor = (even * slopes + odd * sums + skewed) * columns
        return turned

    def _rounding(self) -> Tensor:
        """Norm of the products that X is made of, entry by entry in modulus, (batch,)."""
        left, u, right, vh = map(invariant.magnitude, (self.left, self.u, self.right, self.vh))
        columns = self.s[..., None, :]
        if self.t > 1:
            half = product(right, vh.mT) * invariant.power(columns, self.t - 1)
            return norm(product(half, half.mT))
        middle = product(u * invariant.power(columns, 2 * self.t - 1), vh)
        return norm(product(product(left, middle), right.mT))


def candidates(call: Signature) -> list[GeometricMeanProgram] | list[GeodesicProgram]:
    """The one program that serves a call."""
    _, ceiling = call.direct_precisions()
    t, order = call.parameter("t"), call.sizes("a")[-1]
    assert isinstance(t, int | float)
    if t == _HALF:
        return [GeometricMeanProgram(order, call.dtype, ceiling, ceiling)]
    return [GeodesicProgram(order, float(t), call.dtype, ceiling, ceiling)]
