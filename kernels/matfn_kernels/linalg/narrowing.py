"""Rounding of inputs to an arithmetic with fewer digits than their dtype, measured matrix by matrix.

A call may name a precision below its dtype's, such as fp32 for float64 data. The answer is then that of the rounded
matrix, while its certificate speaks of the matrix that was sent. `loss` measures the difference; a method multiplies it
by its own condition number and adds it to the estimate. It is zero, at no cost, wherever nothing was rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from matfn_kernels.linalg import scaling

__all__ = ["holds", "loss"]


def holds(dtype: torch.dtype, given: torch.dtype) -> bool:
    """Whether numbers of the dtype `given`, scaled by a power of two, are numbers of `dtype`."""
    return torch.finfo(dtype).eps <= torch.finfo(given).eps


def loss(a: Tensor, dtype: torch.dtype) -> Tensor:
    """||A - fl(A)||_F / ||A||_F of A (batch, ...) scaled by `narrowed` and rounded to `dtype`, (batch,) float64."""
    if holds(dtype, a.dtype):
        return torch.zeros(len(a), dtype=torch.float64, device=a.device)
    exact, _ = scaling.normalise(a)
    size, lost = scaling.norm(exact), scaling.norm(exact - exact.to(dtype))
    return torch.where(size > 0, lost / size, torch.zeros_like(size))
