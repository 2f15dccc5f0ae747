"""The signs of a whole batch by Newton's iteration, certified by products alone.

X <- (mu X + (mu X)^-1) / 2 with mu = (||X^-1|| / ||X||)^(1/2) until X changes by less than 1%, then mu = 1. The
inverses Y on the way give the derivative L of the sign at A: E <- (mu E - Y E Y / mu) / 2 carries E to L(E), and
backwards with every Y^H in place of Y it is the adjoint. From L come the condition number and the error: with
D = (S A S - A) / 2 the computed S is the sign of A + D, so it is off by L(D), rounding of D included.

An answer is vouched for only if no step can have carried an eigenvalue across the imaginary axis: what rounding of A
and of every step becomes is small beside the distance of each iterate from a singular one. Any other matrix gets an
infinite error here and is for `newton_schur`, which looks at the spectrum of one matrix at a time.
References: Higham, Functions of Matrices (2008), sections 5.3 to 5.6; Kenney and Laub, SIAM J. Matrix Anal. Appl. 13
(1992).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.iteration import tiles
from matfn_kernels.linalg.products import add_diagonal, product
from matfn_kernels.methods.sign.one_by_one import SchurSign
from matfn_kernels.methods.sign.question import RESIDUAL, SignProgram
from matfn_kernels.numbers.precision import Precision, multiplying, spacing
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.kernel_prices import pass_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["NewtonSign", "Signs", "signs"]

_INVERTED: Final = 32.0
"""Largest residual of an inverse in units of n eps and of the norms of what is multiplied: below 1 as a rule."""
_EPS: Final = spacing(Precision.FP64)
_MAX_STEPS: Final = 25
"""Steps after which a matrix is left to the other method; Gaussian ones of order 16 to 256 take 7 to 13."""
_SETTLING: Final = 1e-2
"""Relative change below which scaling stops: from there on the unscaled iteration converges quadratically."""
_SETTLED: Final = 1e-8
"""Convergence is quadratic: the step after such a change is exact to rounding."""
_CROSSING: Final = 1e-2
"""Most that rounding may move an iterate, relative to its distance from a singular one, for a sign to be vouched for.

At 1 an eigenvalue may cross the axis; norms are estimated from below, mostly within a factor 2."""
_MARGIN: Final = 4.0
"""How often the first-order error counts in the estimate: it is found with one random matrix of noise."""
_NOISE: Final = 0.25
"""Rounding of a sum of n terms is taken as 1 + sqrt(n) / 4 eps: errors of sums grow as roots, as a rule."""
_TINY: Final = float(torch.finfo(torch.float64).tiny)
"""Keeps a division by a vanished norm finite."""
_PRODUCTS: Final = 400.0
"""Price of an answer in products, with `_PASSES`: some ten steps, each with an inverse and products for the derivative
and its adjoint.

Within a factor of two of one core of an Intel Xeon with AVX-512, orders 2 to 128. No method competes with this one, so
the price chooses nothing."""
_PASSES: Final = 800.0
"""Passes over the matrix in such an answer, fitted to the same factor of two."""


@dataclass(frozen=True, slots=True)
class NewtonSign(SignProgram):
    """Signs and projectors of a whole batch by Newton's iteration."""

    method: ClassVar[str] = "newton"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input a (batch, n, n)."""
        found = signs(self.question.scaled(inputs))
        value, larger, rank = found.value, torch.ones_like(found.error), None
        if self.question.half is not None:
            value, larger, rank = _projected(found.value, self.question.side)
        return Findings(
            outputs=(value,),
            residual_name=RESIDUAL,
            residual=found.residual,
            error=found.error * larger + _EPS,
            condition=(found.condition * larger).clamp_min(1.0),
            steps=found.steps,
            rank=rank,
        )

    def fallbacks(self) -> tuple[Program, ...]:
        """The method that takes one matrix at a time, unless the caller asked for this one."""
        return () if self.pinned else (SchurSign(self.question),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        order = self.question.order
        return _PRODUCTS * profile.cost("gemm", Precision.FP64, order) + _PASSES * pass_cost(profile, order)


def _projected(s: Tensor, side: float) -> tuple[Tensor, Tensor, Tensor]:
    """(I + side S) / 2, ||S|| / 2 over its norm, and its rank; exactly I or 0 where the trace says so."""
    order = s.shape[-1]
    rank = ((order + side * invariant.sums(s.diagonal(dim1=-2, dim2=-1).real)) / 2).round()
    identity = torch.eye(order, dtype=s.dtype, device=s.device)
    whole = (rank == 0) | (rank == order)
    value = torch.where(whole[:, None, None], identity * (rank > 0)[:, None, None], (identity + side * s) / 2)
    larger = torch.where(whole, 1.0, invariant.matrix_norm(s) / (2 * invariant.matrix_norm(value)))
    return value, larger, rank


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs (batch, n, n) and what is known of each, (batch,).

    Attributes:
        value: S.
        steps: of Newton.
        residual: the larger of ||S^2 - I|| / ||S||^2 and ||S A - A S|| / (||S|| ||A||).
        error: estimated ||error|| / ||S||; infinite where nothing is vouched for.
        condition: ||L|| ||A|| / ||S||, at least 1.
    """

    value: Tensor
    steps: Tensor
    residual: Tensor
    error: Tensor
    condition: Tensor


