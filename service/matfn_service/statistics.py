"""What the server has done since it started: plain sums, kept on the event loop, shown by /v1/status."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["FunctionStatistics", "Statistics"]


@dataclass(slots=True)
class FunctionStatistics:
    """Batches in which a function took part, and its matrices in them."""

    batches: int = 0
    matrices: int = 0


@dataclass(slots=True)
class Statistics:
    """Running sums of calls and batches.

    Attributes:
        answered: calls that got an answer.
        failed: calls that got a problem, by its code.
        dropped_disconnected: calls dropped before the device saw them because the caller had hung up.
        dropped_deadline: calls whose deadline came while they waited or ran.
        bisections: batches cut in two to find the matrix that made a kernel raise.
        halvings: batches cut in two because the device was out of memory.
        batch_sizes: number of batches by their number of matrices.
        functions: the same by function.
    """

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    dropped_disconnected: int = 0
    dropped_deadline: int = 0
    bisections: int = 0
    halvings: int = 0
    batch_sizes: Counter[int] = field(default_factory=Counter)
    functions: dict[str, FunctionStatistics] = field(default_factory=dict)

    def count_batch(self, matrices: dict[str, int]) -> None:
        """Counts one batch that holds so many matrices of each function."""
        self.batch_sizes[sum(matrices.values())] += 1
        for function, number in matrices.items():
            entry = self.functions.setdefault(function, FunctionStatistics())
            entry.batches += 1
            entry.matrices += number
