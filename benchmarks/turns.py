"""Works that take turns, so that whatever else the machine does meets all alike, and quotients of their times."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Works", "quotients", "timed"]

Works: TypeAlias = "Mapping[str, Callable[[], Any]]"


def timed(works: Works, rounds: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Milliseconds of each by a clock, in rounds in which they take turns, after one run that is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            began = clock()
            work()
            spent[name].append((clock() - began) * 1e3)
    return spent


def quotients(times: Sequence[float], base: Sequence[float]) -> str:
    """Median and range of the rounds' quotients."""
    ratios = [x / y for x, y in zip(times, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
