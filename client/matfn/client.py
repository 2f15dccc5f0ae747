"""The synchronous client: a thin shell of I/O around `exchange`, `map_run` and `retry`."""

from __future__ import annotations

import random
import time
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from matfn._methods.values import ValueMethods
from matfn.answers import warn_if_approximate
from matfn.errors import ClosedError, MatfnError, ProblemError, TooLarge, TransportTimeout
from matfn.exchange import CallExchange, DocumentExchange, Exchange, limits_exchange, require_whole_inputs
from matfn.failover import Wiring, transport_to
from matfn.forks import Slots
from matfn.handles import Handled, new_handle
from matfn.invocation import require_call
from matfn.limits import UNLIMITED, Limits
from matfn.map_run import MapRun, is_raising, listed, refused, values_of
from matfn.observing import Hooks, log_retry
from matfn.pool import MAX_CONNECTIONS
from matfn.progress import counted
from matfn.retry import may_pass
from matfn.session import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, Session, State, Unchanged
from matfn.submission import MOST_THREADS, Submitting, Threads
from matfn.verify import Verify
from matfn.vjp import Vjp
from matfn.with_info import WithInfo

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from matfn.answers import Answer
    from matfn.invocation import Invocation
    from matfn.map_run import OnError
    from matfn.observing import OnRequest, OnResponse
    from matfn.transport import Transport

__all__ = ["SYSTEM_CLOCK", "Client", "Clock"]

AnswerT = TypeVar("AnswerT")
ValueT = TypeVar("ValueT")


def _dice() -> float:
    # a name of a module is pickled as that name; random.random would take its state along, so that copies waited alike
    return random.random()  # noqa: S311 - spreads retries, hides nothing


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance as arguments, so that tests need neither."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = _dice


SYSTEM_CLOCK = Clock()


class Client(Handled, Submitting, ValueMethods):
    """A connection to a matfn server, safe to share between threads.

    A deep copy, or a client unpickled in another process, keeps the settings, API key included, and opens connections
    of its own.

    Args:
        base_url: http://host:port, https://host or unix:///path, or several of which any may answer; None takes
            MATFN_URL, then http://127.0.0.1:8000.
        api_key: sent as a bearer token; None takes MATFN_API_KEY.
        timeout: seconds that one attempt of a call may take, None for as long as it takes.
        max_retries: attempts after the first, where the failure may pass.
        max_connections: connections at a time to each server; calls beyond wait for one.
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
        transport: Transport | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._session = Session.of(base_url, api_key, timeout, max_retries, triangles=triangles, headers=headers)
        wiring = Wiring(self._session.endpoints, max_connections, ssl_context, Hooks(on_request, on_response))
        self._transport = transport_to(wiring, transport)
        self._clock = clock
        self._state = State()
        self._threads = Threads(min(MOST_THREADS, max_connections))
        self._limits_lock = Slots()
        self.handle = new_handle(self)

    @property
    def with_info(self) -> WithInfo:
        """All functions, each returning an Answer: value, certificates, timing, request id and device."""
        return WithInfo(self, self._answers, self._threads)

    @property
    def verify(self) -> Verify:
        """All functions whose claimed answers can be verified, each returning certificates."""
        return Verify(self)

    @property
    def vjp(self) -> Vjp:
        """Vector-Jacobian products of all functions that have gradients, each returning the gradients."""
        return Vjp(self)

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

    def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer to a call that `matfn.call` built."""
        call, started = require_call(invocation), self._clock.now()
        require_whole_inputs(call)
        limits = self._known_limits([call], started)
        try:
            return self._run(CallExchange(self._session.prepared(call, limits), limits), started)
        except TooLarge:
            self._state.limits = None  # the server may have been started again with others
            raise

    @overload
    def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[ValueT]: ...

    @overload
    def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["return"]
    ) -> list[ValueT | MatfnError]: ...

    def map(
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
        return values_of(asked, self._answers(asked, progress, on_error))

    def functions(self) -> dict[str, Any]:
        """The server's catalogue: functions with inputs and parameters, options, and limits."""
        return self._run(DocumentExchange("/v1/functions"))

    def status(self) -> dict[str, Any]:
        """The server's device, queues and version."""
        return self._run(DocumentExchange("/v1/status"))

    def close(self) -> None:
        """Closes the connections; every later call raises ClosedError."""
        self._state.closed = True
        self._threads.end()
        self._transport.close()

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _value(self, invocation: Invocation[ValueT]) -> ValueT:
        answer = self.ask(invocation)
        warn_if_approximate([(invocation.function, answer.certificates)])
        return answer.value

    def _run(self, exchange: Exchange[AnswerT], started: float | None = None) -> AnswerT:
        started = self._clock.now() if started is None else started
        policy = self._session.policy.within(exchange.deadline)
        attempt, name = 0, ""
        while True:
            try:
                return self._attempt(exchange, self._clock.now() - started, name)
            except MatfnError as error:
                name = error.request_id if isinstance(error, ProblemError) else name
                wait = policy.delay(attempt, error, self._clock.now() - started, self._clock.random())
                if wait is None:
                    raise
                log_retry(wait, error)
            self._clock.sleep(wait)
            attempt += 1

    def _attempt(self, exchange: Exchange[AnswerT], elapsed: float, name: str = "") -> AnswerT:
        self._require_open()
        request = self._session.addressed(exchange.request(elapsed), name)
        return exchange.read(self._transport.send(request, self._session.patience(exchange.deadline, elapsed)))

    def _answers(
        self, calls: Iterable[Invocation[Any]], progress: bool, on_error: OnError
    ) -> list[Answer[Any] | MatfnError]:
        calls, started = listed(calls), self._clock.now()
        is_raising(on_error)
        try:
            run = MapRun(calls, self._known_limits(calls, started), self._session, on_error)
        except ClosedError:
            raise
        except MatfnError as error:
            return refused(calls, error, on_error)
        with counted(len(calls), shown=progress) as show:
            while run.unfinished:
                self._clock.sleep(run.pause(self._clock.now() - started, self._clock.random()))
                self._send_batch(run, self._clock.now() - started)
                show(run.finished)
        if run.met_a_limit:
            self._state.limits = None
        return run.results()

    def _send_batch(self, run: MapRun, elapsed: float) -> None:
        batch = run.next_batch()
        if not batch:
            return
        try:
            answers = self._run(run.exchange(batch, elapsed))
        except ClosedError:
            raise
        except MatfnError as error:
            run.fail(batch, error)
        else:
            run.record(batch, answers)

    def _known_limits(self, calls: Sequence[Invocation[Any]], started: float) -> Limits:
        """The server's limits, which the first of the calls that began at `started` asks for, in its own time."""
        if (known := self._state.limits) is not None:
            return known
        exchange = limits_exchange(calls)
        if not self._limits_lock.acquire(self._session.patience(exchange.deadline, self._clock.now() - started)):
            raise TransportTimeout("the server did not tell its limits in time")
        try:
            return self._state.limits or self._asked_limits(exchange, started)
        finally:
            self._limits_lock.release()

    def _asked_limits(self, exchange: DocumentExchange, started: float) -> Limits:
        try:
            document = self._run(exchange, started)
        except (ClosedError, TransportTimeout):
            raise
        except MatfnError as error:
            if may_pass(error):
                raise
            return UNLIMITED  # a server that does not tell its limits will refuse by itself
        self._state.limits = limits = Limits.of(document)
        return limits

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._session.where}{', closed' if self._state.closed else ''})"

    def _require_open(self) -> None:
        if self._state.closed:
            raise ClosedError("this client is closed")
