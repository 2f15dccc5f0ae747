"""The body of one request, straight from the parser into memory of its own, and word of its sender's leaving.

An ASGI extension of our protocol. Over ASGI alone a body comes in pieces, each copied three times and fetched by a turn
of the loop while the socket is not read, and only a task of its own can wait for the end of a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn_service.problems import CallerLeft

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope
    from uvicorn._types import HTTPScope
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["Intake", "intake_of"]

_EXTENSION: Final = "matfn"
_INTAKE: Final = "intake"


class Intake:
    """What the protocol and the reader of one request share."""

    def __init__(self, cycle: RequestResponseCycle, flow: FlowControl) -> None:
        self._cycle = cycle
        self._flow = flow
        self._buffer: memoryview | None = None
        self._filled = 0
        self._on_leave: Callable[[], None] | None = None

    def offer(self, scope: HTTPScope) -> None:
        """Makes it known to the application that the scope is given to."""
        scope["extensions"] = {_EXTENSION: {_INTAKE: self}}

    def take(self, piece: bytes | bytearray) -> bool:
        """Puts a piece of the body where the reader wants it; False while there is none."""
        if self._buffer is None:
            return False
        end = self._filled + len(piece)
        self._buffer[self._filled : end] = piece
        self._filled = end
        return True

    @property
    def is_over(self) -> bool:
        """Whether the request has been answered."""
        return self._cycle.response_complete

    @property
    def has_begun(self) -> bool:
        """Whether a part of the answer has been sent."""
        return self._cycle.response_started and not self.is_over

    def leave(self) -> None:
        """Ends the request: its connection is lost, which whoever reads or watches is told."""
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

    def watch(self, on_leave: Callable[[], None] | None) -> None:
        """Calls `on_leave` when the connection is lost, at once if it is; None ends the watch."""
        self._on_leave = on_leave
        if self._cycle.disconnected:
            self._told()


def intake_of(scope: Scope) -> Intake | None:
    """The intake of a request; None behind other servers."""
    found: Intake | None = scope.get("extensions", {}).get(_EXTENSION, {}).get(_INTAKE)
    return found
