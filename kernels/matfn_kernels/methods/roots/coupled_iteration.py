"""Steps, price and error of the coupled iteration for a power, whichever kernels run it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.narrowing import holds, loss
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import narrowed, norm
from matfn_kernels.numbers.coefficients import Step, safe, schedule
from matfn_kernels.numbers.precision import FLOOR, Precision, at_least_single, spacing

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.roots.power import Power

__all__ = ["DISTRUST", "CoupledIteration", "Established", "Product", "multiplied"]

_BOUNDS: Final = {Precision.BF16: 1e-3, Precision.FP32: 1e-6, Precision.FP64: 1e-8}
"""Least eigenvalue, relative to the largest, that a schedule reaches. At the reciprocal of it the law of an inverse's
error is 5 s/r in bf16 and 0.08 s/r in float32, of no use to any caller. In float64 it is 1e-8 s/r; there to reach 1e-12
takes two to five more steps on every matrix, of 8 to 12."""
_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
"""Factor above 1 that eigenvalues may have in the early steps, see `coefficients.safe`: in bf16 just above 1 + eps, in
float32 and float64 chosen to be far above it while the steps lose only a thousandth of their growth."""
DISTRUST: Final = 0.3
"""Relative error, by the residual, from which no estimate is given. A residual stands for the error to first order; at
0.3 the second order is a tenth, and no tolerance by default is above 0.01."""
_BASE: Final = 2.0
"""In eps and times r: the part of the law that does not grow with the condition, beside LAPACK's backward error. In C
at most 12 eps were seen at condition 3 for inverse powers (A^(-3/2), order 96), for which the whole law is 15."""
_INVERSE: Final = 0.65
"""In eps and times condition s/r: rounding of inverse powers. In C at most 0.38 was seen in float32 (orders 16, 48 and
96, conditions 1e3 to 3e5, seven spectra, r to 12); by torch's products, whose schedule is not the matrix's own, up to
3.6, which the residual shows: no error of positive or inverse powers was above 0.8 of the estimate that both make."""
_POSITIVE: Final = 8.0
"""In eps and times r^2: rounding of positive powers, which grows with the multipliers of the first steps. In C at most
1.5 was seen at condition 3 (r to 5), by torch's products up to 37, which the residual shows."""
_GROWTH: Final = 12.0
"""In eps and times a power of the condition, see `_LEAST_EXPONENT`: up to 6.9 was seen for positive powers in float32,
with spectra of two far clusters among others; from r = 8 on it grows as r / 8."""
_REACH_MARGIN: Final = 1.25
"""How far above the least eigenvalue of a schedule a matrix must lie to be tried: its norm is estimated."""
_SEEN_MARGIN: Final = 2.0
"""Factor on an error seen in the residual, which is taken on four random columns."""
_LEAST_EXPONENT: Final = 0.5
"""Rounding of A^(s/r) = A^k A^-(k - s/r) grows at least with the root of the condition: up to 6 eps kappa^(1/2) was
seen for A^(3/4) and A^(4/5) with clusters of eigenvalues, by every kernel, orders 16 to 128."""


