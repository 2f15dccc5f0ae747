"""Gradients that are products of factors, each with an error of its own, and sums of gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import norm, normalise, rescale
from matfn_kernels.methods.gradients.program import EPS, Gradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Factor", "added", "chained", "multiplied_out", "of_factor"]


@dataclass(frozen=True, slots=True)
class Factor:
    """A solution in float64 (batch, m, n), but for 2^exponent, with its relative error and condition, (batch,)."""

    value: Tensor
    error: Tensor
    condition: Tensor
    exponent: Tensor | None = None

    @property
    def adjoint(self) -> Factor:
        """Its conjugate transpose."""
        return replace(self, value=self.value.mH.resolve_conj())

    def scaled(self) -> Factor:
        """The factor with entries near 1, its power of two beside it."""
        value, exponent = normalise(self.value)
        return replace(self, value=value, exponent=exponent if self.exponent is None else exponent + self.exponent)


def of_factor(factor: Factor) -> Gradient:
    """The gradient that a factor is itself."""
    size = norm(factor.value)
    return Gradient(factor.value, factor.error * size, size, size, factor.condition * size, factor.exponent)


def multiplied_out(value: Tensor, factors: tuple[Factor, Factor], size: Tensor | None = None) -> Gradient:
    """A gradient that was computed as a product of factors, or as part of one.

    Its errors are those of the factors and of rounding, by norms; cancellation magnifies them where it is not below the
    least size that counts.

    Args:
        value: the gradient.
        factors: the two that have errors.
        size: norm of a third, exact factor, (batch,).
    """
    first, second = factors
    largest = norm(first.value) * norm(second.value) * (1.0 if size is None else size)
    inner = max(first.value.shape[-2:])
    spread = first.error + second.error + orthogonality(inner) * EPS
    exponents = [factor.exponent for factor in factors if factor.exponent is not None]
    return Gradient(
        value,
        torch.where(largest > 0, spread * largest, 0.0),
        norm(value),
        largest,
        torch.maximum(first.condition, second.condition) * largest,
        sum(exponents[1:], exponents[0]) if exponents else None,
    )


def chained(factors: Sequence[Factor], weight: float = 1.0) -> Gradient:
    """A number times the product of factors, each with an error of its own, as `multiplied_out`."""
    parts = [factor.scaled() for factor in factors]
    value, largest = parts[0].value * weight, norm(parts[0].value) * abs(weight)
    for part in parts[1:]:
        value, largest = product(value, part.value), largest * norm(part.value)
    rounding = orthogonality(max(max(part.value.shape[-2:]) for part in parts)) * EPS * len(parts)
    spread = torch.stack([part.error for part in parts]).sum(0) + rounding
    condition = torch.stack([part.condition for part in parts]).sum(0)
    exponents = [part.exponent for part in parts if part.exponent is not None]
    change, sensitivity = (torch.where(largest > 0, x * largest, 0.0) for x in (spread, condition))
    return Gradient(value, change, norm(value), largest, sensitivity, sum(exponents[1:], exponents[0]))


def added(gradients: Sequence[Gradient]) -> Gradient:
    """The sum of the gradients that cotangents of several outputs give, each with an exponent."""
    if len(gradients) == 1:
        return gradients[0]
    top = torch.stack([_exponent(one) for one in gradients]).amax(0)
    columns = [
        [rescale(x, _exponent(one) - top) for x in (one.value, one.change, one.most, one.sensitivity)]
        for one in gradients
    ]
    value, change, most, sensitivity = (torch.stack(column).sum(0) for column in zip(*columns, strict=True))
    return Gradient(value, change, norm(value), most, sensitivity, top)


def _exponent(gradient: Gradient) -> Tensor:
    assert gradient.exponent is not None
    return gradient.exponent
