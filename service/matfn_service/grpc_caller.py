"""A request over gRPC: how its message is read and charged, and how its answer is written within a time.

gRPC says neither how large a message will be nor how much of an answer has been read.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from matfn_service.access_log import Entry
from matfn_service.cutting import cut
from matfn_service.ledger import Kind
from matfn_service.problems import CallerLeft, Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from matfn import wire
    from matfn_service.heads import Head
    from matfn_service.ledger import Account
    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = ["RpcCaller", "longest_write"]

_LARGEST: Final = 2**31 - 1  # of a message, by Protocol Buffers
_SOON: Final = 0.25  # seconds in which most messages come; what comes in it is bounded by the network
_TWICE: Final = 2  # a message lies in memory as it came, and its numbers as workers see them
_SLOWEST: Final = 2**20  # bytes a second: an answer that is hardly read looks like one that is not read at all

_log = structlog.get_logger(__name__)


def longest_write(settings: Settings, size: int) -> float:
    """Seconds in which the caller must have read an answer of this size, all but the window of its stream.

    Nobody tells whether it reads, so that this is bounded whatever the settings are.
    """
    idle, rate = settings.write_idle_seconds, settings.write_rate
    seconds = idle + size / max(rate, _SLOWEST) if rate else math.inf
    return min(seconds, max(idle, settings.body_seconds))


class RpcCaller:
    """One request over gRPC, and the way back to its caller.

    Args:
        context: grpc's, of the request.
        scope: what ASGI would tell of it.
        head: of the request.
        service: which it asks.
        port: on which it came.
    """

    def __init__(self, context: Any, scope: dict[str, Any], head: Head, service: Service, port: int) -> None:
        self.head = head
        self.scope = scope
        self.entry = Entry()
        self.seconds: float | None = context.time_remaining()
        self.status: int | None = None
        self.body_has_come = False
        self._context = context
        self._service = service
        self._cut = partial(cut, context.peer(), port)
        self._left = asyncio.Event()
        self._on_leave: Callable[[], None] | None = None

    @property
    def key(self) -> str:
        """Name of the request's API key."""
        return self.entry.key

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every answer: the request's name, and that of its span."""
        trace = self.entry.trace
        named = [] if trace is None else [(name.decode(), value.decode()) for name, value in trace.headers]
        return ("x-request-id", self.head.request_id), *named

    def leave(self) -> None:
        """The caller has given up its request."""
        self._left.set()
        if self._on_leave is not None:
            self._on_leave()

    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
        """Calls `on_leave` if the caller gives up; at once if it has."""
        self._on_leave = on_leave
        if self._left.is_set():
            on_leave()
        return self._unwatch

    def _unwatch(self) -> None:
        self._on_leave = None

    async def read(self, limit: int, account: Account) -> memoryview:
        """The message; one that takes long is charged as if it had the largest size that grpc takes."""
        reading = asyncio.ensure_future(self._context.read())
        try:
            await asyncio.wait([reading], timeout=_SOON)
            if not reading.done():
                account.charge({Kind.ARRIVING: self._service.settings.grpc_message_bytes})
            message = await self._unless_left(reading)
        finally:
            reading.cancel()
        if not isinstance(message, bytes):
            await self._require_left()
        if len(message) > limit:
            raise Refusal(
                "too_large",
                f"the message has {len(message)} bytes; one that asks this has {limit} at most",
                "a message that only names a model is short",
            )
        account.release(Kind.ARRIVING)
        account.charge({Kind.BODIES: _TWICE * len(message)})
        self.entry.received = len(message)
        return memoryview(message)

    async def _unless_left(self, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except asyncio.CancelledError:
            if self._left.is_set():
                raise CallerLeft from None
            raise

    async def _require_left(self) -> None:
        """Waits to be told that the caller has left, or that its message was too large for grpc, which has said so.

        Raises:
            CallerLeft: if it did.
            Refusal: `malformed` if it has sent no message.
        """
        try:
            async with asyncio.timeout(_SOON):
                await self._left.wait()
        except TimeoutError:
            raise Refusal("malformed", "the request has no message") from None
        raise CallerLeft

    async def answer(
        self,
        status: int,
        content_type: str,
        buffers: Sequence[wire.Buffer],
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> int:
        """Sends a message, and waits until the transport has taken it; returns its size."""
        del content_type, headers
        message = bytes(buffers[0])
        if len(message) > _LARGEST:
            raise Refusal("too_large", f"the answer has {len(message)} bytes; a message has {_LARGEST} at most")
        self._context.set_trailing_metadata(self.trailers)
        await self._written(message)
        self.status, self.entry.sent = status, len(message)
        return len(message)

    async def _written(self, message: bytes) -> None:
        """Writes a message; one that is not read in time holds memory, and so its charge, until the connection ends."""
        writing = asyncio.ensure_future(self._context.write(message))
        await asyncio.wait([writing], timeout=longest_write(self._service.settings, len(message)))
        if not writing.done():
            self._drop(len(message))
        try:
            await self._unless_left(writing)
        except Exception:  # noqa: BLE001 - writing fails where the call or its connection has ended, and there alone
            raise CallerLeft from None

    def _drop(self, size: int) -> None:
        self._service.statistics.count_unread()
        _log.warning("answer not read", bytes=size, is_cut=self._cut())
