"""Room in the queue reserved for callers that were refused: a pure structure without an event loop or a clock.

- A refused caller is given a time at which to come back. Its work counts as backlog from then on, so that callers
  refused one after the other are given later and later times.
- A reservation belongs to the name of the caller's request. It holds from its time on for `grace` seconds, once.
- The number of reservations and the work in them are bounded. Callers refused beyond the bound get no reservation, so
  that callers that never come back cannot delay the others for long.
"""

from __future__ import annotations

from dataclasses import dataclass

from matfn_service.queue import Limit

__all__ = ["Reservations"]


@dataclass(frozen=True, slots=True)
class _Reservation:
    due: float
    load: Limit


class Reservations:
    """The callers that are to come back, by name: when, and with how much work.

    Args:
        grace: seconds for which a reservation holds after its time.
        most: largest number of reservations.
        horizon: largest amount of work in all of them.
    """

    def __init__(self, grace: float, most: int, horizon: Limit) -> None:
        self.ahead = Limit(0.0, 0)
        self._grace = grace
        self._most = most
        self._horizon = horizon
        self._kept: dict[str, _Reservation] = {}

    def __len__(self) -> int:
        """Number of reservations."""
        return len(self._kept)

    def reserve(self, name: str, due: float, load: Limit) -> None:
        """Reserves room for so much work from this time on, in place of the caller's earlier reservation."""
        self._forget(name)
        ahead = Limit(self.ahead.seconds + load.seconds, self.ahead.bytes + load.bytes)
        fits = ahead.seconds <= self._horizon.seconds and ahead.bytes <= self._horizon.bytes
        if fits and len(self._kept) < self._most:
            self._kept[name] = _Reservation(due, load)
            self.ahead = ahead

    def claim(self, name: str, now: float) -> bool:
        """Ends the caller's reservation; returns whether it had one that holds now."""
        reservation = self._forget(name)
        return reservation is not None and reservation.due <= now <= reservation.due + self._grace

    def expire(self, now: float) -> None:
        """Ends reservations that hold no longer, oldest first, up to the first that still does."""
        while self._kept and (first := next(iter(self._kept.items())))[1].due + self._grace < now:
            self._forget(first[0])

    def _forget(self, name: str) -> _Reservation | None:
        reservation = self._kept.pop(name, None)
        if reservation is not None:
            ahead = Limit(self.ahead.seconds - reservation.load.seconds, self.ahead.bytes - reservation.load.bytes)
            self.ahead = ahead if self._kept else Limit(0.0, 0)  # without the rounding of past sums
        return reservation
