"""The client for asyncio: `matfn.client` with `await` before its I/O."""

from __future__ import annotations

import asyncio
import random
import time
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from matfn._methods.async_values import AsyncValueMethods
from matfn.answers import warn_if_approximate
from matfn.async_failover import async_transport_to
from matfn.errors import ClosedError, MatfnError, ProblemError, TooLarge, TransportTimeout
from matfn.exchange import DocumentExchange, Exchange, limits_exchange, require_whole_inputs
from matfn.failover import Wiring
from matfn.gathering import Gatherer
from matfn.invocation import require_call
from matfn.limits import UNLIMITED, Limits
from matfn.loops import ByLoop
from matfn.map_run import MapRun, is_raising, listed, refused, values_of
from matfn.observing import Hooks, log_retry
from matfn.pool import MAX_CONNECTIONS
from matfn.progress import counted
from matfn.retry import may_pass
from matfn.session import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, Session, State, Unchanged
from matfn.verify import AsyncVerify
from matfn.vjp import AsyncVjp
from matfn.with_info import AsyncWithInfo

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from matfn.answers import Answer
    from matfn.async_transport import AsyncTransport
    from matfn.invocation import Invocation
    from matfn.map_run import OnError
    from matfn.observing import OnRequest, OnResponse

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


@dataclass(frozen=True, slots=True)
class _OfLoop:
    """The state of a client in one event loop: small calls that wait for a request, and the question for limits."""

    gatherer: Gatherer
    limits_lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class AsyncClient(AsyncValueMethods):
    """A connection to a matfn server, safe to share between tasks and event loops.

    Small calls that tasks of one event loop make together share requests.

    A deep copy, or a client unpickled in another process, keeps the settings, API key included, and opens connections
    of its own.

    Args:
        base_url: http://host:port, https://host or unix:///path, or several of which any may answer; None takes
            MATFN_URL, then http://127.0.0.1:8000.
        api_key: sent as a bearer token; None takes MATFN_API_KEY.
        timeout: seconds that one attempt of a call may take, None for as long as it takes.
        max_retries: attempts after the first, where the failure may pass.
        max_connections: connections at a time to each server, from each event loop; calls beyond wait for one.
        triangles: pass exactly symmetric real matrices as one triangle, both ways; worth it on links slower than about
            2 Gbit/s.
        headers: sent with every request, in place of the client's own of the same name.
        ssl_context: settings of TLS, such as a private certificate authority or a client's certificate.
        on_request: called with a RequestInfo before each request; headers that it returns are added to the request.
        on_response: called with a ResponseInfo after each answer, or when none came.
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
        max_connections: int = MAX_CONNECTIONS,
        triangles: bool = False,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_request: OnRequest | None = None,
        on_response: OnResponse | None = None,
        transport: AsyncTransport | None = None,
        clock: AsyncClock = ASYNC_SYSTEM_CLOCK,
    ) -> None:
        self._session = Session.of(base_url, api_key, timeout, max_retries, triangles=triangles, headers=headers)
        wiring = Wiring(self._session.endpoints, max_connections, ssl_context, Hooks(on_request, on_response))
        self._transport = async_transport_to(wiring, transport)
        self._clock = clock
        self._state = State()
        self._loops = ByLoop(self._of_loop)

    @property
    def with_info(self) -> AsyncWithInfo:
        """All functions, each returning an Answer: value, certificates, timing, request id and device."""
        return AsyncWithInfo(self, self._answers)

    @property
    def verify(self) -> AsyncVerify:
        """All functions whose claimed answers can be verified, each returning certificates."""
        return AsyncVerify(self)

    @property
    def vjp(self) -> AsyncVjp:
        """Vector-Jacobian products of all functions that have gradients, each returning the gradients."""
        return AsyncVjp(self)

    def with_options(
        self,
        *,
        timeout: float | Unchanged | None = Unchanged.UNCHANGED,
        max_retries: int | Unchanged = Unchanged.UNCHANGED,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """This client with other settings for some calls; it has the same connections, and is closed with this one.

        Args:
            timeout: seconds that one attempt of a call may take, None for as long as it takes.
            max_retries: attempts after the first, where the failure may pass.
            headers: added to those of this client, or in place of those of the same name.
        """
        other = copy(self)
        other._session = self._session.changed(timeout, max_retries, headers)  # noqa: SLF001 - our own
        return other

    async def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer to a call that `matfn.call` built."""
        call, started = require_call(invocation), self._clock.now()
        require_whole_inputs(call)
        limits, gatherer = await self._known_limits([call], started), self._loops.here().gatherer
        try:
            prepared = self._session.prepared(call, limits)
            return await self._retried(
                lambda elapsed, name: gatherer.answer(prepared, limits, elapsed, name), prepared.deadline, started
            )
        except TooLarge:
            self._state.limits = None  # the server may have been started again with others
            raise

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
        return values_of(asked, await self._answers(asked, progress, on_error))

    async def functions(self) -> dict[str, Any]:
        """The server's catalogue: functions with inputs and parameters, options, and limits."""
        return await self._run(DocumentExchange("/v1/functions"))

    async def status(self) -> dict[str, Any]:
        """The server's device, queues and version."""
        return await self._run(DocumentExchange("/v1/status"))

    async def close(self) -> None:
        """Closes the connections; every later call raises ClosedError."""
        self._state.closed = True
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
        warn_if_approximate([(invocation.function, answer.certificates)])
        return answer.value

    async def _run(self, exchange: Exchange[AnswerT], started: float | None = None) -> AnswerT:
        return await self._retried(
            lambda elapsed, name: self._attempt(exchange, elapsed, name),
            exchange.deadline,
            self._clock.now() if started is None else started,
        )

    async def _retried(
        self, once: Callable[[float, str], Awaitable[AnswerT]], deadline: float | None, started: float
    ) -> AnswerT:
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
                log_retry(wait, error)
            await self._clock.sleep(wait)
            attempt += 1

    async def _attempt(self, exchange: Exchange[AnswerT], elapsed: float, name: str = "") -> AnswerT:
        self._require_open()
        request = self._session.addressed(exchange.request(elapsed), name)
        return exchange.read(await self._transport.send(request, self._session.patience(exchange.deadline, elapsed)))

    async def _answers(
        self, calls: Iterable[Invocation[Any]], progress: bool, on_error: OnError
    ) -> list[Answer[Any] | MatfnError]:
        calls, started = listed(calls), self._clock.now()
        is_raising(on_error)
        try:
            run = MapRun(calls, await self._known_limits(calls, started), self._session, on_error)
        except ClosedError:
            raise
        except MatfnError as error:
            return refused(calls, error, on_error)
        with counted(len(calls), shown=progress) as show:
            while run.unfinished:
                await self._clock.sleep(run.pause(self._clock.now() - started, self._clock.random()))
                await self._send_batch(run, self._clock.now() - started)
                show(run.finished)
        if run.met_a_limit:
            self._state.limits = None
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

    async def _known_limits(self, calls: Sequence[Invocation[Any]], started: float) -> Limits:
        """The server's limits, which the first of the calls that began at `started` asks for, in its own time."""
        if (known := self._state.limits) is not None:
            return known
        exchange, lock = limits_exchange(calls), self._loops.here().limits_lock
        try:
            async with asyncio.timeout(self._session.patience(exchange.deadline, self._clock.now() - started)):
                await lock.acquire()
        except TimeoutError as error:
            raise TransportTimeout("the server did not tell its limits in time") from error
        try:
            return self._state.limits or await self._asked_limits(exchange, started)
        finally:
            lock.release()

    async def _asked_limits(self, exchange: DocumentExchange, started: float) -> Limits:
        try:
            document = await self._run(exchange, started)
        except (ClosedError, TransportTimeout):
            raise
        except MatfnError as error:
            if may_pass(error):
                raise
            return UNLIMITED  # a server that does not tell its limits will refuse by itself
        self._state.limits = limits = Limits.of(document)
        return limits

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_loops"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _loops=ByLoop(self._of_loop))

    def _of_loop(self) -> _OfLoop:
        return _OfLoop(Gatherer(self._attempt, self._session, self._clock.now))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._session.where}{', closed' if self._state.closed else ''})"

    def _require_open(self) -> None:
        if self._state.closed:
            raise ClosedError("this client is closed")
