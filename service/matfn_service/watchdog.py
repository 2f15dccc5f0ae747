"""The event loop's lag, measured by a small task that asks to be woken at short intervals.

Whatever runs on the loop delays the task by as much as it delays every caller. A delay that is longer than the interval
counts once for each wake-up that it covers, so that the shares of the counts are shares of time.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from matfn_service.histogram import Histogram

__all__ = ["Watchdog"]

_INTERVAL: Final = 0.02  # fifty wake-ups a second take a thousandth of a core
_RECENT: Final = 60.0
_MOST_MISSED: Final = 1000


class Watchdog:
    """Measures by how much the loop is late.

    Args:
        lags: where each measurement is counted, in seconds.
        clock: seconds that never go back.
    """

    def __init__(self, lags: Histogram, clock: Callable[[], float]) -> None:
        self._lags = lags
        self._clock = clock
        self._since = -math.inf
        self._last, self._largest = 0.0, 0.0

    @property
    def largest(self) -> float:
        """The largest lag of the last minute or two."""
        return max(self._last, self._largest)

    async def run(self) -> None:
        """Measures until it is cancelled."""
        while True:
            asked = self._clock()
            await asyncio.sleep(_INTERVAL)
            self.count(asked + _INTERVAL, self._clock())

    def count(self, due: float, now: float) -> None:
        """Counts a wake-up that was due at one time and came at another, and those that would have come between."""
        lag = max(0.0, now - due)
        for missed in range(min(1 + int(lag / _INTERVAL), _MOST_MISSED)):
            self._lags.count(lag - missed * _INTERVAL)
        if now - self._since > _RECENT:
            self._since, self._last, self._largest = now, self._largest, 0.0
        self._largest = max(self._largest, lag)
