"""Corrections of predicted seconds by what batches took: a pure structure without an event loop or a clock.

A price is made from shapes alone. What a batch takes also depends on its numbers, which may make methods escalate, and
on the machine. For each key of batches, a program with its shapes, the correction is the median of the last quotients
of measured and predicted seconds. It is bounded, and one odd batch moves it little. The launch of a batch is no part of
the price: as far as a launch explains what a small batch took, the correction stays as it is.

Beside it stands the highest of the quotients, which fades with each batch. Where a batch must not take long, the odd
one is what counts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["HIGHEST", "LOWEST", "Corrections"]

LOWEST: Final = 1 / 64
HIGHEST: Final = 4096.0  # matrices that all escalate take some hundred times the price of the usual ones
_WINDOW: Final = 5
_LAUNCH: Final = 0.002  # so much of a batch may be its launch, which no price of a matrix has
_LEAST: Final = 1e-9  # seconds
_FADING: Final = 0.98  # a batch that took ten times its price is remembered for a hundred batches
_KEYS: Final = 4096


@dataclass(slots=True)
class _Recent:
    quotients: deque[float]
    factor: float
    highest: float = 0.0


class Corrections:
    """By key of batches, the factor by which predicted seconds are multiplied.

    Args:
        most: number of keys; beyond it the one measured longest ago is forgotten.
    """

    def __init__(self, most: int = _KEYS) -> None:
        self._most = most
        self._recent: dict[Hashable, _Recent] = {}

    def __len__(self) -> int:
        """Number of keys that were measured."""
        return len(self._recent)

    def is_measured(self, key: Hashable) -> bool:
        """Whether a batch of this key was measured."""
        return key in self._recent

    def factor(self, key: Hashable) -> float:
        """Measured seconds for each predicted one; 1 before the first batch."""
        recent = self._recent.get(key)
        return 1.0 if recent is None else recent.factor

    def highest(self, key: Hashable) -> float:
        """Measured seconds for each predicted one in the worst of the batches lately; never below the factor."""
        recent = self._recent.get(key)
        return 1.0 if recent is None else max(recent.highest, recent.factor)

    def count(self, key: Hashable, predicted: float, measured: float) -> None:
        """Takes in a batch of this key: its seconds as predicted without a correction, and as measured."""
        recent = self._recent.pop(key, None) or _Recent(deque(maxlen=_WINDOW), 1.0)
        predicted = max(predicted, _LEAST)
        least, most = max(measured - _LAUNCH, 0.0) / predicted, measured / predicted
        quotient = min(max(recent.factor, least), most)
        quotient = min(max(quotient, LOWEST), HIGHEST)
        recent.quotients.append(quotient)
        recent.factor = median(recent.quotients)
        recent.highest = max(quotient, recent.highest * _FADING)
        self._recent[key] = recent
        if len(self._recent) > self._most:
            del self._recent[next(iter(self._recent))]
