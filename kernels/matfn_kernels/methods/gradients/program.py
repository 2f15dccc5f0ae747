"""The part that all programs of gradients have in common.

A program computes the function with its certificate, and from the same decomposition or solution the gradients. Both
are in float64. The errors of the gradients and of the outputs are stated as the largest of them.

The error of a gradient in an input A is relative to max(|gradient|, |cotangent| |X| / |A|), in Frobenius norms and
summed over the outputs X: through a smaller gradient the rounding of A changes the loss by less than the rounding of X
does. Where A is 0, or small beside a shift or another input, the second number is at most the norm of a gradient
without cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.backward_error import relative_to_truth
from matfn_kernels.linalg.scaling import norm, normalise, rescale
from matfn_kernels.numbers.precision import Precision, working

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["EPS", "Gradient", "GradientProgram", "joined", "relative"]

EPS: Final = torch.finfo(torch.float64).eps
_PRODUCTS: Final = 12.0
"""Products that gradients take beside the function's own work: a price, on which no answer rests."""
_OUTPUTS: Final = ("x", "y")
"""Names of outputs and of their cotangents, in the order of the outputs."""


def relative(change: Tensor, size: Tensor) -> Tensor:
    """Change / size, (batch,): 0 where nothing changes, infinite where the quotient says nothing."""
    found = torch.where(change == 0, 0.0, change / size)
    return found.nan_to_num(torch.inf, torch.inf, torch.inf)


@dataclass(frozen=True, slots=True)
class Gradient:
    """One gradient in float64, (batch, ...), and what is known of it, (batch,) each, all but for a power of two.

    Attributes:
        value: the gradient.
        change: bound of its error.
        size: its norm, or a larger number that its error is relative to.
        most: bound of its norm if nothing in it cancelled.
        sensitivity: its change by a change of the inputs, relative to them.
        exponent: of the power of two that all of these lack, or None.
    """

    value: Tensor
    change: Tensor
    size: Tensor
    most: Tensor
    sensitivity: Tensor
    exponent: Tensor | None = None

    def without_estimate(self, where: Tensor) -> Gradient:
        """The gradient with an infinite error where the mask (batch,) holds."""
        change, sensitivity = (torch.where(where, torch.inf, x) for x in (self.change, self.sensitivity))
        return replace(self, change=change, sensitivity=sensitivity)

    def judged(self, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Relative error, condition, and share of the size in what both are relative to, (batch,) each.

        Args:
            floor: the least that they are relative to, unless the gradient could not be as large.
        """
        whole = torch.maximum(self.size, torch.minimum(floor, self.most))
        error = relative_to_truth(relative(self.change, whole))
        share = torch.where(whole > 0, norm(self.value) / whole, 1.0).clamp_max(1.0)
        return error, relative(self.sensitivity, whole).clamp_min(1.0), share


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


def joined(
    own: Findings, gradients: Sequence[Gradient], program: GradientProgram, inputs: Mapping[str, Tensor]
) -> Findings:
    """The findings of a function with those of its gradients: all outputs, the largest error and condition.

    Args:
        own: the function's.
        gradients: of the inputs, in order.
        program: names the inputs and cotangents.
        inputs: by name, as far as they are read, and the cotangents.
    """
    exponents = own.exponents or (None,) * len(own.outputs)
    floors = _floors(own, gradients, program, inputs)
    found = [gradient.judged(floor) for gradient, floor in zip(gradients, floors, strict=True)]
    errors, conditions, shares = (torch.stack(column, -1) for column in zip(*found, strict=True))
    error = torch.maximum(own.error, errors.amax(-1))
    whole = torch.ones_like(own.error) if own.share is None else own.share
    return replace(
        own,
        outputs=(*own.outputs, *(gradient.value for gradient in gradients)),
        exponents=(*exponents, *(gradient.exponent for gradient in gradients)),
        error=error,
        condition=torch.maximum(own.condition, conditions.amax(-1)),
        share=torch.cat((whole[:, None].expand(-1, len(own.outputs)), shares), -1) * (1 + error[:, None]),
        finite=None,
    )


def _floors(
    own: Findings, gradients: Sequence[Gradient], program: GradientProgram, inputs: Mapping[str, Tensor]
) -> Iterator[Tensor]:
    """The sum of |cotangent| |X| / |A| for each input A, (batch,), in units of its gradient; infinite for A = 0."""
    exponents = own.exponents or (None,) * len(own.outputs)
    parts = []
    for name, x, lacking in zip(_OUTPUTS, own.outputs, exponents, strict=False):
        if name in program.cotangents:
            (c, c_exponent), (size, exponent) = _size(inputs[name]), _size(x, lacking)
            parts.append((c * size, c_exponent + exponent))
    certain = (1 - own.error).clamp_min(0)  # the true X may be smaller by its error
    for name, gradient in zip(program.names, gradients, strict=True):
        a, unit = _size(inputs[name], gradient.exponent)
        total = torch.stack([rescale(part, exponent - unit) for part, exponent in parts]).sum(0)
        yield torch.where(a > 0, certain * total / a, torch.inf)


def _size(x: Tensor, exponent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The Frobenius norm of X 2^exponent as a number near 1 and an exponent, (batch,) each."""
    scaled, own = normalise(x.to(torch.promote_types(x.dtype, torch.float64)))
    return norm(scaled), own if exponent is None else own + exponent
