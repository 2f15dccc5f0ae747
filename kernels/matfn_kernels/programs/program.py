"""What every method module offers: programs, which are batch keys that know how to run themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["Program", "Recordable"]


class Program(Protocol):
    """All that matrices must have in common to be computed together; frozen and hashable, the key of a batch."""

    @property
    def method(self) -> str:
        """The method's name in certificates."""

    @property
    def precision(self) -> Precision:
        """The arithmetic."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""

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
    """A program that knows whether a GPU can record it."""

    @property
    def is_recordable(self) -> bool:
        """Whether a run is launches of kernels alone: it asks the device nothing, and decomposes nothing.

        To try is not safe. A decomposition that meets a recording under way leaves cuSOLVER unable to do another one
        for as long as the process lives.
        """
