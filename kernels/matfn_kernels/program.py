"""What every method module offers: programs, which are batch keys that know how to run themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from matfn_kernels.calibration import Profile
    from matfn_kernels.findings import Findings
    from matfn_kernels.precision import Precision

__all__ = ["Program", "Tiled"]


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
class Tiled(Program, Protocol):
    """A program that knows better than the others how much to compute at once on a CPU."""

    @property
    def tile_elements(self) -> int:
        """Elements of the largest input that one run takes."""
