"""The question that every method of signs and spectral projectors answers, and all that depends on it alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import torch

from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.numbers.precision import Precision, double

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["RESIDUAL", "SignProgram", "SignQuestion"]

RESIDUAL: Final = "S^2 - I, S A - A S"
"""The equations that a sign satisfies."""


@dataclass(frozen=True, slots=True)
class SignQuestion:
    """The sign, or a spectral projector, of matrices of one order and dtype.

    Attributes:
        order: n.
        half: None for the sign, else the half plane that is projected on.
        dtype: of the inputs and outputs.
    """

    order: int
    half: Literal["right", "left"] | None
    dtype: torch.dtype

    @property
    def side(self) -> float:
        """1 for the right half plane, -1 for the left."""
        return -1.0 if self.half == "left" else 1.0

    def scaled(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n) in double precision, scaled near 1, which changes no sign."""
        return normalise(inputs["a"].to(double(self.dtype)))[0]


@dataclass(frozen=True, slots=True)
class SignProgram:
    """The question that a program answers, always in float64, and what both methods take from it.

    Attributes:
        question: what is asked.
        pinned: whether the caller asked for the method, so that no other may answer.
    """

    question: SignQuestion
    pinned: bool = field(default=False, kw_only=True)

    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.question.dtype

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["a"].shape, dtype=self.dtype),)
