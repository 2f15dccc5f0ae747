"""The body of one request, received into memory of its size, and its answer, written at once: an ASGI extension.

Over ASGI alone a body comes in pieces, each copied three times and fetched by a turn of the loop while the socket is
not read. An answer leaves in pieces, each with a write of its own. And only a task that waits for the end of a
connection sees it.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from matfn_service.problems import CallerLeft

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Scope
    from uvicorn._types import HTTPScope
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from matfn.wire import Buffer

__all__ = ["BodyReader", "body_reader_of"]

_EXTENSION: Final = "matfn"
_READER: Final = "body_reader"
_NOWHERE: Final = memoryview(b"")


class BodyReader:
    """The state that the HTTP protocol and the application share for one request."""

    def __init__(self, cycle: RequestResponseCycle, flow: FlowControl) -> None:
        self._cycle = cycle
        self._flow = flow
        self._buffer: memoryview | None = None
        self._filled = 0
        self._on_leave: Callable[[], None] | None = None

    def offer(self, scope: HTTPScope) -> None:
        """Puts the body reader into the scope, where the application finds it."""
        scope["extensions"] = {_EXTENSION: {_READER: weakref.ref(self)}}  # it holds the scope

    def take(self, piece: bytes | bytearray) -> bool:
        """Copies a piece of the body into the reader's buffer; False while there is none."""
        if self._buffer is None:
            return False
        end = self._filled + len(piece)
        self._buffer[self._filled : end] = piece
        self._filled = end
        return True

    @property
    def space(self) -> memoryview:
        """Memory for the rest of the body; empty while nobody reads it."""
        return _NOWHERE if self._buffer is None else self._buffer[self._filled :]

    def skip(self, size: int) -> None:
        """Counts bytes that were received into `space`."""
        self._filled += size

    @property
    def is_over(self) -> bool:
        """Whether the request has been answered."""
        return self._cycle.response_complete

    @property
    def has_begun(self) -> bool:
        """Whether a part of the answer has been sent."""
        return self._cycle.response_started and not self.is_over

    def leave(self) -> None:
        """Ends the request after its connection was lost, and wakes its reader and its watcher."""
        if not self.is_over:
            self._cycle.disconnected = True
        self._cycle.message_event.set()
        self._told()

    def _told(self) -> None:
        if self._on_leave is not None:
            self._on_leave()

    @property
    def is_open(self) -> bool:
        """Whether the sender has begun its body, or will without being asked."""
        return not self._cycle.waiting_for_100_continue

    async def fill(self, buffer: memoryview) -> int:
        """Waits for the whole body; returns its length, at most what was declared.

        Raises:
            CallerLeft: the connection closed in the middle.
        """
        cycle = self._cycle
        self._buffer, begun, cycle.body = buffer, cycle.body, bytearray()
        self.take(begun)
        self._flow.resume_reading()
        try:
            while cycle.more_body and not cycle.disconnected:
                await cycle.message_event.wait()
                cycle.message_event.clear()
        finally:
            self._buffer = None
        if cycle.more_body:
            raise CallerLeft
        return self._filled

    @property
    def has_come(self) -> bool:
        """Whether the whole body is here."""
        return not self._cycle.more_body

    def watch(self, on_leave: Callable[[], None]) -> None:
        """Calls `on_leave` when the connection is lost; at once if it has been."""
        self._on_leave = on_leave
        if self._cycle.disconnected:
            self._told()

    def unwatch(self) -> None:
        """Ends the watch."""
        self._on_leave = None

    async def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], buffers: Sequence[Buffer]) -> None:
        """Writes a whole answer, head and body at once, until little of it waits; nothing if the connection is lost."""
        cycle = self._cycle
        if self._flow.write_paused and not cycle.disconnected:
            await self._flow.drain()
        if cycle.disconnected:
            return
        closing = () if cycle.keep_alive else ((b"connection", b"close"),)
        lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers, *closing)]
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.writelines([b"".join([STATUS_LINE[status], *lines, b"\r\n"]), *buffers])
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        await self._flow.drain()


def body_reader_of(scope: Scope) -> BodyReader | None:
    """The reader of a request; None behind other servers, and where the connection is lost already."""
    found: weakref.ref[BodyReader] | None = scope.get("extensions", {}).get(_EXTENSION, {}).get(_READER)
    return None if found is None else found()
