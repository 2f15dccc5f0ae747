"""Which kernels may serve a program, and how their products round: the one place where that is decided.

* Kernels are chosen by measured cost, with the program and hence for a call alone; a profile without the rows of a
  kernel, such as that of a CPU, never chooses it.
* fp64 and fp32 programs multiply as IEEE arithmetic does. Sums of TF32 products (`tf32`, `tf32x3`) are within the error
  that certificates of fp32 programs assume only where that has been measured, which it has not.
* bf16 programs multiply bf16 numbers on tensor cores and add in fp32. Where the state stays on the chip there is no
  reason to round it to bf16: it is kept in fp32 and multiplied in TF32, which has 3 bits more.
* Process-wide switches, such as torch's `allow_tf32`, are neither set nor read.
"""

from __future__ import annotations

import math
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self, TypeAlias, runtime_checkable

import torch

from matfn_kernels.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matfn_kernels.calibration import Operation, Profile
    from matfn_kernels.precision import Precision

__all__ = ["SMALL", "Kernel", "Multiplication", "Tunable", "fastest", "fitting", "multiplication", "state", "step_cost"]

SMALL: Final = 128
"""Largest order of an iteration in one launch."""

Multiplication: TypeAlias = Literal["ieee", "tf32"]


class Kernel(StrEnum):
    """Whose kernels a program runs."""

    LIBRARY = "library"
    """Those of torch."""
    SYMMETRIC = "symmetric"
    """Products that are symmetric by half of their tiles, the others those of torch."""
    ONE_LAUNCH = "one launch"
    """The whole iteration, or a triangle's leaf, in one launch."""
    NATIVE = "native"
    """Those in C for a CPU, one matrix after the other."""


_OPERATIONS: Final[Mapping[Kernel, tuple[Operation, Operation]]] = MappingProxyType(
    {
        Kernel.LIBRARY: ("line", "gemm"),
        Kernel.SYMMETRIC: ("symmetric_gemm", "gemm"),
        Kernel.ONE_LAUNCH: ("small", "small"),
    }
)
_MULTIPLICATIONS: Final[Mapping[torch.dtype, Multiplication]] = MappingProxyType(
    {torch.bfloat16: "tf32", torch.float32: "ieee", torch.float64: "ieee"}
)


@runtime_checkable
class Tunable(Program, Protocol):
    """A program that different kernels can run."""

    @property
    def kernel(self) -> Kernel:
        """Whose kernels it runs."""

    def variants(self) -> Sequence[Self]:
        """The same program by every kernel that can run it, torch's first."""


def fastest(program: Program, profile: Profile) -> Program:
    """The program by the kernels that the profile knows to be the fastest."""
    variants: Sequence[Program] = program.variants() if isinstance(program, Tunable) else (program,)
    return min(variants, key=lambda variant: variant.seconds(profile))


def fitting(dtype: torch.dtype, *sizes: int) -> tuple[Kernel, ...]:
    """The kernels of torch and of a GPU that can iterate on matrices of such dimensions."""
    if dtype.is_complex:
        return (Kernel.LIBRARY,)
    at_once = (Kernel.ONE_LAUNCH,) if max(sizes) <= SMALL else ()
    return (Kernel.LIBRARY, Kernel.SYMMETRIC, *at_once)


def step_cost(
    kernel: Kernel, profile: Profile, precision: Precision, order: int, products: tuple[float, float]
) -> float:
    """Seconds of so many (symmetric, other) products of one order.

    A symmetric one is a line of an iteration, with what is added to the product; a CPU's profile takes the product for
    the line.
    """
    line, product = (profile.cost(operation, precision, order) for operation in _OPERATIONS[kernel])
    if kernel is Kernel.LIBRARY and not math.isfinite(line):
        line = product
    return sum(number * cost for number, cost in zip(products, (line, product), strict=True) if number)


def multiplication(dtype: torch.dtype) -> Multiplication:
    """How products round in an iteration on matrices of a working dtype, in the names that Triton has for it."""
    return _MULTIPLICATIONS[dtype]


def state(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which an iteration is kept on the chip, and in which products are added."""
    return torch.float64 if dtype == torch.float64 else torch.float32