def signs(a: Tensor) -> Signs:
    """The signs of A (batch, n, n), in double precision and scaled near 1."""
    parts = [_certified(a[tile]) for tile in tiles(a, a.shape[-1])]
    fields = Signs.__dataclass_fields__
    return Signs(**{name: torch.cat([getattr(part, name) for part in parts]) for name in fields})


@dataclass(frozen=True, slots=True)
class _Step:
    """X^-1 and mu of one step, (batch, 1, 1), and whom the step concerns."""

    inverse: Tensor
    mu: Tensor
    mask: Tensor

    def move(self, e: Tensor, y: Tensor) -> Tensor:
        """(mu E - Y E Y / mu) / 2 where the step concerns E."""
        return torch.where(self.mask, (self.mu * e - invariant.divided(_sandwich(y, e), self.mu)) / 2, e)


@dataclass(frozen=True, slots=True)
class _Derivative:
    """L and its adjoint: the steps up to a change of 1%, and the projection that all later ones are."""

    steps: list[_Step]
    s: Tensor

    def __call__(self, e: Tensor) -> Tensor:
        """L(E)."""
        return self.path(e)[0]

    def path(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """L(E), and the largest ||E|| ||X^-1|| on the way, (batch,)."""
        reached = torch.zeros(len(e), dtype=torch.float64, device=e.device)
        for step in self.steps:
            size = invariant.matrix_norm(e) * invariant.matrix_norm(step.inverse)
            reached = torch.maximum(reached, torch.where(step.mask[:, 0, 0], size, 0.0))
            e = step.move(e, step.inverse)
        last = (e - _sandwich(self.s, e)) / 2
        return last, torch.maximum(reached, invariant.matrix_norm(last) * invariant.matrix_norm(self.s))

    def adjoint(self, e: Tensor) -> Tensor:
        """The adjoint of L applied to E."""
        e = (e - _sandwich(self.s.mH, e)) / 2
        for step in reversed(self.steps):
            e = step.move(e, step.inverse.mH)
        return e


@dataclass(frozen=True, slots=True)
class _Iteration:
    """X at the end, the steps that its derivative needs, whether each has settled, and how far rounding went."""

    x: Tensor
    steps: list[_Step]
    count: Tensor
    settled: Tensor
    drift: Tensor


def _newton(a: Tensor) -> _Iteration:
    x, steps = a, list[_Step]()
    no = torch.zeros(len(a), dtype=torch.bool, device=a.device)
    scaled, coarse, active, settled = ~no, ~no, ~no, no
    count, drift, before = no.to(torch.float64), no.to(torch.float64), no.to(torch.float64)
    for _ in range(_MAX_STEPS):
        inverse, exists = _inverse(x)
        active = active & exists
        size, other = invariant.matrix_norm(x), invariant.matrix_norm(inverse)
        # Rounding of a step is its condition, beside the distance to a singular matrix that is one over the next.
        drift = torch.maximum(drift, torch.where(active, before * size * other, 0.0))
        before = size * other
        mu = torch.where(scaled & exists, (other / size).sqrt(), 1.0)[:, None, None]
        new = torch.where(active[:, None, None], (mu * x + invariant.divided(inverse, mu)) / 2, x)
        change = invariant.matrix_norm(new - x) / invariant.matrix_norm(new)
        if (active & coarse).any():
            steps.append(_Step(inverse, mu, (active & coarse)[:, None, None]))
        count = count + active
        settled = settled | (active & ~scaled & (change <= _SETTLED))
        scaled, coarse = scaled & (change >= _SETTLING), coarse & (change >= _SETTLING)
        active, x = active & ~settled, new
        if not active.any():
            break
    return _Iteration(x, steps, count, settled, drift * len(a[0]) * _EPS)


def _sandwich(x: Tensor, e: Tensor) -> Tensor:
    """X E X."""
    return product(product(x, e), x)


def _inverse(x: Tensor) -> tuple[Tensor, Tensor]:
    """X^-1, zero where there is none, and whether there is one, by its residual on random columns."""
    inverse = invariant.inverse(x)
    z = probes.gaussian(x, x.shape[-1])
    missing = invariant.matrix_norm(probes.times(x, probes.times(inverse, z)) - z)
    size = invariant.matrix_norm(x) * invariant.matrix_norm(inverse) * invariant.matrix_norm(z)
    exists = torch.isfinite(inverse).flatten(1).all(-1) & (missing <= _INVERTED * x.shape[-1] * _EPS * size)
    return torch.where(exists[:, None, None], inverse, 0.0), exists


def _certified(a: Tensor) -> Signs:
    found = _newton(a)
    s = _involutory(found.x)
    derivative = _Derivative(found.steps, s)
    size, width = invariant.matrix_norm(s), invariant.matrix_norm(a)
    gain, reach = _gain(derivative)
    condition = (gain * width / size).clamp_min(1.0)
    defect = product(s, s)
    add_diagonal(defect, -1.0)
    missing = invariant.matrix_norm(derivative(_mismatch(s, a))) + invariant.matrix_norm(product(defect, s))
    crossing = found.drift + a.shape[-1] ** 2 * _EPS * reach * width
    trusted = found.settled & (crossing <= _CROSSING)
    commutator = invariant.matrix_norm(product(s, a) - product(a, s)) / (size * width)
    return Signs(
        value=s,
        steps=found.count,
        residual=torch.maximum(invariant.matrix_norm(defect) / size.square(), commutator),
        error=torch.where(trusted, _MARGIN * (missing / size + _EPS), math.inf),
        condition=condition,
    )


def _involutory(x: Tensor) -> Tensor:
    """A Schulz step: X (3 I - X^2) / 2."""
    return x - product(x, add_diagonal(product(x, x), -1.0)) / 2


def _gain(derivative: _Derivative) -> tuple[Tensor, Tensor]:
    """||L|| by a power step, from below, mostly within a factor 2; and the reach of a unit perturbation."""
    start = probes.square(derivative.s)
    unit = (start / invariant.matrix_norm(start)[:, None, None]).to(derivative.s.dtype)
    image, reach = derivative.path(unit)
    size = invariant.matrix_norm(image).clamp_min(_TINY)
    back = invariant.matrix_norm(derivative.adjoint(invariant.divided(image, size[:, None, None])))
    return back, reach


def _mismatch(s: Tensor, a: Tensor) -> Tensor:
    """(S A S - A) / 2 with as much noise added as its computation has, as a rule: errors of sums grow as roots.

    A complex product is four real ones, and a complex sum of n terms one of 2 n real ones.
    """
    squares = _sandwich(invariant.magnitude(s).square(), invariant.magnitude(a).square()).sqrt()
    unit, terms = multiplying(Precision.FP64, a.dtype), a.shape[-1] * (2 if a.dtype.is_complex else 1)
    noise = unit * (1 + math.sqrt(terms) * _NOISE) * squares * probes.square(a)
    return (_sandwich(s, a) - a) / 2 + noise
