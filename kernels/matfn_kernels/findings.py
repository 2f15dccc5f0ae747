"""What a method reports about a batch, before it is turned into certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["Findings"]


@dataclass(frozen=True, slots=True)
class Findings:
    """Values of one method on a batch and what was measured beside them, each (batch,) and float64.

    Attributes:
        outputs: the values, each (batch, ...), in the arithmetic's dtype and, with `exponents`, scaled.
        exponents: per output the powers of two still to be multiplied, integer (batch,), or None; () for none at all.
        residual_name: the equation whose residual was measured.
        residual: relative residual.
        error: estimated relative error; infinite where the method's assumptions do not hold, NaN if unknown.
        condition: estimated condition number.
        steps: iterations, of the batch or of each matrix, 0 for a direct method.
        rank: numerical rank, where the method knows it.
        damping: relative shift.
        shift: the number added to the diagonal.
        failures: masks of matrices without an answer, by reason (see verdicts), the first that holds counts.
        remarks: masks of matrices whose answer is approximate for another reason than its error, by reason.
    """

    outputs: tuple[Tensor, ...]
    residual_name: str
    residual: Tensor
    error: Tensor
    condition: Tensor
    steps: int | Tensor = 0
    exponents: tuple[Tensor | None, ...] = ()
    rank: Tensor | None = None
    damping: Tensor | None = None
    shift: Tensor | None = None
    failures: Mapping[str, Tensor] = field(default_factory=dict)
    remarks: Mapping[str, Tensor] = field(default_factory=dict)
