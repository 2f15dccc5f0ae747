"""State of one event loop, such as connections and locks, kept apart for each loop that uses a client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from matfn.forks import Slots, generation

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

__all__ = ["ByLoop"]

ThingT = TypeVar("ThingT")


class ByLoop(Generic[ThingT]):
    """One thing for each event loop, safe to share between threads; a forked child begins with none.

    Args:
        make: makes the thing of the running loop.
        forget: told of a thing whose loop has been closed.
    """

    def __init__(self, make: Callable[[], ThingT], forget: Callable[[ThingT], object] = id) -> None:
        self._make = make
        self._forget = forget
        self._lock = Slots()
        self._things: dict[AbstractEventLoop, ThingT] = {}
        self._generation = generation()

    def here(self) -> ThingT:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        if self._generation == generation() and loop in self._things:
            return self._things[loop]
        with self._lock:
            self._drop_closed()
            return self._things.setdefault(loop, self._make())

    def _drop_closed(self) -> None:
        if self._generation != generation():  # the parent's, whose event loops go on there
            self._generation, self._things = generation(), {}
        for loop in [loop for loop in self._things if loop.is_closed()]:
            self._forget(self._things.pop(loop))

    def all(self) -> list[tuple[AbstractEventLoop, ThingT]]:
        """Every loop with what it has."""
        with self._lock:
            self._drop_closed()
            return list(self._things.items())
