"""Certificates of answers from elsewhere, over any client."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from matfn._methods.async_claims import AsyncVerifyMethods
from matfn._methods.claims import VerifyMethods
from matfn.catalogue import unknown
from matfn.errors import Problem, Unverifiable
from matfn.schema import VERIFY

if TYPE_CHECKING:
    from typing import NoReturn

    from matfn.invocation import Invocation
    from matfn.wire import Certificate
    from matfn.with_info import Asker, AsyncAsker

__all__ = ["AsyncVerify", "Verify"]

ValueT = TypeVar("ValueT")


class _Named:
    """Explains a name that is no method; hidden from type checkers, which report it themselves."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Raises the error of a function whose answers cannot be verified."""
            detail, hint = unknown(VERIFY + name)
            raise Unverifiable(Problem.of("unknown_function", detail, hint=hint))


class Verify(_Named, VerifyMethods):
    """The functions of a client whose claimed answers can be verified.

    Args:
        client: answers one call.
    """

    def __init__(self, client: Asker) -> None:
        self._client = client

    def _certificates(self, invocation: Invocation[ValueT]) -> tuple[Certificate, ...]:
        return tuple(self._client.ask(invocation).certificates)


class AsyncVerify(_Named, AsyncVerifyMethods):
    """The functions of an asynchronous client whose claimed answers can be verified.

    Args:
        client: answers one call.
    """

    def __init__(self, client: AsyncAsker) -> None:
        self._client = client

    async def _certificates(self, invocation: Invocation[ValueT]) -> tuple[Certificate, ...]:
        return tuple((await self._client.ask(invocation)).certificates)
