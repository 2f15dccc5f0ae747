"""The exponential e^(t A) of matrices without symmetry, a whole batch at once, by scaling and squaring.

e^(t A) = (e^C)^(2^s) with C = t A / 2^s (`taylor`). Every number is found with the matrices scaled near 1 by powers of
two, so that nothing overflows on the way; an answer over the range of its dtype is `out_of_range`, matrix by matrix.

Error: each of the steps, e^C and the s squarings, is compared on random columns with another way to compute the same,
which shows a wrong step as well as rounding. What a step leaves grows by the steps that follow: that growth, and the
condition number of the exponential, are those of its derivative, F -> X F + F X at a squaring, along a random direction
and back by the adjoint. These need two digits and are computed in float32, again in float64 where they are large. The
truncation and the rounding of t A are backward errors of 2^-53 each.
References: Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 31 (2009); Higham, Functions of Matrices (2008), chapter 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.scaling import normalise, overflows
from matfn_kernels.methods.general_functions.taylor import Scaled
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile

__all__ = ["ExponentialProgram"]

_EPS: Final = spacing(Precision.FP64)
_MARGIN: Final = 4.0
"""How often a sample of the error counts: steps are measured on four columns, each within a quarter as a rule, and what
they add has random directions."""
_FINE: Final = 1e4
"""Condition number above which derivatives are computed in float64: float32 leaves three digits of smaller ones."""
_TINY: Final = 1e-30
"""Keeps a division by a vanished norm finite, in float32 too."""
_SPICE: Final = 0.25
"""Part of a random direction beside the image of another in the adjoint's: no direction is left out."""
_DEVIATIONS: Final = 6.0
"""How often the deviation of a random error along one direction counts, of which a sample may miss a part. The adjoint
brings that direction back to each step, whose roundings are weighed by their sizes."""
_TRUSTED: Final = 1e-2
"""Largest relative error of a step that its derivative tells: its square is below a hundredth of it."""
_LARGEST: Final = 1 << 40
"""Exponents beyond are as far over or under every range."""
_PRODUCTS: Final = 22.0
"""Price of an answer in products of its order: seven, five squarings, and the derivatives in float32."""


@dataclass(frozen=True, slots=True)
class ExponentialProgram:
    """The exponential of matrices without symmetry; the key of a batch.

    Attributes:
        order: n.
        t: factor of the matrices.
        dtype: of the inputs and outputs.
        pinned: whether the caller asked for the method, so that no other may answer.
        by_powers: whether the powers of a matrix tell how far it is scaled down, or its norm alone.
    """

    order: int
    t: float
    dtype: torch.dtype
    pinned: bool = False
    by_powers: bool = True

    method: ClassVar[str] = "scaling_squaring"
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input a (batch, n, n)."""
        a = inputs["a"].to(working(self.precision, self.dtype))
        scaled = Scaled.of(a, self.t, by_powers=self.by_powers)
        chain = _Chain.of(scaled)
        size, (gain, left) = _size(chain.value), chain.judged()
        condition = torch.where(gain > 0, gain * _size(scaled.c) / size, math.inf)  # 0 where a norm overflows
        condition = condition.nan_to_num(math.inf).clamp_min(1.0)
        error = left / size + _EPS * condition
        value = torch.where(scaled.is_beyond[:, None, None], math.nan, chain.value)
        return Findings(
            outputs=(value,),
            exponents=(chain.exponent,),
            residual_name="X_(k+1) - X_k^2, from X_0 = e^(t A / 2^s)",
            residual=chain.residual(),
            error=torch.where(error.isfinite() & ~scaled.is_beyond, error, math.inf),
            condition=condition,
            steps=scaled.squarings.to(torch.float64),
            failures={"over_range": overflows(value, chain.exponent, self.dtype)},
        )

    def fallbacks(self) -> tuple[ExponentialProgram, ...]:
        """A program that scales a matrix down by its norm: powers far below those of the norm carry more rounding."""
        return (replace(self, by_powers=False),) if self.by_powers else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return _PRODUCTS * profile.cost("gemm", self.precision, self.order)


@dataclass(frozen=True, slots=True)
class _Step:
    """A squaring X -> X^2 2^-shift of some matrices of a batch.

    Attributes:
        which: their numbers.
        x: X of each.
        factor: 2^-shift.
        off: by how much the result is off, (matrices,).
        size: of the result.
    """

    which: Tensor
    x: Tensor
    factor: Tensor
    off: Tensor
    size: Tensor

    def derivative(self, f: Tensor, *, adjoint: bool = False) -> Tensor:
        """F (batch, n, n), with (X F + F X) 2^-shift for those that the step concerns."""
        x, some = self.x.to(f.dtype), f[self.which]
        x = x.mH if adjoint else x
        moved = (invariant.product(x, some) + invariant.product(some, x)) * self.factor.to(f.real.dtype)
        return f.index_copy(0, self.which, moved)

    def rounding(self, dtype: torch.dtype) -> Tensor:
        """Error that the step adds, in units of eps, distributed as the rounding of sums of squares is."""
        squares = invariant.magnitude(self.x).square().to(dtype.to_real())
        return _scaled(invariant.product(squares, squares).sqrt(), self.off / _EPS)

    def moved(self, d: Tensor, rounding: Tensor, random: Tensor) -> Tensor:
        """The error D after the step, in units of eps, with the step's own, of the sign that adds to it."""
        old, new = self.derivative(d)[self.which], rounding * random[self.which]
        return d.index_copy(0, self.which, old + new * _phase(old, new))

    def of(self, marked: Tensor) -> _Step:
        """The step of the matrices that are marked (batch,), numbered anew."""
        kept = marked[self.which]
        number = marked.to(torch.int64).cumsum(0) - 1
        return _Step(number[self.which[kept]], self.x[kept], self.factor[kept], self.off[kept], self.size[kept])


