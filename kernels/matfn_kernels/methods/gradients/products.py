"""Gradients that are products of two factors, each with an error of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.methods.gradients.program import EPS, Gradient

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Factor", "multiplied_out", "of_factor"]


@dataclass(frozen=True, slots=True)
class Factor:
    """A solution in float64 (batch, m, n), but for 2^exponent, with its relative error and condition, (batch,)."""

    value: Tensor
    error: Tensor
    condition: Tensor
    exponent: Tensor | None = None


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
