"""Prices of kernels and of passes over a matrix, and the choice of a program's kernels by them."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import torch

from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matfn_kernels.programs.profile import Operation, Profile

__all__ = ["Tunable", "fastest", "leaf_cost", "pass_cost", "proof_cost", "step_cost"]

_PASS_ORDER: Final = 64
"""Order at which a pass is priced as a product in float64: numbers of passes are then small whole ones."""

_OPERATIONS: Final[Mapping[Kernel, tuple[Operation, Operation]]] = MappingProxyType(
    {
        Kernel.LIBRARY: ("line", "gemm"),
        Kernel.SYMMETRIC: ("symmetric_gemm", "gemm"),
        Kernel.ONE_LAUNCH: ("small", "small"),
    }
)


@runtime_checkable
class Tunable(Program, Protocol):
    """A program that different kernels can run."""

    @property
    def kernel(self) -> Kernel:
        """The kernels that it runs."""

    def variants(self) -> Sequence[Tunable]:
        """The program by every kernel that can run it, torch's first."""


def fastest(program: Program, profile: Profile) -> Program:
    """The program with the kernels that are the fastest by the profile."""
    variants: Sequence[Program] = program.variants() if isinstance(program, Tunable) else (program,)
    return min(variants, key=lambda variant: variant.seconds(profile))


def step_cost(
    kernel: Kernel, profile: Profile, precision: Precision, order: int, products: tuple[float, float]
) -> float:
    """Seconds of a number of (symmetric, other) products of one order.

    A symmetric product is priced as a fused update of an iteration, or as a plain product by a CPU's profile, which has
    no price of the update.
    """
    line, product = (profile.cost(operation, precision, order) for operation in _OPERATIONS[kernel])
    if kernel is Kernel.LIBRARY and not math.isfinite(line):
        line = product
    return sum(number * cost for number, cost in zip(products, (line, product), strict=True) if number)


def pass_cost(profile: Profile, order: float) -> float:
    """Seconds of one pass over the entries of a matrix, which is bound by memory: a price that grows with n^2.

    No profile has a row of passes, so that one is priced by a product of an order at which both take about as long.
    """
    return profile.cost("gemm", Precision.FP64, _PASS_ORDER) * (order / _PASS_ORDER) ** 2


def proof_cost(profile: Profile, dtype: torch.dtype, order: float) -> float:
    """Seconds of a proof of an answer's error bound, in products and passes in float64.

    The numbers are fitted to one core of an Intel Xeon with AVX-512, orders 16, 64 and 256, roots, polar factors, clips
    and triangles: within a factor of two of each. An answer in float64 takes products of slices.
    """
    products, passes = (24, 190) if dtype in {torch.float64, torch.complex128} else (12, 80)
    return products * profile.cost("gemm", Precision.FP64, order) + passes * pass_cost(profile, order)


def leaf_cost(kernel: Kernel, profile: Profile, precision: Precision, order: int, number: int) -> float:
    """Seconds that so many diagonal blocks of a triangle take longer by this kernel than by torch's substitution."""
    if kernel is Kernel.LIBRARY:
        return 0.0
    leaf, usual = (profile.cost(operation, precision, order) for operation in ("leaf", "substitution"))
    return number * (leaf - usual) if math.isfinite(leaf) else math.inf
