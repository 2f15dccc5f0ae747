"""Which kernels may serve a program, and how their products round: the one place where that is decided.

* Kernels are chosen by measured cost, with the program and hence for a call alone; a profile without the rows of a
  kernel, such as that of a CPU, never chooses it.
* fp64 and fp32 programs multiply as IEEE arithmetic does. Sums of TF32 products (`tf32`, `tf32x3`) are within the error
  that certificates of fp32 programs assume only where that has been measured, which it has not.
* bf16 programs multiply bf16 numbers on tensor cores and add in fp32. Where the state stays on the chip there is no
  reason to round it to bf16: it is kept in fp32 and multiplied in TF32, which has 3 bits more.
* Process-wide switches, such as torch's `allow_tf32`, are neither set nor read here; the service sets those of its own
  process so that products are IEEE (`matfn_service.cuda`).
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["SMALL", "Kernel", "Multiplication", "fitting", "multiplication", "state"]

SMALL: Final = 128
"""Largest order of an iteration in one launch: its scratch is then as large as an H100's L2 cache (50 MiB in fp32)."""

Multiplication: TypeAlias = Literal["ieee", "tf32"]


class Kernel(StrEnum):
    """The kernels that a program runs."""

    LIBRARY = "library"
    """Those of torch."""
    SYMMETRIC = "symmetric"
    """Products that are symmetric by half of their tiles, the others those of torch."""
    ONE_LAUNCH = "one launch"
    """The whole iteration, or the inverse of a triangle's diagonal block, in one launch."""
    NATIVE = "native"
    """Those in C for a CPU, one matrix after the other."""


_MULTIPLICATIONS: Final[Mapping[torch.dtype, Multiplication]] = MappingProxyType(
    {torch.bfloat16: "tf32", torch.float32: "ieee", torch.float64: "ieee"}
)


def fitting(dtype: torch.dtype, *sizes: int) -> tuple[Kernel, ...]:
    """The kernels of torch and of a GPU that can iterate on matrices of such dimensions."""
    if dtype.is_complex:
        return (Kernel.LIBRARY,)
    at_once = (Kernel.ONE_LAUNCH,) if max(sizes) <= SMALL else ()
    return (Kernel.LIBRARY, Kernel.SYMMETRIC, *at_once)


def multiplication(dtype: torch.dtype) -> Multiplication:
    """The rounding of products in an iteration on matrices of a working dtype, by Triton's names."""
    return _MULTIPLICATIONS[dtype]


def state(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which an iteration is kept on the chip, and in which products are added."""
    return torch.float64 if dtype == torch.float64 else torch.float32
