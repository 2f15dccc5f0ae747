"""State that a forked child has anew: locks, which its parent's threads may hold, and the count of forks."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Slots", "generation"]

_generation = 0


def generation() -> int:
    """How many forks lie between this process and the one that imported this module."""
    return _generation


def _count() -> None:
    global _generation  # noqa: PLW0603 - a process has one
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)


class Slots:
    """A lock that so many threads may hold at a time; a forked child begins with none taken.

    Args:
        number: how many threads; one makes it a plain lock.
    """

    def __init__(self, number: int = 1) -> None:
        self._number = number
        self._renew()

    def acquire(self, timeout: float | None = None) -> bool:
        """Waits for a slot, at most so many seconds; tells whether it has one."""
        if self._generation != _generation:
            self._renew()
        return self._semaphore.acquire(timeout=timeout)

    def release(self) -> None:
        """Gives a slot back; one that was taken before a fork is gone."""
        if self._generation == _generation:
            self._semaphore.release()

    def _renew(self) -> None:
        self._semaphore = threading.Semaphore(self._number)
        self._generation = _generation

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __reduce__(self) -> tuple[object, ...]:
        """A copy has all its slots free."""
        return type(self), (self._number,)
