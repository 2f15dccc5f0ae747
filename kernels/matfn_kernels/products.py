"""The few products that every iteration is made of, each one fused GEMM into a kept buffer.

On a device with better kernels for one of them only this module changes; the iterations stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Coefficient", "add_diagonal", "quadratic", "symmetrise"]

Coefficient: TypeAlias = "float | Tensor"
"""A number, or a (batch, 1, 1) tensor where batch-mates differ."""

Row: TypeAlias = "tuple[Coefficient, Coefficient, Coefficient]"
"""Coefficients a, b and c of one step."""


def add_diagonal(x: Tensor, value: Coefficient) -> Tensor:
    """Adds `value` to the diagonal of x (batch, n, n) in place."""
    diagonal = x.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(value if isinstance(value, float) else value.squeeze(-1))
    return x


def quadratic(p: Tensor, coefficients: tuple[Coefficient, Coefficient, Coefficient], out: Tensor) -> Tensor:
    """W = a I + b P + c P^2 for P (batch, n, n), one GEMM."""
    a, b, c = coefficients
    if isinstance(b, float) and isinstance(c, float):
        torch.baddbmm(p, p, p, beta=b, alpha=c, out=out)
    else:
        torch.baddbmm(b * p, c * p, p, out=out)
    return add_diagonal(out, a)


def symmetrise(x: Tensor) -> Tensor:
    """(X + X^H) / 2 of x (batch, n, n)."""
    return (x + x.mH).mul_(0.5)
