"""The interface of programs: a method with its parameters, which is the key of a batch and runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from matfn_kernels.linalg.kernel_choice import Kernel
    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["Pinned", "Program", "Proving", "Recordable", "Typed", "WithKernel"]


class Program(Protocol):
    """A method with all that the matrices of a batch have in common; frozen and hashable, the key of a batch."""

    @property
    def method(self) -> str:
        """The method's name in certificates."""

    @property
    def precision(self) -> Precision:
        """The arithmetic."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the inputs and outputs."""

    @property
    def ceiling(self) -> Precision:
        """The arithmetic that no fallback exceeds."""

    def __hash__(self) -> int: ...

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch, every input (batch, ...) and no dimension zero."""

    def fallbacks(self) -> tuple[Program, ...]:
        """The programs to try, in order, when this one misses a tolerance; none exceeds the call's precision."""

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs where some dimension is zero."""

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""


@runtime_checkable
class Recordable(Protocol):
    """A program that says whether a GPU can record it."""

    @property
    def is_recordable(self) -> bool:
        """Whether a run only launches kernels: it never waits for the device and decomposes nothing.

        Trying is not safe: a decomposition during a recording leaves cuSOLVER unable to do another one for as long as
        the process lives.
        """


@runtime_checkable
class Typed(Protocol):
    """A program with outputs of other dtypes than its own, such as real ones of complex matrices."""

    @property
    def output_dtypes(self) -> tuple[torch.dtype, ...]:
        """The dtype of each output."""


@runtime_checkable
class Proving(Protocol):
    """A program that says whether its errors are proved bounds."""

    @property
    def proves_its_error(self) -> bool:
        """Whether the error of its findings is a bound that holds for certain."""


@runtime_checkable
class Pinned(Protocol):
    """A program that says whether the caller asked for its method."""

    @property
    def pinned(self) -> bool:
        """Whether the caller asked for the method, so that no other may answer."""


@runtime_checkable
class WithKernel(Protocol):
    """A program that says which kernels compute it."""

    @property
    def kernel(self) -> Kernel:
        """The kernels that compute most of it."""
