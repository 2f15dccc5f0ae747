"""The client for asyncio: `matfn.client` with `await` before its I/O."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from matfn._methods.async_values import AsyncValueMethods
from matfn.answers import warn_if_approximate
from matfn.errors import ClosedError, MatfnError, ProblemError
from matfn.exchange import LIMITS_EXCHANGE, DocumentExchange, Exchange
from matfn.failover import async_transport_to
from matfn.gathering import Gatherer
from matfn.invocation import require_call
from matfn.limits import UNLIMITED, Limits
from matfn.map_run import MapRun, listed, values_of
from matfn.progress import counted
from matfn.session import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, Session
from matfn.verify import AsyncVerify
from matfn.with_info import AsyncWithInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from matfn.answers import Answer
    from matfn.async_transport import AsyncTransport
    from matfn.invocation import Invocation
    from matfn.map_run import OnError

__all__ = ["ASYNC_SYSTEM_CLOCK", "AsyncClient", "AsyncClock"]

AnswerT = TypeVar("AnswerT")
ValueT = TypeVar("ValueT")


def _dice() -> float:
    # a name of a module is pickled as that name; random.random would take its state along, so that copies waited alike
    return random.random()  # noqa: S311 - spreads retries, hides nothing


@dataclass(frozen=True, slots=True)
class AsyncClock:
    """Time and chance as arguments, so that tests need neither."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = _dice


ASYNC_SYSTEM_CLOCK = AsyncClock()


class AsyncClient(AsyncValueMethods):
    """A connection to a matfn server, safe to share between tasks of one event loop; their small calls share requests.

    A deep copy, or a client unpickled in another process, keeps the settings, API key included, and opens connections
    of its own.

    Args:
        base_url: http://host:port, https://host or unix:///path, or several of which any may answer; None takes
            MATFN_URL, then http://127.0.0.1:8000.
        api_key: sent as a bearer token; None takes MATFN_API_KEY.
        timeout: seconds that one attempt of a call may take, None for as long as it takes.
        max_retries: attempts after the first, where the failure may pass.
        triangles: pass exactly symmetric real matrices as one triangle, both ways; worth it on links slower than about
            2 Gbit/s.
        transport: what carries requests instead of sockets.
        clock: time and chance.
    """

    def __init__(  # noqa: PLR0913 - a client's settings are its interface
        self,
        base_url: str | Sequence[str] | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_RETRIES,
        triangles: bool = False,
        transport: AsyncTransport | None = None,
        clock: AsyncClock = ASYNC_SYSTEM_CLOCK,
    ) -> None:
        self._session = Session.of(base_url, api_key, timeout, max_retries, triangles=triangles)
        self._transport = transport or async_transport_to(self._session.endpoints)
        self._clock = clock
        self._limits: Limits | None = None
        self._limits_lock = asyncio.Lock()
        self._gatherer = self._new_gatherer()
        self._closed = False

    @property
    def with_info(self) -> AsyncWithInfo:
        """All functions, each returning an Answer: value, certificates, timing, request id and device."""
        return AsyncWithInfo(self, self._answers)

    @property
    def verify(self) -> AsyncVerify:
        """All functions whose claimed answers can be verified, each returning certificates."""
        return AsyncVerify(self)

    async def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer to a call that `matfn.call` built."""
        call, limits = require_call(invocation), await self._known_limits()
        prepared = self._session.prepared(call, limits)
        return await self._retried(
            lambda elapsed, name: self._gatherer.answer(prepared, limits, elapsed, name), prepared.deadline
        )

    @overload
    async def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[ValueT]: ...

    @overload
    async def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["return"]
    ) -> list[ValueT | MatfnError]: ...

    async def map(
        self,
        calls: Iterable[Invocation[Any]],
        *,
        progress: bool = False,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """Values of many calls, in their order, sent together in as few requests as the server's limits allow.

        Args:
            calls: what `matfn.call` built; functions, shapes and dtypes may differ.
            progress: show a bar on stderr.
            on_error: raise the first error, or return errors in the places of their values.

        Raises:
            MatfnError: the first error, unless errors are returned.
        """
        asked = listed(calls)
        return values_of(asked, await self._answers(asked, progress, on_error), stacklevel=2)

    async def functions(self) -> dict[str, Any]:
        """The server's catalogue: functions with inputs and parameters, options, and limits."""
        return await self._run(DocumentExchange("/v1/functions"))

    async def status(self) -> dict[str, Any]:
        """The server's device, queues and version."""
        return await self._run(DocumentExchange("/v1/status"))

    async def close(self) -> None:
        """Closes the connections; every later call raises ClosedError."""
        self._closed = True
        await self._transport.close()

    async def __aenter__(self) -> Self:
        self._require_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _value(self, invocation: Invocation[ValueT]) -> ValueT:
        answer = await self.ask(invocation)
        warn_if_approximate([(invocation.function, answer.certificates)], stacklevel=3)
        return answer.value

    async def _run(self, exchange: Exchange[AnswerT]) -> AnswerT:
        return await self._retried(lambda elapsed, name: self._attempt(exchange, elapsed, name), exchange.deadline)

    async def _retried(self, once: Callable[[float, str], Awaitable[AnswerT]], deadline: float | None) -> AnswerT:
        started = self._clock.now()
        policy = self._session.policy.within(deadline)
        attempt, name = 0, ""
        while True:
            try:
                return await once(self._clock.now() - started, name)
            except MatfnError as error:
                name = error.request_id if isinstance(error, ProblemError) else name
                wait = policy.delay(attempt, error, self._clock.now() - started, self._clock.random())
                if wait is None:
                    raise
            await self._clock.sleep(wait)
            attempt += 1

    async def _attempt(self, exchange: Exchange[AnswerT], elapsed: float, name: str = "") -> AnswerT:
        self._require_open()
        request = self._session.addressed(exchange.request(elapsed), name)
        return exchange.read(await self._transport.send(request, self._session.patience(exchange.deadline, elapsed)))

    async def _answers(
        self, calls: Iterable[Invocation[Any]], progress: bool, on_error: OnError
    ) -> list[Answer[Any] | MatfnError]:
        calls = listed(calls)
        run = MapRun(calls, await self._known_limits(), self._session, on_error)
        started = self._clock.now()
        with counted(len(calls), shown=progress) as show:
            while run.unfinished:
                await self._clock.sleep(run.pause(self._clock.now() - started, self._clock.random()))
                await self._send_batch(run, self._clock.now() - started)
                show(run.finished)
        return run.results()

    async def _send_batch(self, run: MapRun, elapsed: float) -> None:
        batch = run.next_batch()
        if not batch:
            return
        try:
            answers = await self._run(run.exchange(batch, elapsed))
        except ClosedError:
            raise
        except MatfnError as error:
            run.fail(batch, error)
        else:
            run.record(batch, answers)

    async def _known_limits(self) -> Limits:
        """The server's limits, asked for once; a server that does not say will refuse by itself."""
        if self._limits is not None:
            return self._limits
        async with self._limits_lock:
            if self._limits is None:
                try:
                    self._limits = Limits.of(await self._attempt(LIMITS_EXCHANGE, 0.0))
                except ClosedError:
                    raise
                except MatfnError:
                    self._limits = UNLIMITED
            return self._limits

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in {"_limits_lock", "_gatherer"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _limits_lock=asyncio.Lock())
        self._gatherer = self._new_gatherer()

    def _new_gatherer(self) -> Gatherer:
        return Gatherer(self._attempt, self._session, self._clock.now)

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("this client is closed")
