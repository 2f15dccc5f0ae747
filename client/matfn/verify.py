"""Certificates of answers from elsewhere, over any client."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from matfn._methods.async_claims import AsyncVerifyMethods
from matfn._methods.claims import VerifyMethods

if TYPE_CHECKING:
    from matfn.invocation import Invocation
    from matfn.wire import Certificate
    from matfn.with_info import Asker, AsyncAsker

__all__ = ["AsyncVerify", "Verify"]

ValueT = TypeVar("ValueT")


class Verify(VerifyMethods):
    """The functions of a client whose claimed answers can be verified.

    Args:
        client: answers one call.
    """

    def __init__(self, client: Asker) -> None:
        self._client = client

    def _certificates(self, invocation: Invocation[ValueT]) -> tuple[Certificate, ...]:
        return tuple(self._client.ask(invocation).certificates)


class AsyncVerify(AsyncVerifyMethods):
    """The functions of an asynchronous client whose claimed answers can be verified.

    Args:
        client: answers one call.
    """

    def __init__(self, client: AsyncAsker) -> None:
        self._client = client

    async def _certificates(self, invocation: Invocation[ValueT]) -> tuple[Certificate, ...]:
        return tuple((await self._client.ask(invocation)).certificates)
