"""The functions with all that is known of their answers, over any client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from matfn._methods.answers import AnswerMethods
from matfn._methods.async_answers import AsyncAnswerMethods

if TYPE_CHECKING:
    from matfn.answers import Answer
    from matfn.invocation import Invocation

__all__ = ["Asker", "AsyncAsker", "AsyncWithInfo", "WithInfo"]

ValueT = TypeVar("ValueT")


class Asker(Protocol):
    """A client that answers one call at a time."""

    def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer with its certificates."""


class WithInfo(AnswerMethods):
    """The functions of a client, each answering with certificates and timing."""

    def __init__(self, client: Asker) -> None:
        self._client = client

    def _answer(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        return self._client.ask(invocation)


class AsyncAsker(Protocol):
    """An asynchronous client that answers one call at a time."""

    async def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer with its certificates."""


class AsyncWithInfo(AsyncAnswerMethods):
    """The functions of an asynchronous client, each answering with certificates and timing."""

    def __init__(self, client: AsyncAsker) -> None:
        self._client = client

    async def _answer(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        return await self._client.ask(invocation)
