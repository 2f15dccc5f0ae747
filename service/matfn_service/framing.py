"""HTTP below ASGI: a bound on what comes before a body, and a problem document for what is no HTTP at all.

The parser holds an unfinished header for as long as it grows, so two things are counted: what it has told of the head,
and what has come since it last told anything.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from matfn import wire
from matfn_service.body import REST_BYTES, REST_SECONDS
from matfn_service.intake import Intake
from matfn_service.problems import Refusal, problem_of
from matfn_service.protocol import request_id_of

if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAX_HEAD_BYTES", "Protocol"]

MAX_HEAD_BYTES: Final = 64 * 2**10
_UPGRADE: Final = re.compile(rb"(\r\n)upgrade[ \t]*:", re.IGNORECASE)  # h2c: what curl --http2 and Java ask for
_REASONS: Final = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}

_log = structlog.get_logger(__name__)


class _HeadTooLarge(Exception):  # noqa: N818 - only ever told to the parser, which stops at it
    """The request line, headers and trailers of a request are larger than a head may be."""


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds and with our own answers where no request could be made out."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head = 0
        self._untold = 0
        self._discarded: int | None = None
        self._intake: Intake | None = None
        self._in_message = False

    def data_received(self, data: bytes) -> None:
        """Parses what has come; after a refusal, throws it away."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > REST_BYTES:
                self.transport.close()
            return
        self._untold += len(data)
        super().data_received(data if self._in_message else _without_upgrade(data))
        if self._untold > MAX_HEAD_BYTES and self._discarded is None:
            self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """A new request begins."""
        self._head = self._untold = 0
        self._in_message = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the path."""
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or trailer."""
        self._grow(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        super().on_headers_complete()
        self._intake = Intake(self.cycle, self.flow)
        self._intake.offer(self.scope)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._untold = 0
        if self._intake is None or not self._intake.take(body):
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._in_message = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        if self._intake is not None:
            self._intake.leave()

    def _grow(self, size: int) -> None:
        self._untold = 0
        self._head += size
        if self._head > MAX_HEAD_BYTES:
            raise _HeadTooLarge

    def send_400_response(self, msg: str) -> None:
        """Answers a request that could not be parsed; called while the parser's error is handled."""
        error = sys.exception()
        if error is not None and isinstance(error.__context__, _HeadTooLarge):
            self._refuse(_too_large())
        else:
            self._refuse(Refusal("malformed", f"this is no valid HTTP request: {error or msg}"))

    def _refuse(self, refusal: Refusal) -> None:
        """Sends a problem document, ends our side, and for a while throws away what comes.

        Closing at once would reset the connection of a sender in the middle of its request, and the answer with it.
        """
        self._discarded = 0
        begun = self._end_cycle()
        request_id = request_id_of(self.headers or [])
        _log.warning("request refused", code=refusal.code, request_id=request_id, detail=refusal.detail)
        if begun:
            self.transport.close()
            return
        self.transport.write(_answer(refusal, request_id))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(REST_SECONDS, self.transport.close)

    def _end_cycle(self) -> bool:
        """Tells the request under way that its caller is gone; returns whether a part of its answer is."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        cycle.disconnected = True
        cycle.message_event.set()
        if self._intake is not None:
            self._intake.leave()
        return cycle.response_started


def _without_upgrade(data: bytes) -> bytes:
    """Data that begins with a head, which no longer asks for another protocol: the parser would lose the body."""
    end = data.find(b"\r\n\r\n")
    found = _UPGRADE.search(data, 0, len(data) if end < 0 else end)
    return data if found is None else b"%bX-%b" % (data[: found.end(1)], data[found.end(1) + 2 :])


def _too_large() -> Refusal:
    detail = f"the request line and the headers take more than {MAX_HEAD_BYTES} bytes"
    return Refusal("malformed", detail, "send fewer or shorter headers", status=431)


def _answer(refusal: Refusal, request_id: str) -> bytes:
    problem = problem_of(refusal, request_id)
    document = wire.encode_problem(problem, wire.Media.JSON)
    lines = [
        b"HTTP/1.1 %d %b" % (problem.status, _REASONS[problem.status]),
        b"content-type: " + wire.Media.JSON.problem.encode(),
        b"content-length: %d" % len(document),
        b"x-request-id: " + request_id.encode(),
        b"connection: close",
    ]
    return b"\r\n".join([*lines, b"", bytes(document)])
