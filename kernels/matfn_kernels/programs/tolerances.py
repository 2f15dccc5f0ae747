"""The tolerance that holds where a call names none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["default_tolerance"]

_LARGEST: Final = 1e-3
"""Largest default tolerance: below three digits an answer is approximate, however bad the condition."""
_LARGEST_IN_HALF: Final = 1e-2
"""Largest default tolerance in half precision, little above the spacing of bfloat16 (7.8e-3)."""
_FACTOR: Final = 50.0
"""The default tolerance in units of eps times the condition: room for the rounding of a backward-stable method.

With a smaller one answers that are as good as their data would be called approximate, after a needless escalation."""
_SINGLE_EPS: Final = 1.2e-7
"""Just above the spacing of float32: a larger one is that of half precision."""


def default_tolerance(eps: float, growth: float, condition: Tensor, spacing_out: float) -> Tensor:
    """Largest relative error of a converged answer, (batch,): that of a backward-stable method.

    Args:
        eps: spacing in units of which it is given.
        growth: factor beside the condition, max(1, s/r) for a power A^(s/r).
        condition: condition numbers (batch,).
        spacing_out: of the output, the least tolerance.
    """
    cap = _LARGEST_IN_HALF if eps > _SINGLE_EPS else _LARGEST
    attainable = (_FACTOR * eps * growth * condition).nan_to_num(cap, cap, cap)
    return attainable.clamp(spacing_out, max(spacing_out, cap))
