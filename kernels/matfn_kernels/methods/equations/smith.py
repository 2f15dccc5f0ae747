"""The equation A X A^H - X + Q = 0 of a stable A, by Smith's doubling.

X is the sum of A^k Q (A^H)^k, of which each step X <- X + A X A^H, A <- A^2 doubles the number of terms, by a few
products for all matrices of a batch. The same sums H of A^k (A^H)^k and Y of (A^H)^k A^k bound the norm of the inverse
operator, 1 / sep <= sqrt(||H||_2 ||Y||_2): they are its norm and its adjoint's, for largest singular values.
The error estimate is the residual, rounding of its computation included, times that bound over ||X||. A matrix of which
the terms do not vanish is left to `stein`.
References: Smith, SIAM J. Appl. Math. 16 (1968); Konstantinov et al., Perturbation Theory for Matrix Equations (2003).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.methods.equations.stein import SteinProgram
from matfn_kernels.numbers.arrays import EPS
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.findings import Findings, replaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["SmithProgram", "candidates", "largest", "summed"]

_STEPS: Final = 12
"""Most doublings: after them the terms of a spectral radius of 0.99 have vanished."""
_VANISHED: Final = 2.0**-14
"""Norm of a power whose fourth power, in which the next sum differs, is below eps / 16."""
_DIVERGED: Final = 1e100
"""Norm of a power that is far from vanishing, and whose products with others do not overflow."""
_TRUSTED: Final = 1e-6
"""Condition times eps up to which rounding changes H and Y by a small part of them, for which `_MARGIN` stands."""
_MARGIN: Final = 1.1
"""Of the estimate over the bound by the computed H and Y."""
_ROUNDING: Final = 4.0
"""Units of eps beside: X is stored with half of one."""
_LARGEST: Final = 256
"""Largest order: beyond it the bound of rounding by norms comes near to the default tolerance."""
_PRODUCTS: Final = 70.0
"""Products in ten steps, of seven each: a price, on which no answer rests."""


@dataclass(frozen=True, slots=True)
class SmithProgram:
    """Discrete Lyapunov equations of stable matrices: the values that all items in a batch share.

    Attributes:
        order: n.
        dtype: of the inputs and outputs.
        method: doubling.
        precision: fp64.
        ceiling: fp64.
    """

    order: int
    dtype: torch.dtype
    method: Literal["doubling"] = "doubling"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a and q, (batch, n, n) each."""
        a, full = (inputs[name].to(working(self.precision, self.dtype)) for name in ("a", "q"))
        q, exponent = normalise(full)
        (x, h, y), steps, settled = summed(a, q)
        x = _hermitian(x, q)
        residual, condition, error = _judged(a, q, x, (h, y))
        trusted = settled & (condition * EPS <= _TRUSTED)
        found = Findings(
            outputs=(torch.where(settled[:, None, None], x, 0),),
            exponents=(exponent,),
            residual_name="A X A^H - X + Q",
            residual=residual,
            error=torch.where(trusted, error, torch.inf),
            condition=torch.where(settled, condition, torch.inf),
            steps=steps,
        )
        return self._completed(found, trusted, inputs)

    def _completed(self, found: Findings, trusted: Tensor, inputs: Mapping[str, Tensor]) -> Findings:
        """The findings with those of the method for any A where the terms have not vanished."""
        if bool(trusted.all()):
            return found
        other = self.fallbacks()[0].run({name: x[~trusted] for name, x in inputs.items()})
        return replaced(found, ~trusted, replace(other, escalated=torch.ones_like(other.error)))

    def fallbacks(self) -> tuple[Program, ...]:
        """The method for any A."""
        return (SteinProgram(self.order, (), self.dtype),)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["q"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return _PRODUCTS * profile.cost("gemm", Precision.FP64, self.order)


def candidates(call: Signature) -> list[Program]:
    """The programs that may serve a call; none but `stein` takes a descriptor, or a large order."""
    call.require_double()
    order = call.sizes("a")[-1]
    general = SteinProgram(order, call.given, call.dtype)
    if call.shape("e") is not None or order > _LARGEST:
        return [general]
    return [SmithProgram(order, call.dtype), general]


def summed(a: Tensor, q: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """The sums X, H and Y, the steps of each matrix, and whether its terms have vanished.

    A matrix that has ended has a power of zero, which adds nothing.
    """
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    x, h, y = q.clone(), one.repeat(len(a), 1, 1), one.repeat(len(a), 1, 1)
    size = norm(a)
    live, settled, steps = size <= _DIVERGED, torch.zeros_like(size, dtype=torch.bool), torch.zeros_like(size)
    power = torch.where(live[:, None, None], a, 0)
    for _ in range(_STEPS):
        for total, left, right in ((x, power, power.mH), (h, power, power.mH), (y, power.mH, power)):
            invariant.product(invariant.product(left, total), right, out=total, beta=1.0)
        steps = steps + live
        settled = settled | (live & (size <= _VANISHED))
        live = live & (size > _VANISHED)
        if not live.any():
            break
        power = invariant.product(power, power)
        size = norm(power)
        live = live & (size <= _DIVERGED)
        if not live.all():
            power = torch.where(live[:, None, None], power, 0)
    finite = torch.stack([total.isfinite().flatten(1).all(-1) for total in (x, h, y)]).all(0)
    return (x, h, y), steps, settled & finite


def _hermitian(x: Tensor, q: Tensor) -> Tensor:
    """X, made Hermitian where Q is."""
    symmetric = (q == q.mH).flatten(1).all(-1)
    return torch.where(symmetric[:, None, None], (x + x.mH) / 2, x)


def _judged(a: Tensor, q: Tensor, x: Tensor, bounds: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Relative residual, condition and relative error, (batch,) each."""
    image = invariant.product(invariant.product(a, x), a.mH)
    size, of_q = norm(x), norm(q)
    left = norm(image - x + q)
    gain = (largest(bounds[0]) * largest(bounds[1])).sqrt()
    sizes = norm(a).square() * size + size + of_q
    rounding = (2 * orthogonality(a.shape[-1]) + 2) * EPS * sizes
    whole = torch.where(size > 0, size, 1.0)
    residual = left / torch.where(of_q > 0, norm(image) + size + of_q, 1.0)
    condition = torch.where(size > 0, gain * sizes / whole, 1.0).clamp_min(1.0)
    error = _MARGIN * gain * (left + rounding) / whole + _ROUNDING * EPS
    return residual, condition, torch.where(size > 0, error, 0.0)


def largest(h: Tensor) -> Tensor:
    """Bound of the 2-norm of Hermitian H: the largest sum of a row's magnitudes, or the Frobenius norm if smaller."""
    rows = invariant.sums(invariant.magnitude(h)).amax(-1)
    return torch.minimum(rows, norm(h).to(torch.float64))