@dataclass(frozen=True, slots=True)
class CoupledIteration:
    """The coupled iteration for a power in one arithmetic.

    Attributes:
        power: the question.
        precision: the arithmetic.
        allowed: relative error that it may leave beside rounding.
    """

    power: Power
    precision: Precision
    allowed: float = 0.0

    @property
    def eps(self) -> float:
        """The spacing in which eigenvalues are known."""
        return self.power.eps(self.precision)

    @property
    def floor(self) -> float:
        """Size above which the sign of an eigenvalue is known, relative to the largest.

        Where the caller adds something, no rule of damping hangs on the sign of an eigenvalue in the input's digits.
        """
        known = spacing(self.precision) if self.power.is_shifted else self.eps
        return FLOOR * known

    @property
    def working(self) -> torch.dtype:
        """The dtype that matrices are scaled in."""
        return self.power.working(self.precision)

    @property
    def bound(self) -> float:
        """Least eigenvalue: smaller ones have rounding errors above what is allowed, or too few matrices have them."""
        return max(_BOUNDS[self.precision], self.allowed)

    def steps(self, bound: float) -> tuple[Step, ...]:
        """The steps for eigenvalues in [bound, 1], to half of what the precision resolves or to what is allowed."""
        r = self.power.negative[2]
        return schedule(r, bound ** (1 / r), target=max(spacing(self.precision) / 2, self.allowed))

    def rows(self, bound: float) -> tuple[tuple[float, float, float], ...]:
        """The coefficients for eigenvalues in [bound, 1]."""
        return safe(self.steps(bound), self.power.negative[2], _SAFETY[self.precision])

    @property
    def other_products(self) -> int:
        """Products of a step beside two that are known to be symmetric: the polynomial in P, and the last of W^r P."""
        s = self.power.negative[1]
        return _power_products(s) + (1 if s else 0) + self.contraction_products - 1

    @property
    def contraction_products(self) -> int:
        """Products of W^r P."""
        r = self.power.negative[2]
        return 1 if r == 1 else 2 + r % 2 + _power_products(r // 2)

    def error(self, found: Established, steps: tuple[Step, ...]) -> Tensor:
        """Error by the law of the iteration's rounding; infinite where there is no proof or a residual contradicts."""
        condition, positive = found.condition, self.power.signs == (1,)
        trusted = found.definite & (found.missing < DISTRUST) & torch.isfinite(found.residual)
        # The residual of an inverse carries its rounding, half of eps, times the condition, and means nothing below.
        blind = 0.0 if positive else 0.5 * condition * spacing(self.precision)
        law = self._law(condition, steps[-1].error)
        return torch.where(
            trusted, law + torch.where(found.residual > blind, _SEEN_MARGIN * found.missing, 0.0), math.inf
        )

    def resolves(self, damping: float) -> bool:
        """Whether the schedules reach the smallest eigenvalue of A + damping lambda_max I, A positive semidefinite."""
        norm_ratio = math.sqrt(math.sqrt(self.power.order))  # of ||A^2||_F^(1/2) to the largest eigenvalue, at most
        return self.bound * norm_ratio * _REACH_MARGIN <= damping / (1 + damping)

    def expected(self, condition: float) -> Tensor:
        """Error by the law of a shifted matrix of that condition, (1,)."""
        known = torch.tensor([condition], dtype=torch.float64, device="cpu")
        return self._law(known, self.allowed) + self.symmetrised(known)

    def _law(self, condition: Tensor, last: float) -> Tensor:
        """Error that the last step leaves, where one is allowed, and a multiple of the rounding that was measured."""
        power, (k, left, r) = self.power, self.power.negative
        law = torch.full_like(condition, BACKWARD_ERROR + _BASE * r)
        if left == 0:  # a product of k factors A, which no iteration follows
            return spacing(self.precision) * (law + _POSITIVE * k)
        if -1 in power.signs:
            law = law + _INVERSE * condition * power.s / power.r
        if 1 in power.signs:
            exponent = max(max(k, 1) - power.s / power.r, _LEAST_EXPONENT)
            law = law + _POSITIVE * r * r + _GROWTH * max(1.0, r / 8) * invariant.power(condition, exponent)
        return spacing(self.precision) * law + (power.s * last if self.allowed else 0.0)

    def symmetrised(self, condition: Tensor) -> Tensor:
        """Error that the rounding of (A + A^H) / 2, half of eps, leaves in the power of a matrix that is not symmetric.

        It is multiplied by the condition number of the power, s/r times that of A.
        """
        return 0.5 * spacing(at_least_single(self.precision)) * condition * self.power.s / self.power.r

    def displaced(self, lost: Tensor, condition: Tensor) -> Tensor:
        """A bound on the relative change of the power where the matrix moves by `lost` times its largest eigenvalue.

        In the Frobenius norm a function of Hermitian matrices changes by at most its largest slope times the change of
        the matrix. Infinite where that may reach the smallest eigenvalue.
        """
        power, part = self.power.s / self.power.r, lost * condition
        near = (1 - part).clamp_min(0)
        bounds = []
        if -1 in self.power.signs:
            bounds.append(power * part / invariant.power(near, power + 1))
        if 1 in self.power.signs and power < 1:
            bounds.append(power * part / invariant.power(condition, power) / invariant.power(near, 1 - power))
        elif 1 in self.power.signs:
            bounds.append(power * lost * invariant.power(1 + lost, power - 1))
        return torch.where(lost > 0, torch.stack(bounds).amax(0), torch.zeros_like(lost))

    def narrowed(self, sent: Tensor, held: Tensor, condition: Tensor) -> Tensor:
        """Error of the powers of `sent` (batch, n, n) from its rounding to `held`, scaled near 1."""
        if holds(held.dtype, sent.dtype):
            return torch.zeros_like(condition)
        size = invariant.matrix_norm(held, torch.float64)
        largest = invariant.matrix_norm(product(held, held), torch.float64) / size  # a lower bound of the eigenvalue
        return self.displaced(loss(sent, held.dtype) * size / largest, condition)


@dataclass(frozen=True, slots=True)
class Established:
    """Findings about scaled matrices and the power X that was computed, each (batch,).

    Attributes:
        residual: relative residual of the power's equation.
        missing: relative error of X that the residual stands for.
        condition: estimated condition number.
        definite: whether a Cholesky factorisation proves the matrix positive definite.
    """

    residual: Tensor
    missing: Tensor
    condition: Tensor
    definite: Tensor

    def known_condition(self) -> Tensor:
        """The condition number where there is a proof, NaN elsewhere."""
        return torch.where(self.definite, self.condition, math.nan)

    def rank(self, order: int) -> Tensor:
        """The order where there is a proof, -1 elsewhere."""
        return torch.where(self.definite, order, -1)


@dataclass(frozen=True, slots=True)
class Product:
    """A power, or G times it, but for 2^exponent.

    Attributes:
        value: the power, or the product.
        exponent: the power of two that it lacks.
        amplified: the factor by which cancellation magnifies a relative error.
        lost: the part of G that rounding to the arithmetic took.
    """

    value: Tensor
    exponent: Tensor
    amplified: Tensor
    lost: Tensor

    def error(self, relative: Tensor) -> Tensor:
        """Relative error, (batch,), where the power has that of `relative`."""
        return (relative + self.lost) * self.amplified


def multiplied(value: Tensor, exponent: Tensor, g: Tensor | None) -> Product:
    """A power but for 2^exponent, from the left multiplied by G if there is one."""
    if g is None:
        ones = torch.ones(len(value), dtype=torch.float64, device=value.device)
        return Product(value, exponent, ones, torch.zeros_like(ones))
    left, left_exponent = narrowed(g, value.dtype)
    image = product(left, value)
    whole = norm(image)
    amplified = norm(left) * norm(value) / torch.where(whole > 0, whole, torch.ones_like(whole))
    return Product(image, exponent + left_exponent, amplified.clamp_min(1.0), loss(g, value.dtype))


def _power_products(exponent: int) -> int:
    return max(0, exponent.bit_length() - 1 + exponent.bit_count() - 1)