@dataclass(frozen=True, slots=True)
class _Chain:
    """E^A = value 2^exponent with the steps that led to it.

    Attributes:
        first: e^C.
        half: e^(C/2), about.
        off: by how much e^C is off, (batch,).
        steps: the squarings.
        value: (batch, n, n) near 1.
        exponent: (batch,).
    """

    first: Tensor
    half: Tensor
    off: Tensor
    steps: tuple[_Step, ...]
    value: Tensor
    exponent: Tensor

    @classmethod
    def of(cls, scaled: Scaled) -> _Chain:
        """The steps of a batch."""
        first, half = scaled.exponential()
        z = probes.gaussian(scaled.c, scaled.c.shape[-1])
        off = probes.column_norm(probes.times(first, z) - scaled.on_columns(z))
        x, exponent, steps = first, torch.zeros_like(scaled.exponent), list[_Step]()
        for k in range(int(scaled.squarings.max())):
            step, value, twice = _squared(x, exponent, (scaled.squarings > k).nonzero()[:, 0], z)
            steps.append(step)
            x, exponent = (old.index_copy(0, step.which, new) for old, new in ((x, value), (exponent, twice)))
        return cls(first, half, off, tuple(steps), x, exponent)

    def of_some(self, marked: Tensor) -> _Chain:
        """The chain of the matrices that are marked (batch,)."""
        steps = tuple(step.of(marked) for step in self.steps if bool(marked[step.which].any()))
        fields = (self.first, self.half, self.off, self.value, self.exponent)
        first, half, off, value, exponent = (field[marked] for field in fields)
        return _Chain(first, half, off, steps, value, exponent)

    def residual(self) -> Tensor:
        """The largest relative difference of a step from another way to compute it, (batch,)."""
        found = self.off / _size(self.first)
        for step in self.steps:
            found = found.index_copy(0, step.which, torch.maximum(found[step.which], step.off / step.size))
        return found

    def judged(self) -> tuple[Tensor, Tensor]:
        """The norm of the derivative of e^C -> value at C, and the error of the value, (batch,) each."""
        gain, left = self.derivatives(_in_single(self.half.dtype))
        doubtful = ~(gain * _size(self.half) <= _FINE * _size(self.value))
        if bool(doubtful.any()):
            gain[doubtful], left[doubtful] = self.of_some(doubtful).derivatives(self.half.dtype)
        return gain, left

    def derivatives(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The norm of the derivative at C, and the error of the value, with derivatives in the dtype."""
        half, random = self.half.to(dtype), probes.square(self.value).to(dtype)
        own = _scaled(invariant.magnitude(self.first).to(dtype.to_real()), self.off / _EPS)
        d, worst = own * random, self.off / _size(self.first)
        roundings = [step.rounding(dtype) for step in self.steps]
        for k, (step, rounding) in enumerate(zip(self.steps, roundings, strict=True)):
            d = step.moved(d, rounding, random.roll(k + 1, -1))
            found = _EPS * _size(d)[step.which] / step.size
            worst = worst.index_copy(0, step.which, torch.maximum(worst[step.which], found))
        y = _scaled(_scaled(d) + _scaled(random, _SPICE))
        reached = torch.zeros_like(self.off)
        for step, rounding in zip(reversed(self.steps), reversed(roundings), strict=True):
            reached = reached.index_add(0, step.which, _size(rounding * y[step.which]).square())
            y = step.derivative(y, adjoint=True)
        reached = _DEVIATIONS * (reached + _size(own * y).square()).sqrt()
        y = _sandwich(half, _scaled(_sandwich(half.mH, y)))
        for step in self.steps:
            y = step.derivative(y)
        error = _EPS * torch.maximum(_MARGIN * _size(d), reached)
        return _size(y), torch.where(worst <= _TRUSTED, error, math.inf)


def _squared(x: Tensor, exponent: Tensor, which: Tensor, z: Tensor) -> tuple[_Step, Tensor, Tensor]:
    """A step with its result and the result's exponent."""
    x, z = x[which], z[which]
    value, shift = normalise(invariant.product(x, x))
    factor = invariant.two_to(-shift)[:, None, None]
    again = probes.times(x, probes.times(x, z)) * factor
    off = probes.column_norm(probes.times(value, z) - again)
    exponent = (2 * exponent[which] + shift).clamp(-_LARGEST, _LARGEST)
    return _Step(which, x, factor, off, _size(value)), value, exponent


def _phase(x: Tensor, y: Tensor) -> Tensor:
    """The number of magnitude 1, (batch, 1, 1), by which Y is multiplied so that X + Y is no smaller than either."""
    parts = (x.conj() * y).real if x.dtype.is_complex else x * y
    sign = torch.where(invariant.sums(parts.flatten(1)) < 0, -1.0, 1.0)
    return sign[:, None, None].to(x.real.dtype)


def _sandwich(x: Tensor, f: Tensor) -> Tensor:
    """X F X."""
    return invariant.product(invariant.product(x, f), x)


def _scaled(x: Tensor, size: Tensor | float = 1.0) -> Tensor:
    """X with another Frobenius norm."""
    factor = size / _size(x).clamp_min(_TINY)
    return x * factor[:, None, None].to(x.real.dtype)


def _size(x: Tensor) -> Tensor:
    """Frobenius norms (batch,) in float64."""
    return invariant.matrix_norm(x, torch.float64)


def _in_single(dtype: torch.dtype) -> torch.dtype:
    return torch.complex64 if dtype.is_complex else torch.float32
