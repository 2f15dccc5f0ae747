"""The triangles that inverses and solutions are asked of, and all that depends on them alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import torch

from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.triangles import read_triangle
from matfn_kernels.numbers.precision import Precision, double, working
from matfn_kernels.programs.kernel_prices import pass_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile

__all__ = ["Triangle", "TriangularProgram"]

_PASSES: Final = 6.0
"""Passes over a triangle beside its products (`kernel_prices.pass_cost`): a price."""
_PRODUCTS: Final = 0.5
"""Products that an answer costs whatever its columns, those of its certificate among them: a price."""


@dataclass(frozen=True, slots=True)
class Triangle:
    """Triangular matrices T of one order and dtype.

    Attributes:
        order: n.
        lower: which triangle is read.
        unit: whether the diagonal is taken as ones.
        dtype: of the inputs and outputs.
    """

    order: int
    lower: bool
    unit: bool
    dtype: torch.dtype

    def read(self, t: Tensor) -> Tensor:
        """The triangle of T (batch, n, n), zero elsewhere."""
        return read_triangle(t, lower=self.lower, unit=self.unit)


@dataclass(frozen=True, slots=True)
class TriangularProgram:
    """The triangle and arithmetic of a program, and what all programs take from them.

    Attributes:
        question: the triangle.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    question: Triangle
    precision: Precision
    ceiling: Precision

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.question.dtype

    @property
    def working(self) -> torch.dtype:
        """The dtype that is computed in."""
        return working(self.precision, self.dtype)

    def scaled(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Brought near 1 where the arithmetic has a smaller range than the dtype."""
        narrowed = self.dtype == double(self.dtype) and self.precision is Precision.FP32
        return normalise(x) if narrowed else (x, None)

    def seconds_of_products(self, profile: Profile, share: float) -> float:
        """Predicted device seconds of products and passes for so many columns of T^-1 B, relative to n."""
        order = self.question.order
        return profile.cost("gemm", self.precision, order) * (_PRODUCTS + share) + _PASSES * pass_cost(profile, order)

    def fallbacks(self) -> tuple[Self, ...]:
        """The method in the precision that the call allows."""
        return (replace(self, precision=self.ceiling),) if self.precision is not self.ceiling else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["b" if "b" in inputs else "t"].shape, dtype=self.dtype),)
