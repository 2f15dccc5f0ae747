"""Calls answered in threads: futures, and answers in the order in which they come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from matfn.answers import warn_if_approximate
from matfn.callers import callers_line
from matfn.errors import ClosedError, MatfnError
from matfn.forks import Slots, generation
from matfn.invocation import require_call
from matfn.map_run import is_raising, listed
from matfn.progress import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

    from matfn.answers import Answer
    from matfn.callers import Line
    from matfn.invocation import Invocation

__all__ = ["MOST_THREADS", "Submitting", "Threads", "as_answered"]

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")
ValueT = TypeVar("ValueT")

MOST_THREADS: Final = 32  # of a client: more add nothing, since Python computes in one of them at a time


class Threads:
    """Threads that are started as they are needed; a forked child starts its own.

    Args:
        most: how many at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Slots()
        self._executor: ThreadPoolExecutor | None = None
        self._generation = generation()
        self._ended = False

    def submit(self, function: Callable[[ArgumentT], ResultT], argument: ArgumentT) -> Future[ResultT]:
        """The future result of a function, which one of the threads calls.

        Raises:
            ClosedError: after `end`.
        """
        with self._lock:
            if self._ended:
                raise ClosedError("this client is closed")
            return self._started().submit(copy_context().run, function, argument)  # the caller's span goes along

    def _started(self) -> ThreadPoolExecutor:
        if self._executor is None or self._generation != generation():
            from concurrent.futures import ThreadPoolExecutor  # slow to import

            self._executor, self._generation = ThreadPoolExecutor(self._most, "matfn"), generation()
        return self._executor

    def end(self) -> None:
        """Lets the threads end with what was submitted; takes no more."""
        with self._lock:
            self._ended = True
            if self._executor is not None and self._generation == generation():
                self._executor.shutdown(wait=False)

    def __reduce__(self) -> tuple[object, ...]:
        """A copy has threads of its own."""
        return type(self), (self._most,)


class Submitting(ABC):
    """The methods of a client that answer calls in its threads."""

    _threads: Threads

    @abstractmethod
    def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer to a call that `matfn.call` built."""

    def submit(self, call: Invocation[ValueT]) -> Future[ValueT]:
        """The future value of a call that `matfn.call` built; a thread of the client waits for it.

        The arrays are read when the call is sent: nothing may write to them before it is answered.

        Raises:
            ClosedError: after `close`.
        """
        return self._threads.submit(partial(self._submitted, line=callers_line()), require_call(call))

    @overload
    def as_completed(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> Iterator[tuple[int, ValueT]]: ...

    @overload
    def as_completed(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["return"]
    ) -> Iterator[tuple[int, ValueT | MatfnError]]: ...

    def as_completed(
        self,
        calls: Iterable[Invocation[Any]],
        *,
        progress: bool = False,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Iterator[tuple[int, Any]]:
        """Places and values of many calls, which are submitted at once, in the order in which the answers come.

        Args:
            calls: what `matfn.call` built; functions, shapes and dtypes may differ.
            progress: show a bar on stderr.
            on_error: raise the first error that comes, or return errors in the places of their values.

        Raises:
            MatfnError: the first error, unless errors are returned.
        """
        raises = is_raising(on_error)
        futures = [self.submit(call) for call in listed(calls, "as_completed")]
        return as_answered(futures, progress=progress, raises=raises)

    def _submitted(self, invocation: Invocation[ValueT], line: Line) -> ValueT:
        answer = self.ask(invocation)
        warn_if_approximate([(invocation.function, answer.certificates)], line)
        return answer.value


def as_answered(futures: Sequence[Future[Any]], *, progress: bool, raises: bool) -> Iterator[tuple[int, Any]]:
    """Places and results of futures in the order in which they come.

    Calls that nobody waits for any more, after an error or where the caller leaves, are not begun.
    """
    from concurrent.futures import as_completed

    places = {future: place for place, future in enumerate(futures)}
    try:
        with counted(len(futures), shown=progress) as show:
            for finished, future in enumerate(as_completed(places), 1):
                show(finished)
                yield places[future], _result(future, places[future], raises=raises)
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[Any], place: int, *, raises: bool) -> Any:
    """The result of a future, or its error with the place of its call."""
    try:
        return future.result()
    except MatfnError as error:
        if raises:
            raise error.of_call(place) from error.__cause__
        return error.of_call(place)
