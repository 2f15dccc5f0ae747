"""Many calls in few requests, without I/O: which to send next, what became of them, how long to wait.

    run = MapRun(calls, limits, session, on_error)
    while run.unfinished:
        wait(run.pause(...))
        batch = run.next_batch()
        run.record(batch, answers) or run.fail(batch, error)

Rules of this file:
- A request holds consecutive calls up to the server's byte limit; a call that alone exceeds a limit fails alone.
- Only calls whose failure may pass are sent again, in the order they were given.
- Every call ends with exactly one answer or error, in its own place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from matfn import wire
from matfn.answers import Answer, warn_if_approximate
from matfn.errors import MatfnError, TooLarge
from matfn.exchange import ManyExchange, StackRefusedError
from matfn.invocation import Invocation, require_call
from matfn.retry import may_pass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn.exchange import Prepared
    from matfn.limits import Limits
    from matfn.session import Session

__all__ = ["MapRun", "OnError", "is_raising", "listed", "refused", "values_of"]

OnError: TypeAlias = Literal["raise", "return"]

_ENVELOPE_BYTES: Final = 64  # a bound on what a request adds to its calls, and on each call's name
_DEFAULT_BYTES: Final = 64 << 20
_BATCH_CALLS: Final = 4096


def listed(calls: object, method: str = "map") -> list[Invocation[Any]]:
    """The calls given to a method such as `map`; TypeError names what is none."""
    if isinstance(calls, Invocation) or not isinstance(calls, Iterable):
        given = "a single call" if isinstance(calls, Invocation) else type(calls).__qualname__
        raise TypeError(f"{method} takes an iterable of calls such as [matfn.call.msign(m)]; {given} was given")
    return [require_call(call, f"item {index} of the calls") for index, call in enumerate(calls)]


def is_raising(on_error: str) -> bool:
    """Whether the first error is to be raised; ValueError for a mode that there is not."""
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error={on_error!r} is neither 'raise' nor 'return'")
    return on_error == "raise"


def refused(calls: Sequence[object], error: MatfnError, on_error: OnError) -> list[Answer[Any] | MatfnError]:
    """Results of calls that all fail together, before any was sent."""
    if calls and is_raising(on_error):
        raise error
    return [error.of_call(index) for index in range(len(calls))]


class MapRun:
    """The state of one `Client.map`."""

    def __init__(self, calls: Sequence[Invocation[Any]], limits: Limits, session: Session, on_error: OnError) -> None:
        self._session = session
        self._policy = session.policy
        self._raises = is_raising(on_error)
        self._failed = False
        self._limits = limits
        self._attempt = 0
        self._room = min(limits.max_request_bytes or _DEFAULT_BYTES, _DEFAULT_BYTES) - _ENVELOPE_BYTES
        self._results: list[Answer[Any] | MatfnError | None] = [None] * len(calls)
        self._prepared: dict[int, Prepared[Any]] = {}
        self._sizes: dict[int, int] = {}
        self._again: dict[int, MatfnError] = {}
        for index, call in enumerate(calls):
            self._prepare(index, call, limits)
        self._waiting = deque(self._prepared)

    def _prepare(self, index: int, call: Invocation[Any], limits: Limits) -> None:
        try:
            prepared = self._session.prepared(call, limits)
            size = prepared.bound
            if size > self._room:
                size = _size(prepared.call)
                limits.check_body(size + _ENVELOPE_BYTES)
        except MatfnError as error:
            self._finish(index, error)
        else:
            self._prepared[index], self._sizes[index] = prepared, size

    @property
    def unfinished(self) -> bool:
        """Whether any call still needs sending; none does after an error that will be raised."""
        return bool(self._waiting or self._again) and not (self._failed and self._raises)

    @property
    def finished(self) -> int:
        """Number of calls with an answer or an error."""
        return sum(result is not None for result in self._results)

    def pause(self, elapsed: float, random: float) -> float:
        """Seconds to wait before the next batch; gives up calls that are not worth another attempt."""
        if self._waiting or not self._again:
            return 0.0
        waits: list[float] = []
        for index, error in self._again.items():
            policy = self._policy.within(self._prepared[index].deadline)
            wait = policy.delay(self._attempt, error, elapsed, random)
            if wait is None:
                self._finish(index, error)
            else:
                waits.append(wait)
                self._waiting.append(index)
        self._again.clear()
        self._attempt += 1
        return max(waits, default=0.0)

    def next_batch(self) -> dict[int, Prepared[Any]]:
        """The next calls that fit one request, by their place; empty when all that was left has been given up."""
        batch: dict[int, Prepared[Any]] = {}
        room = self._room
        while self._waiting and len(batch) < _BATCH_CALLS:
            index = self._waiting[0]
            room -= self._sizes[index]
            if batch and room < 0:
                break
            batch[index] = self._prepared[self._waiting.popleft()]
        return batch

    def exchange(self, batch: dict[int, Prepared[Any]], elapsed: float) -> ManyExchange:
        """The exchange that sends a batch, `elapsed` seconds after the calls began."""
        return ManyExchange(tuple(batch.values()), elapsed, limits=self._limits)

    def record(self, batch: dict[int, Prepared[Any]], answers: Sequence[Answer[Any] | MatfnError]) -> None:
        """Takes the answers of a batch; calls of a refused stack, and failures that may pass, will be sent again."""
        for index, answer in zip(batch, answers, strict=True):
            if isinstance(answer, StackRefusedError):
                self._prepared[index] = self._prepared[index].by_itself()
                self._waiting.append(index)
            elif isinstance(answer, MatfnError) and may_pass(answer):
                self._again[index] = answer
            else:
                self._finish(index, answer)

    def fail(self, batch: dict[int, Prepared[Any]], error: MatfnError) -> None:
        """Takes the failure of a whole request, which has been tried often enough."""
        for index in batch:
            self._finish(index, error)

    def _finish(self, index: int, result: Answer[Any] | MatfnError) -> None:
        self._results[index] = result.of_call(index) if isinstance(result, MatfnError) else result
        self._failed |= isinstance(result, MatfnError)

    @property
    def met_a_limit(self) -> bool:
        """Whether a call was too large."""
        return self._failed and any(isinstance(result, TooLarge) for result in self._results)

    def results(self) -> list[Answer[Any] | MatfnError]:
        """Every call's answer or error, in order; raises the first error if that was asked for."""
        results = [result for result in self._results if result is not None]
        if self._raises:
            for result in results:
                if isinstance(result, MatfnError):
                    raise result
        return results


def _size(call: wire.Call) -> int:
    """The bytes that a call adds to a request."""
    return sum(map(len, wire.encode_call(call, wire.Media.MSGPACK))) + _ENVELOPE_BYTES


def values_of(calls: Sequence[Invocation[Any]], results: Sequence[Answer[Any] | MatfnError]) -> list[Any]:
    """The values of answers and the errors as they are, with one warning if any answer is approximate."""
    answered = [
        (call.function, result.certificates)
        for call, result in zip(calls, results, strict=True)
        if isinstance(result, Answer)
    ]
    warn_if_approximate(answered)
    return [result if isinstance(result, MatfnError) else result.value for result in results]
