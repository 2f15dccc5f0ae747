"""Names of arithmetics, and the dtypes and spacings behind them: the one place where precision is decided."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import torch

__all__ = ["FLOOR", "Precision", "at_least_single", "natural", "spacing", "working"]

FLOOR: Final = 8.0
"""The threshold of numerical rank and of default damping, in eps of the largest eigenvalue.

Rounding in fp32 products was seen at 0.05 to 0.35 eps: a smaller threshold takes rounding for rank, a larger one drops
eigenvalues that the matrix determines."""


class Precision(StrEnum):
    """The arithmetic a method runs in."""

    BF16 = "bf16"
    FP32 = "fp32"
    FP64 = "fp64"


_REAL = {Precision.BF16: torch.bfloat16, Precision.FP32: torch.float32, Precision.FP64: torch.float64}
_COMPLEX = {Precision.FP32: torch.complex64, Precision.FP64: torch.complex128}


def working(precision: Precision, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which an input of `dtype` is computed on at `precision`."""
    return _COMPLEX[precision] if dtype.is_complex else _REAL[precision]


def at_least_single(precision: Precision) -> Precision:
    """The precision, or fp32 for bf16: scaling and certificates of a bf16 iteration are in fp32."""
    return Precision.FP32 if precision is Precision.BF16 else precision


def natural(dtype: torch.dtype) -> Precision:
    """The least precision that holds an input of `dtype` exactly."""
    return Precision.FP64 if dtype in {torch.float64, torch.complex128} else Precision.FP32


def spacing(precision: Precision) -> float:
    """Machine epsilon of a precision."""
    return torch.finfo(_REAL[precision]).eps
