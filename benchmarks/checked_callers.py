"""Callers of every kind who call until they are told to stop, and check every answer.

Every request has matrices of its own, so that the answer to another one is wrong.
"""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import matfn
from bare_callers import spoken
from ends import PATIENCE, End, Ended, compared, ended, judged
from matfn.check import cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bare_callers import Service
    from matfn.check import Case

__all__ = ["Callers", "calling"]

_THREADS: Final = 2
_TASKS: Final = 4
_PIPELINES: Final = 2
_PIPELINED: Final = 3
_MAPPED: Final = 10
_REST: Final = 0.1  # of a caller whose connection was closed


@dataclass
class Callers:
    """Ends that all callers have seen; any thread may add to them."""

    seed: int
    seen: list[Ended] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=count)
    _drawn: deque[Case] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, number: int = 1) -> list[Case]:
        """So many cases with matrices that no other request has; all functions and dtypes in a random order."""
        with self._lock:
            while len(self._drawn) < number:
                seed = self.seed * 1_000_000 + next(self._numbers)
                drawn = cases(seed)
                self._drawn += [drawn[place] for place in np.random.default_rng(seed).permutation(len(drawn))]
            return [self._drawn.popleft() for _ in range(number)]

    def add(self, ends: Sequence[Ended]) -> None:
        """Takes ends down; a caller whose connection was closed rests."""
        self.seen.extend(ends)
        if any(one.end is End.CLOSED for one in ends):
            self.over.wait(_REST)


@contextmanager
def calling(service: Service, seed: int) -> Iterator[Callers]:
    """Clients in threads and tasks, and pipelines on bare sockets, which call until the block ends, and then end."""
    callers = Callers(seed)
    works = [*[_client] * _THREADS, _mapping, _tasks, *[_pipeline] * _PIPELINES]
    threads = [threading.Thread(target=_unexpected, args=(work, service, callers)) for work in works]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", matfn.ApproximateWarning)
        for thread in threads:
            thread.start()
        try:
            yield callers
        finally:
            callers.over.set()
            for thread in threads:
                thread.join()


def _unexpected(work: Callable[[Service, Callers], None], service: Service, callers: Callers) -> None:
    """Does a caller's work; a client that fails in another way than it says is as bad as a wrong answer."""
    try:
        work(service, callers)
    except Exception as error:  # noqa: BLE001 - whatever it is
        callers.seen.append(Ended(End.WRONG, f"{work.__name__}: {error!r}"))


def _client(service: Service, callers: Callers) -> None:
    """One call after the other, each sent once."""
    with matfn.Client(service.url, api_key=service.key, timeout=PATIENCE, max_retries=0) as client:
        while not callers.over.is_set():
            (case,) = callers.draw()
            callers.add([ended(case, lambda one=case: client.ask(one.invocation))])  # type: ignore[misc]


def _mapping(service: Service, callers: Callers) -> None:
    """Many calls a request, sent again where that may help."""
    with matfn.Client(service.url, api_key=service.key, timeout=PATIENCE) as client:
        while not callers.over.is_set():
            chosen, began = callers.draw(_MAPPED), time.monotonic()
            try:
                values = client.map([case.invocation for case in chosen], on_error="return")
            except matfn.MatfnError as error:
                values = [error] * len(chosen)
            seconds = time.monotonic() - began
            callers.add([_mapped(case, value, seconds) for case, value in zip(chosen, values, strict=True)])


def _mapped(case: Case, value: Any, seconds: float) -> Ended:
    return judged(value, seconds) if isinstance(value, matfn.MatfnError) else compared(case, value, seconds)


def _tasks(service: Service, callers: Callers) -> None:
    """Tasks whose small calls share requests, sent again where that may help."""
    asyncio.run(_all_tasks(service, callers))


async def _all_tasks(service: Service, callers: Callers) -> None:
    async with matfn.AsyncClient(service.url, api_key=service.key, timeout=PATIENCE) as client:
        await asyncio.gather(*(_task(client, callers) for _ in range(_TASKS)))


async def _task(client: matfn.AsyncClient, callers: Callers) -> None:
    while not callers.over.is_set():
        (case,), began = callers.draw(), time.monotonic()
        try:
            answer = await client.ask(case.invocation)
        except matfn.MatfnError as error:
            callers.seen.append(judged(error, time.monotonic() - began))
            await asyncio.sleep(_REST)
        else:
            callers.seen.append(compared(case, answer.value, time.monotonic() - began))


def _pipeline(service: Service, callers: Callers) -> None:
    """Some requests at once on a connection, whose answers come in their order."""
    while not callers.over.is_set():
        callers.add(spoken(service, callers.draw(_PIPELINED)))
