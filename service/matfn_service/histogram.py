"""Histograms as plain numbers: one count a bucket, and the sum of what was counted."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

__all__ = ["Histogram"]


@dataclass(slots=True)
class Histogram:
    """Number of values in each bucket: above one bound, not above the next.

    Attributes:
        bounds: upper ends of the buckets, which belong to them; the last bucket has none.
        counts: values in each bucket.
        sum: of all values.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def count(self, value: float, times: int = 1) -> None:
        """Counts a value, once or `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def add(self, other: Histogram) -> None:
        """Counts what another histogram of the same bounds has counted."""
        self.counts = [own + more for own, more in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def clear(self) -> None:
        """Forgets everything."""
        self.counts = [0] * len(self.counts)
        self.sum = 0.0
