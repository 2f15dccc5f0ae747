"""HTTP below ASGI: bounds the bytes before a body, and answers invalid HTTP with a problem document.

The parser holds an unfinished header for as long as it grows, so two things are counted: what it has told of the head,
and what has come since it last told anything.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

import structlog
from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from matfn import wire
from matfn_service.body import REST_BYTES, REST_SECONDS
from matfn_service.body_reader import BodyReader
from matfn_service.edge import request_id_of
from matfn_service.outflow import Outflow, Pace
from matfn_service.problems import Refusal, problem_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

__all__ = ["MAX_HEAD_BYTES", "MOST_PIPELINED", "HttpProtocol"]

MAX_HEAD_BYTES: Final = 64 * 2**10
MOST_PIPELINED: Final = 64
_UPGRADE: Final = re.compile(rb"(\r\n)upgrade[ \t]*:", re.IGNORECASE)  # h2c: what curl --http2 and Java ask for
_NOWHERE: Final = memoryview(b"")
_PACE: Final = Pace()
_REASONS: Final = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}

_log = structlog.get_logger(__name__)


class _HeadTooLarge(Exception):  # noqa: N818 - only ever told to the parser, which stops at it
    """The request line, headers and trailers of a request are larger than a head may be."""


class _TooManyRequests(Exception):  # noqa: N818 - likewise
    """More requests are pipelined than a connection may have."""


def _uncounted() -> None:
    """Counts nothing."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds, and with problem documents for invalid requests."""

    def __init__(
        self, *arguments: Any, pace: Pace = _PACE, on_unread: Callable[[], None] = _uncounted, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._pace = pace
        self._on_unread = on_unread
        self._outflow: Outflow | None = None
        self._head = 0
        self._untold = 0
        self._discarded: int | None = None
        self._readers: list[BodyReader] = []
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
        reader = BodyReader(self.cycle, self.flow)
        reader.offer(self.scope)
        self._readers = [*(one for one in self._readers if not one.is_over), reader]
        if len(self._readers) > MOST_PIPELINED:
            raise _TooManyRequests

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._untold = 0
        if not self._readers or not self._readers[-1].take(body):
            super().on_body(body)

    def space(self) -> memoryview:
        """Memory for the rest of the current body; empty unless a reader waits with room for all of it."""
        is_open = self._in_message and self._readers and self._discarded is None
        return self._readers[-1].space if is_open else _NOWHERE

    def received_in_place(self, size: int) -> None:
        """Counts bytes that were received into `space`."""
        self._untold = 0
        self._readers[-1].skip(size)

    def end_message(self) -> None:
        """Ends a body whose end the parser has not seen, and replaces the parser, which still waits for it."""
        self.on_message_complete()
        if self.parser is not None:  # it is gone with the connection
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._in_message = False
        super().on_message_complete()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """The connection is there."""
        super().connection_made(transport)
        self._outflow = Outflow(transport, self._pace, self._drop_unread)

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._watch_outflow()

    def on_response_complete(self) -> None:
        """An answer has been written."""
        super().on_response_complete()
        self._watch_outflow()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        if self._outflow is not None:
            self._outflow.end()
        self._end_requests()

    def _watch_outflow(self) -> None:
        if self._outflow is not None:
            self._outflow.written()

    def _drop_unread(self) -> None:
        """Counts a connection that was dropped because its answers were not read."""
        self._on_unread()
        _log.warning("answers not read", idle_seconds=self._pace.idle, rate=self._pace.rate)

    def _end_requests(self) -> None:
        """Ends all requests of a lost connection; uvicorn ends the last only."""
        for reader in self._readers:
            reader.leave()

    def _grow(self, size: int) -> None:
        self._untold = 0
        self._head += size
        if self._head > MAX_HEAD_BYTES:
            raise _HeadTooLarge

    def send_400_response(self, msg: str) -> None:
        """Answers a request that could not be parsed; called while the parser's error is handled."""
        error = sys.exception()
        cause = None if error is None else error.__context__
        if isinstance(cause, _HeadTooLarge):
            self._refuse(_too_large())
        elif isinstance(cause, _TooManyRequests):
            self._refuse(_too_many())
        else:
            self._refuse(Refusal("malformed", f"this is no valid HTTP request: {error or msg}"))

    def _refuse(self, refusal: Refusal) -> None:
        """Sends a problem document, closes the sending side, and discards what is received for a while.

        Closing at once would reset the connection of a sender in the middle of its request, and the answer with it.
        """
        self._discarded = 0
        begun = any(reader.has_begun for reader in self._readers)
        self._end_requests()
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


def _without_upgrade(data: bytes) -> bytes:
    """The data without a request for another protocol in its head, at which the parser would lose the body."""
    end = data.find(b"\r\n\r\n")
    found = _UPGRADE.search(data, 0, len(data) if end < 0 else end)
    return data if found is None else b"%bX-%b" % (data[: found.end(1)], data[found.end(1) + 2 :])


def _too_many() -> Refusal:
    detail = f"more than {MOST_PIPELINED} requests on one connection wait for their answers"
    return Refusal("malformed", detail, "wait for answers, open more connections, or send many calls in one request")


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
