"""Inverses of and solutions with triangular matrices, by blocks.

inv [[A, 0], [C, B]] = [[A^-1, 0], [-B^-1 C A^-1, B^-1]], halved down to blocks of order 32 that are inverted by
substitution: n^3/3 products, nearly all in GEMMs, and as stable as substitution, componentwise. Products of powers
(I + N)(I + N^2)(I + N^4)... take fewer launches but lose every digit when powers of N grow, which identical keys of a
DeltaNet layer already do at order 32; they are not used.

The error estimate is the first-order correction on random columns: with R = I - T X, X R to first order is the error.
References: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 8 and 14; kexue.fm/archives/11072.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import probes
from matfn_kernels.device_policy import Kernel
from matfn_kernels.findings import Findings
from matfn_kernels.precision import Precision, spacing, working
from matfn_kernels.products import invert_leaf
from matfn_kernels.scaling import norm, normalise
from matfn_kernels.validation import read_triangle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from matfn_kernels.calibration import Profile
    from matfn_kernels.signature import Signature

__all__ = ["Problem", "TriangularProgram", "candidates", "condition_number", "corrected", "invert_lower", "lacking"]

LEAF: Final = 32
_NORM_ROUNDS: Final = 3
_LEAST_CONDITION: Final = 0.5
"""A power iteration is within a factor 2 of the true number, which is 1 at least, unless it under- or overflows."""
_PROBE_MARGIN: Final = 2.0
"""Four Gaussian columns underestimate a norm by more than this once in thousands of matrices."""


@dataclass(frozen=True, slots=True)
class TriangularProgram:
    """What a batch of triangular problems must have in common to be computed together.

    Attributes:
        order: n.
        columns: of the right-hand sides, or None for the inverse.
        lower: which triangle is read.
        unit: whether the diagonal is taken as ones.
        transpose: whether the transpose is solved with.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
        kernel: whose substitution inverts the leaves.
    """

    order: int
    columns: int | None
    lower: bool
    unit: bool
    transpose: bool
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision
    kernel: Kernel = Kernel.LIBRARY

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "blocked" if self.columns is None else "substitution"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs t (batch, n, n) and, if the program has columns, b (batch, n, m)."""
        t, exponent = self._scaled(read_triangle(inputs["t"], lower=self.lower, unit=self.unit))
        t = t.mT if self.transpose else t
        lower = self.lower != self.transpose
        narrow = t.to(working(self.precision, self.dtype))
        if self.columns is None:
            value = invert_lower(narrow, self.kernel) if lower else invert_lower(narrow.mT, self.kernel).mT
            right, right_exponent = torch.eye(self.order, dtype=t.dtype, device=t.device).expand(len(t), -1, -1), None
        else:
            right, right_exponent = self._scaled(inputs["b"])
            value = torch.linalg.solve_triangular(narrow, right.to(narrow.dtype), upper=not lower)
        problem = Problem(
            lambda x: t @ x,
            lambda y: torch.linalg.solve_triangular(t, y, upper=not lower),
            lambda x: t.abs() @ x,
        )
        residual, error = corrected(value, right, problem, self.precision)
        return Findings(
            outputs=(value,),
            exponents=(lacking(exponent, right_exponent),),
            residual_name="T X - I" if self.columns is None else "T X - B",
            residual=residual,
            error=error + spacing(self.precision),
            condition=condition_number(normalise(t)[0], lower=lower),
        )

    def _scaled(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """In float64, and brought near 1 where the arithmetic has a smaller range than the dtype."""
        wide = x.to(torch.float64)
        return normalise(wide) if self.dtype == torch.float64 and self.precision is Precision.FP32 else (wide, None)

    def fallbacks(self) -> tuple[TriangularProgram, ...]:
        """The same in the precision that the call allows."""
        return (replace(self, precision=self.ceiling),) if self.precision is not self.ceiling else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["b" if "b" in inputs else "t"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        share = 1.0 if self.columns is None else self.columns / max(1, self.order)
        products = profile.cost("gemm", self.precision, self.order) * (0.5 + share)
        if self.kernel is Kernel.LIBRARY:
            return products
        leaf, usual = (profile.cost(name, self.precision, LEAF) for name in ("leaf", "substitution"))
        return products + math.ceil(self.order / LEAF) * (leaf - usual) if math.isfinite(leaf) else math.inf

    def variants(self) -> tuple[TriangularProgram, ...]:
        """The same by every kernel that can run it."""
        kernels = (Kernel.LIBRARY, Kernel.ONE_LAUNCH) if self.columns is None else (Kernel.LIBRARY,)
        return tuple(replace(self, kernel=kernel) for kernel in kernels)


def candidates(call: Signature) -> list[TriangularProgram]:
    """The one program that serves a call."""
    b = call.shape("b")
    low, ceiling = call.direct_precisions()
    return [
        TriangularProgram(
            order=call.sizes("t")[-1],
            columns=None if b is None else b[-1],
            lower=bool(call.parameter("lower")),
            unit=bool(call.parameter("unit_diagonal")),
            transpose=bool(call.parameter("transpose")),
            dtype=call.dtype,
            precision=low,
            ceiling=ceiling,
        )
    ]


def invert_lower(t: Tensor, kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """Inverse of lower triangular T (batch, n, n) by halves."""
    order = t.shape[-1]
    if order <= LEAF:
        return invert_leaf(t, kernel)
    half = LEAF * ((order // LEAF + 1) // 2)
    first, last = invert_lower(t[:, :half, :half], kernel), invert_lower(t[:, half:, half:], kernel)
    inverse = torch.zeros_like(t)
    inverse[:, :half, :half] = first
    inverse[:, half:, half:] = last
    inverse[:, half:, :half] = -(last @ t[:, half:, :half] @ first)
    return inverse


def lacking(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    """The power of two that T^-1 B lacks where T was scaled by 2^-left and B by 2^-right."""
    if left is None:
        return right
    return -left if right is None else right - left


@dataclass(frozen=True, slots=True)
class Problem:
    """T as operators on columns, in float64: T x, T^-1 y, and |T| x entrywise."""

    apply: Callable[[Tensor], Tensor]
    solve: Callable[[Tensor], Tensor]
    magnify: Callable[[Tensor], Tensor]


def corrected(value: Tensor, right: Tensor, problem: Problem, precision: Precision) -> tuple[Tensor, Tensor]:
    """Relative residual and first-order relative error of X = T^-1 B, on random combinations of columns, (batch,) each.

    In float64 the residual's own rounding, eps |T| |X|, is as large as what it measures and is carried along.
    """
    z = probes.gaussian(right, right.shape[-1])
    x = value.to(torch.float64) @ z
    target = right @ z
    missing = target - problem.apply(x)
    error = _PROBE_MARGIN * probes.ratio(problem.solve(missing), x)
    if precision is Precision.FP64:
        rounding = spacing(precision) * problem.magnify(x.abs()) * probes.gaussian(x, x.shape[-2]).sign()
        error = error + _PROBE_MARGIN * probes.ratio(problem.solve(rounding), x)
    vanished = (norm(x) == 0) & (norm(target) > 0)
    return probes.ratio(missing, target), torch.where(vanished, math.inf, error)


def condition_number(t: Tensor, *, lower: bool) -> Tensor:
    """||T||_2 ||T^-1||_2 by power iteration on T^T T and its inverse; infinite where that leaves float64's range."""
    z = probes.gaussian(t, t.shape[-1])

    def inverse(y: Tensor) -> Tensor:
        inner = torch.linalg.solve_triangular(t.mT, y, upper=lower)
        outer: Tensor = torch.linalg.solve_triangular(t, inner, upper=not lower)
        return outer

    large = probes.growth(lambda y: t.mT @ (t @ y), z, _NORM_ROUNDS)
    found = (large * probes.growth(inverse, z, _NORM_ROUNDS)).sqrt()
    return torch.where(found > _LEAST_CONDITION, found.clamp_min(1.0), math.inf)
