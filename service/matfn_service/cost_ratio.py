"""Measured seconds for each predicted second, recent batches before old ones.

Predictions are made for single matrices on a quiet machine. The time of a full queue differs from their sum by the cost
of launches, by the savings of batching, and by other work on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CostRatio"]

_MEMORY: Final = 0.9  # weight of the past after each batch; long batches weigh more than short ones


@dataclass(slots=True)
class CostRatio:
    """A ratio of two sums that decay."""

    _predicted: float = 0.0
    _measured: float = 0.0

    def count(self, predicted: float, measured: float) -> None:
        """Adds one batch."""
        self._predicted = _MEMORY * self._predicted + predicted
        self._measured = _MEMORY * self._measured + measured

    @property
    def value(self) -> float:
        """Measured seconds for a predicted one; 1 before the first batch."""
        return self._measured / self._predicted if self._predicted > 0 else 1.0
