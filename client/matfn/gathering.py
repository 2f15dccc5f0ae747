"""Concurrent small calls of one asynchronous client, sent together.

A call that comes while no request is under way goes at once, by itself. Those that come in one turn of the event loop,
or while as many requests are under way as may be, share the next request. Each caller has its own answer or error,
tries again by its own policy, waits no longer than its own deadline allows, and may leave without the others noticing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from matfn.errors import MatfnError, TransportTimeout
from matfn.exchange import CallExchange, ManyExchange, StackRefusedError
from matfn.stacking import is_small

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matfn.answers import Answer
    from matfn.exchange import Exchange, Prepared
    from matfn.limits import Limits
    from matfn.session import Session

__all__ = ["Gatherer"]

AnswerT = TypeVar("AnswerT")

_REQUESTS: Final = 4  # under way at a time: the next one is read and encoded while the server computes the last
_CALLS: Final = 256
_BYTES: Final = 1 << 23


class Attempt(Protocol):
    """One attempt of an exchange."""

    async def __call__(self, exchange: Exchange[AnswerT], elapsed: float, name: str = "") -> AnswerT:
        """The answer, `elapsed` seconds after the call began; a retry has the name of its refusal."""


@dataclass(slots=True, eq=False)
class _Caller:
    """A call with whoever waits for it, since `began` on the client's clock."""

    prepared: Prepared[Any]
    began: float
    name: str
    future: asyncio.Future[Answer[Any]]
    batch: _Batch | None = None


@dataclass(slots=True, eq=False)
class _Batch:
    """The callers of one request, and the task that sends it."""

    callers: Sequence[_Caller]
    staying: int
    task: asyncio.Task[None] | None = None


class _Gathering:
    """The calls of one event loop that wait for a request, and the number of those under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: deque[_Caller] = deque()
        self.under_way = 0
        self.is_scheduled = False
        self.tasks: set[asyncio.Task[None]] = set()


class Gatherer:
    """Answers small calls of one event loop, several with one request where they come together.

    Args:
        attempt: sends one request.
        session: the client's settings.
        now: the client's clock.
    """

    def __init__(self, attempt: Attempt, session: Session, now: Callable[[], float]) -> None:
        self._attempt = attempt
        self._session = session
        self._now = now
        self._gathering = _Gathering(asyncio.get_running_loop())
        self._limits: Limits | None = None

    async def answer(self, prepared: Prepared[Any], limits: Limits, elapsed: float, name: str) -> Answer[Any]:
        """The answer to a call that began `elapsed` seconds ago; raises its own error."""
        self._limits = limits
        gathering = self._gathering
        if not is_small(prepared.call) or prepared.bound > _room(limits):
            return await self._attempt(CallExchange(prepared, limits), elapsed, name)
        if gathering.under_way or gathering.waiting:
            return await self._together(gathering, prepared, elapsed, name)
        gathering.under_way += 1
        try:
            return await self._attempt(CallExchange(prepared, limits), elapsed, name)
        finally:
            self._free(gathering)

    async def _together(self, gathering: _Gathering, prepared: Prepared[Any], elapsed: float, name: str) -> Answer[Any]:
        caller = _Caller(prepared, self._now() - elapsed, name, gathering.loop.create_future())
        gathering.waiting.append(caller)
        self._schedule(gathering)
        try:
            if prepared.deadline is None:
                return await caller.future
            async with asyncio.timeout(self._session.patience(prepared.deadline, elapsed)):
                return await caller.future
        except TimeoutError as error:
            raise TransportTimeout("no answer came in time") from error
        finally:
            _leave(caller)

    def _schedule(self, gathering: _Gathering) -> None:
        """Sends what waits at the end of this turn of the loop, when all that comes in it has come."""
        if gathering.waiting and gathering.under_way < _REQUESTS and not gathering.is_scheduled:
            gathering.is_scheduled = True
            gathering.loop.call_soon(self._send_waiting, gathering)

    def _send_waiting(self, gathering: _Gathering) -> None:
        gathering.is_scheduled = False
        while gathering.under_way < _REQUESTS and (callers := self._next(gathering)):
            gathering.under_way += 1
            batch = _Batch(callers, len(callers))
            for caller in callers:
                caller.batch = batch
            batch.task = gathering.loop.create_task(self._send(gathering, batch))
            gathering.tasks.add(batch.task)
            batch.task.add_done_callback(gathering.tasks.discard)

    def _next(self, gathering: _Gathering) -> list[_Caller]:
        """The next callers whose calls fit one request, without those that have left."""
        callers: list[_Caller] = []
        assert self._limits is not None
        room = _room(self._limits)
        while gathering.waiting and len(callers) < _CALLS:
            caller = gathering.waiting[0]
            if not caller.future.done():
                room -= caller.prepared.bound
                if callers and room < 0:
                    break
                callers.append(caller)
            gathering.waiting.popleft()
        return callers

    async def _send(self, gathering: _Gathering, batch: _Batch) -> None:
        """Sends a batch and gives each caller what became of its call."""
        try:
            for caller, answer in zip(batch.callers, await self._answers(batch.callers), strict=True):
                self._settle(gathering, caller, answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers have to hear of it
            for caller in batch.callers:
                _fail(caller, error)
        finally:
            for caller in batch.callers:
                if caller.batch is batch:
                    caller.future.cancel()  # nothing came: the request was cancelled
            self._free(gathering)

    async def _answers(self, callers: Sequence[_Caller]) -> Sequence[Answer[Any] | MatfnError]:
        assert self._limits is not None
        now = self._now()
        if len(callers) == 1:
            caller = callers[0]
            exchange = CallExchange(caller.prepared, self._limits)
            return [await self._attempt(exchange, now - caller.began, caller.name)]
        calls = [replace(one.prepared, call=one.prepared.at(now - one.began)) for one in callers]
        return await self._attempt(ManyExchange(calls, limits=self._limits), 0.0)

    def _settle(self, gathering: _Gathering, caller: _Caller, answer: Answer[Any] | MatfnError) -> None:
        if isinstance(answer, StackRefusedError):
            caller.prepared, caller.batch = caller.prepared.by_itself(), None
            gathering.waiting.append(caller)
        elif isinstance(answer, MatfnError):
            _fail(caller, answer)
        elif not caller.future.done():
            caller.future.set_result(answer)

    def _free(self, gathering: _Gathering) -> None:
        gathering.under_way -= 1
        self._schedule(gathering)


def _room(limits: Limits) -> int:
    return min(limits.max_request_bytes or _BYTES, _BYTES)


def _fail(caller: _Caller, error: Exception) -> None:
    if not caller.future.done():
        caller.future.set_exception(copy(error))  # raised by several tasks, one error would collect all their traces


def _leave(caller: _Caller) -> None:
    """Counts a caller out; a request without any is given up, so that nothing is computed for nobody."""
    batch = caller.batch
    if batch is None:
        return
    batch.staying -= 1
    if not batch.staying and batch.task is not None:
        batch.task.cancel()
