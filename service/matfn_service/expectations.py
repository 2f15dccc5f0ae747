"""Tenants whose next call is expected at once: a pure structure without an event loop or a clock.

Whoever sends calls one after the other sends the next one shortly after the answer to the last. A worker that took
another tenant's batch in that moment would make each of these calls wait. Cf. Iyer, Druschel: Anticipatory scheduling,
2001.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Expectations"]

_SOON: Final = 0.005
"""Seconds from an answer to the next call: a caller on the same machine or network takes less, from elsewhere more.

For more distant callers the two milliseconds of a brief batch are small against the round trip."""


class Expectations:
    """The moments until which tenants are expected."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def answered(self, tenants: Iterable[str], now: float) -> None:
        """Expects calls of tenants whose last waiting calls were answered now."""
        self._until |= dict.fromkeys(tenants, now + _SOON)

    def until(self, tenant: str, now: float) -> float | None:
        """The moment until which tenants other than this one are expected; None if none is."""
        self._until = {name: moment for name, moment in self._until.items() if moment > now}
        last = max((moment for name, moment in self._until.items() if name != tenant), default=-math.inf)
        return last if last > now else None
