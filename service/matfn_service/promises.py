"""Places promised to callers that the queue was too full for: a pure structure that knows no loop and no clock.

Rules of this file:

- Who is refused is told a time, and what it will bring counts as backlog from then on. So those who are refused one
  after the other are told one time after the other, instead of all coming back at once to be refused again.
- A promise is kept to the name the caller gave its request, from its time on for `grace` seconds, once.
- What has been promised is bounded in number and in work, whatever knocks; beyond, nobody is remembered. So callers who
  never come back cannot put off the others for long.
"""

from __future__ import annotations

from dataclasses import dataclass

from matfn_service.queue import Limit

__all__ = ["Promises"]


@dataclass(frozen=True, slots=True)
class _Promise:
    due: float
    load: Limit


class Promises:
    """Who was told to come back, when, and with how much work."""

    def __init__(self, grace: float, most: int, horizon: Limit) -> None:
        self.ahead = Limit(0.0, 0)
        self._grace = grace
        self._most = most
        self._horizon = horizon
        self._kept: dict[str, _Promise] = {}

    def __len__(self) -> int:
        """Number of callers that are expected."""
        return len(self._kept)

    def promise(self, name: str, due: float, load: Limit) -> None:
        """Expects a caller at that time with so much work; a promise that it had before is void."""
        self._forget(name)
        ahead = Limit(self.ahead.seconds + load.seconds, self.ahead.bytes + load.bytes)
        fits = ahead.seconds <= self._horizon.seconds and ahead.bytes <= self._horizon.bytes
        if fits and len(self._kept) < self._most:
            self._kept[name] = _Promise(due, load)
            self.ahead = ahead

    def claim(self, name: str, now: float) -> bool:
        """Whether this caller was promised a place by now; who comes earlier than told loses it."""
        promise = self._forget(name)
        return promise is not None and promise.due <= now <= promise.due + self._grace

    def expire(self, now: float) -> None:
        """Forgets who has not come; promises are looked through in the order in which they were given."""
        while self._kept and (first := next(iter(self._kept.items())))[1].due + self._grace < now:
            self._forget(first[0])

    def _forget(self, name: str) -> _Promise | None:
        promise = self._kept.pop(name, None)
        if promise is not None:
            left = Limit(self.ahead.seconds - promise.load.seconds, self.ahead.bytes - promise.load.bytes)
            self.ahead = left if self._kept else Limit(0.0, 0)  # without the rounding of past sums
        return promise
