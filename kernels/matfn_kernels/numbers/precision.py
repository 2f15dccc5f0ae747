"""Names of arithmetics, and the dtypes and spacings behind them: the one place where precision is decided."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import torch

__all__ = ["FLOOR", "Precision", "at_least_single", "double", "multiplying", "natural", "spacing", "working"]

FLOOR: Final = 8.0
"""The threshold of numerical rank and of default damping, in eps of the largest eigenvalue.

Rounding in fp32 products was seen at 0.05 to 0.35 eps: a smaller threshold takes rounding for rank, a larger one drops
eigenvalues that the matrix determines."""


class Precision(StrEnum):
    """The arithmetic a method runs in."""

    BF16 = "bf16"
    FP32 = "fp32"
    FP64 = "fp64"


_COMPLEX_PRODUCT: Final = 5.0**0.5
_REAL = {Precision.BF16: torch.bfloat16, Precision.FP32: torch.float32, Precision.FP64: torch.float64}
_COMPLEX = {Precision.FP32: torch.complex64, Precision.FP64: torch.complex128}


def working(precision: Precision, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which an input of `dtype` is computed on at `precision`."""
    return _COMPLEX[precision] if dtype.is_complex else _REAL[precision]


def double(dtype: torch.dtype) -> torch.dtype:
    """Float64, or complex128 for a complex dtype."""
    return working(Precision.FP64, dtype)


def multiplying(precision: Precision, dtype: torch.dtype) -> float:
    """Largest relative rounding of a product of two numbers of `dtype`, in the units in which real ones have eps.

    A complex product is wrong by up to 5^(1/2) times as much (Brent, Percival and Zimmermann, Math. Comp. 76 (2007)).
    """
    return spacing(precision) * (_COMPLEX_PRODUCT if dtype.is_complex else 1.0)


def at_least_single(precision: Precision) -> Precision:
    """The precision, or fp32 for bf16: scaling and certificates of a bf16 iteration are in fp32."""
    return Precision.FP32 if precision is Precision.BF16 else precision


def natural(dtype: torch.dtype) -> Precision:
    """The least precision that holds an input of `dtype` exactly."""
    return Precision.FP64 if dtype in {torch.float64, torch.complex128} else Precision.FP32


def spacing(precision: Precision) -> float:
    """Machine epsilon of a precision."""
    return torch.finfo(_REAL[precision]).eps
