"""Vector-Jacobian products over any client."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from matfn._methods.async_gradient_answers import AsyncGradientAnswerMethods
from matfn._methods.async_gradients import AsyncGradientMethods
from matfn._methods.gradient_answers import GradientAnswerMethods
from matfn._methods.gradients import GradientMethods
from matfn.answers import warn_if_approximate
from matfn.catalogue import unknown
from matfn.errors import NotDifferentiable, Problem
from matfn.schema import VJP

if TYPE_CHECKING:
    from typing import NoReturn

    from matfn.answers import Answer
    from matfn.invocation import Invocation
    from matfn.with_info import Asker, AsyncAsker

__all__ = ["AsyncVjp", "AsyncVjpAnswers", "Vjp", "VjpAnswers"]

ValueT = TypeVar("ValueT")


class _Named:
    """Explains a name that is no method; hidden from type checkers, which report it themselves."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Raises the error of a function that has no gradients."""
            detail, hint = unknown(VJP + name)
            raise NotDifferentiable(Problem.of("unknown_function", detail, hint=hint))


class Vjp(_Named, GradientMethods):
    """The functions of a client that have gradients, each returning them as a named tuple.

    Args:
        client: answers one call.
    """

    def __init__(self, client: Asker) -> None:
        self._client = client

    def _value(self, invocation: Invocation[ValueT]) -> ValueT:
        answer = self._client.ask(invocation)
        warn_if_approximate([(invocation.function, answer.certificates)])
        return answer.value


class VjpAnswers(_Named, GradientAnswerMethods):
    """The functions of a client that have gradients, each returning them with certificates and timing.

    Args:
        client: answers one call.
    """

    def __init__(self, client: Asker) -> None:
        self._client = client

    def _answer(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        return self._client.ask(invocation)


class AsyncVjp(_Named, AsyncGradientMethods):
    """The functions of an asynchronous client that have gradients, each returning them as a named tuple.

    Args:
        client: answers one call.
    """

    def __init__(self, client: AsyncAsker) -> None:
        self._client = client

    async def _value(self, invocation: Invocation[ValueT]) -> ValueT:
        answer = await self._client.ask(invocation)
        warn_if_approximate([(invocation.function, answer.certificates)])
        return answer.value


class AsyncVjpAnswers(_Named, AsyncGradientAnswerMethods):
    """The functions of an asynchronous client that have gradients, each returning them with certificates and timing.

    Args:
        client: answers one call.
    """

    def __init__(self, client: AsyncAsker) -> None:
        self._client = client

    async def _answer(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        return await self._client.ask(invocation)
