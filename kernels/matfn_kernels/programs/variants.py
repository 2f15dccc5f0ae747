"""Which of the kernels that can run a program is the fastest by the profile."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.programs.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.profile import Operation, Profile

__all__ = ["Tunable", "fastest", "leaf_cost", "step_cost"]

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
        """Whose kernels it runs."""

    def variants(self) -> Sequence[Tunable]:
        """The program by every kernel that can run it, torch's first."""


def fastest(program: Program, profile: Profile) -> Program:
    """The program by the kernels that the profile knows to be the fastest."""
    variants: Sequence[Program] = program.variants() if isinstance(program, Tunable) else (program,)
    return min(variants, key=lambda variant: variant.seconds(profile))


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


def leaf_cost(kernel: Kernel, profile: Profile, precision: Precision, order: int, number: int) -> float:
    """Seconds that so many diagonal blocks of a triangle take longer by this kernel than by torch's substitution."""
    if kernel is Kernel.LIBRARY:
        return 0.0
    leaf, usual = (profile.cost(operation, precision, order) for operation in ("leaf", "substitution"))
    return number * (leaf - usual) if math.isfinite(leaf) else math.inf
