"""Answers that their callers do not read, or hardly: found by how much of them still waits, and dropped.

What waits is in memory, and a caller that reads nothing would keep it there for ever.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outflow", "Pace", "Reading"]

_LONGEST_LOOK: Final = 1.0
_LOOKS: Final = 4  # in the time without progress that is allowed


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly a caller may read.

    Attributes:
        idle: seconds in which it must read something.
        rate: bytes a second that it must read on average, once `idle` seconds have passed.
    """

    idle: float = 30.0
    rate: int = 64 * 2**10


class Reading:
    """How a caller reads what waits for it, from the moment when something does.

    Args:
        pace: how slowly it may.
        now: seconds.
        waiting: bytes that wait.
    """

    def __init__(self, pace: Pace, now: float, waiting: int) -> None:
        self._pace = pace
        self._began = self._progressed = now
        self._waiting = waiting
        self._read = 0

    def more(self, waiting: int) -> None:
        """More has been written; so much waits now."""
        self._waiting = waiting

    def is_too_slow(self, now: float, waiting: int) -> bool:
        """Whether the caller is to be dropped, of whose answers so much waits now."""
        if waiting < self._waiting:
            self._read += self._waiting - waiting
            self._progressed = now
        self._waiting = waiting
        spent = now - self._began
        is_late = spent > self._pace.idle and self._read < self._pace.rate * spent
        return is_late or now - self._progressed > self._pace.idle


class Outflow:
    """Watches one connection while something waits in its buffer.

    Args:
        transport: the connection.
        pace: how slowly its caller may read.
        on_drop: called when it has been dropped.
    """

    def __init__(self, transport: asyncio.Transport, pace: Pace, on_drop: Callable[[], None]) -> None:
        self._transport = transport
        self._pace = pace
        self._on_drop = on_drop
        self._reading: Reading | None = None
        self._timer: asyncio.TimerHandle | None = None

    def written(self) -> None:
        """Something has been written."""
        waiting = self._transport.get_write_buffer_size()
        if self._reading is not None:
            self._reading.more(waiting)
        elif waiting:
            self._reading = Reading(self._pace, asyncio.get_running_loop().time(), waiting)
            self._look_later()

    def end(self) -> None:
        """Ends the watch, with the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._reading = self._timer = None

    def _look_later(self) -> None:
        seconds = min(_LONGEST_LOOK, self._pace.idle / _LOOKS)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        assert self._reading is not None
        waiting = self._transport.get_write_buffer_size()
        if not waiting:
            self.end()
        elif self._reading.is_too_slow(asyncio.get_running_loop().time(), waiting):
            self.end()
            self._transport.abort()
            self._on_drop()
        else:
            self._look_later()
