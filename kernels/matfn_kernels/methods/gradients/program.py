"""The part that all programs of gradients have in common.

A program computes the function with its certificate, and from the same decomposition or solution the gradients. Both
are in float64. The errors of the gradients and of the outputs are stated as the largest of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.backward_error import relative_to_truth
from matfn_kernels.numbers.precision import Precision, working

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["EPS", "Gradient", "GradientProgram", "joined"]

EPS: Final = torch.finfo(torch.float64).eps
_PRODUCTS: Final = 12.0
"""Products that gradients take beside the function's own work: a price, on which no answer rests."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """One gradient in float64, (batch, ...), but for a power of two.

    Attributes:
        value: the gradient.
        error: its relative error, (batch,).
        condition: change of the gradient relative to a relative change of the inputs, (batch,).
        exponent: of the power of two that it lacks, (batch,), or None.
    """

    value: Tensor
    error: Tensor
    condition: Tensor
    exponent: Tensor | None = None


@dataclass(frozen=True, slots=True)
class GradientProgram:
    """The function's own program in float64, and the inputs and cotangents that a call gives.

    Attributes:
        program: computes the function.
        order: of the largest square matrix that is decomposed or multiplied: a price.
        names: of the inputs whose gradients are computed, in order.
        cotangents: names of the cotangents that are given; the others are 0.
    """

    program: Program
    order: int
    names: tuple[str, ...]
    cotangents: tuple[str, ...]

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return self.program.method

    @property
    def precision(self) -> Precision:
        """The arithmetic."""
        return Precision.FP64

    @property
    def ceiling(self) -> Precision:
        """The arithmetic that no fallback exceeds."""
        return Precision.FP64

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.program.dtype

    @property
    def wide(self) -> torch.dtype:
        """The dtype that is computed in."""
        return working(Precision.FP64, self.dtype)

    def fallbacks(self) -> tuple[Program, ...]:
        """None: nothing is more precise."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The function's own outputs, and gradients that are 0."""
        gradients = (torch.zeros(inputs[name].shape, dtype=self.dtype) for name in self.names)
        return (*self.program.empty(inputs), *gradients)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the function's, and products."""
        return self.program.seconds(profile) + _PRODUCTS * profile.cost("gemm", Precision.FP64, self.order)


def joined(own: Findings, gradients: Sequence[Gradient]) -> Findings:
    """The findings of a function with those of its gradients: all outputs, the largest error and condition."""
    exponents = own.exponents or (None,) * len(own.outputs)
    errors = torch.stack([relative_to_truth(gradient.error) for gradient in gradients])
    return replace(
        own,
        outputs=(*own.outputs, *(gradient.value for gradient in gradients)),
        exponents=(*exponents, *(gradient.exponent for gradient in gradients)),
        error=torch.maximum(own.error, errors.amax(0)),
        condition=torch.maximum(own.condition, torch.stack([g.condition for g in gradients]).amax(0)),
        share=None,
        finite=None,
    )
