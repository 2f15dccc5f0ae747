"""How fast the device really is: measured seconds for each predicted one, recent batches before old ones.

Predictions are made for single matrices on a quiet machine. What a full queue takes differs from their sum by what a
launch costs, by what batching saves, and by what else the machine does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Pace"]

_MEMORY: Final = 0.9  # how much of the past a batch leaves; long batches weigh more than short ones


@dataclass(slots=True)
class Pace:
    """A running ratio of two sums."""

    _predicted: float = 0.0
    _measured: float = 0.0

    def count(self, predicted: float, measured: float) -> None:
        """Takes in one batch."""
        self._predicted = _MEMORY * self._predicted + predicted
        self._measured = _MEMORY * self._measured + measured

    @property
    def factor(self) -> float:
        """Measured seconds for a predicted one; 1 before anything was measured."""
        return self._measured / self._predicted if self._predicted > 0 else 1.0
