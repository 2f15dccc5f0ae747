"""All functions with certificates and timing, over any client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from matfn._methods.answers import AnswerMethods
from matfn._methods.async_answers import AsyncAnswerMethods
from matfn.invocation import require_call
from matfn.vjp import AsyncVjpAnswers, VjpAnswers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from concurrent.futures import Future

    from matfn.answers import Answer
    from matfn.errors import MatfnError
    from matfn.invocation import Invocation
    from matfn.map_run import OnError
    from matfn.submission import Threads

__all__ = ["Asker", "AsyncAsker", "AsyncWithInfo", "WithInfo"]

ValueT = TypeVar("ValueT")


class Asker(Protocol):
    """A client that answers one call at a time."""

    def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer with its certificates."""


class WithInfo(AnswerMethods):
    """The functions of a client, each answering with certificates and timing.

    Args:
        client: answers one call.
        answers: answers many; takes the calls, whether to show progress, and what to do on an error.
        threads: those of the client.
    """

    def __init__(
        self,
        client: Asker,
        answers: Callable[[Iterable[Invocation[Any]], bool, OnError], list[Any]],
        threads: Threads,
    ) -> None:
        self._client = client
        self._answers = answers
        self._threads = threads

    def submit(self, call: Invocation[ValueT]) -> Future[Answer[ValueT]]:
        """The future answer to a call that `matfn.call` built; as `submit` of the client, without warnings.

        Raises:
            ClosedError: after the client's `close`.
        """
        return self._threads.submit(self._client.ask, require_call(call))

    @property
    def vjp(self) -> VjpAnswers:
        """Vector-Jacobian products of all functions that have gradients, with certificates and timing."""
        return VjpAnswers(self._client)

    @overload
    def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[Answer[ValueT]]: ...

    @overload
    def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["return"]
    ) -> list[Answer[ValueT] | MatfnError]: ...

    def map(
        self,
        calls: Iterable[Invocation[Any]],
        *,
        progress: bool = False,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """Answers to many calls, in their order; as `map` of the client, with certificates and without warnings.

        Args:
            calls: what `matfn.call` built; functions, shapes and dtypes may differ.
            progress: show a bar on stderr.
            on_error: raise the first error, or return errors in the places of their answers.

        Raises:
            MatfnError: the first error, unless errors are returned.
        """
        return self._answers(calls, progress, on_error)

    def _answer(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        return self._client.ask(invocation)


class AsyncAsker(Protocol):
    """An asynchronous client that answers one call at a time."""

    async def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer with its certificates."""


class AsyncWithInfo(AsyncAnswerMethods):
    """The functions of an asynchronous client, each answering with certificates and timing.

    Args:
        client: answers one call.
        answers: answers many; takes the calls, whether to show progress, and what to do on an error.
    """

    def __init__(
        self,
        client: AsyncAsker,
        answers: Callable[[Iterable[Invocation[Any]], bool, OnError], Awaitable[list[Any]]],
    ) -> None:
        self._client = client
        self._answers = answers

    @property
    def vjp(self) -> AsyncVjpAnswers:
        """Vector-Jacobian products of all functions that have gradients, with certificates and timing."""
        return AsyncVjpAnswers(self._client)

    @overload
    async def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[Answer[ValueT]]: ...

    @overload
    async def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["return"]
    ) -> list[Answer[ValueT] | MatfnError]: ...

    async def map(
        self,
        calls: Iterable[Invocation[Any]],
        *,
        progress: bool = False,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """Answers to many calls, in their order; as `map` of the client, with certificates and without warnings.

        Args:
            calls: what `matfn.call` built; functions, shapes and dtypes may differ.
            progress: show a bar on stderr.
            on_error: raise the first error, or return errors in the places of their answers.

        Raises:
            MatfnError: the first error, unless errors are returned.
        """
        return await self._answers(calls, progress, on_error)

    async def _answer(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        return await self._client.ask(invocation)
