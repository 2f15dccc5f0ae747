"""HTTP below ASGI: bounds what comes before a body, and answers invalid HTTP with a problem document.

- A head is bounded in bytes as they are received and in time. The parser holds an unfinished header for as long as it
  grows, so what has come since it last told anything is bounded as well.
- What a request means does not depend on how its bytes are cut into packets.
- Requests that precede an invalid one on its connection are answered before it is.
- Nobody is upgraded to another protocol. The parser ends a message at such a wish, so another one reads its body.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import structlog
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from matfn import wire
from matfn_service.body import REST_BYTES, REST_SECONDS
from matfn_service.body_reader import BodyReader
from matfn_service.heads import request_id_of
from matfn_service.outflow import Outflow, Pace
from matfn_service.problems import Refusal, problem_headers, problem_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["HEAD_SECONDS", "MAX_HEAD_BYTES", "MOST_PIPELINED", "HttpProtocol"]

MAX_HEAD_BYTES: Final = 64 * 2**10
HEAD_SECONDS: Final = 10.0
MOST_PIPELINED: Final = 64
_HEADER_BYTES: Final = 3  # the least that a header takes besides its name and value
_END_OF_HEAD: Final = b"\r\n\r\n"
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_CHUNKED: Final = b"chunked"
_MAJOR: Final = "1"
_WITHOUT_HOST: Final = "1.0"
_PREFACE: Final = frozenset({"Pause on PRI/Upgrade", "Expected HTTP/2 Connection Preface"})
"""The parser's words for HTTP/2 with prior knowledge."""
_TOO_LONG: Final = "Content-Length overflow"  # the parser's words for more than 64 bits
_NOWHERE: Final = memoryview(b"")
_PACE: Final = Pace()
_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    413: b"Content Too Large",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}

_log = structlog.get_logger(__name__)


def _uncounted(*what: str) -> None:
    """Counts nothing."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds, and with problem documents for invalid requests.

    Args:
        arguments: uvicorn's.
        most_connections: how many connections the server may have, with this one.
        pace: how fast answers must be read.
        on_unread: called when a connection is dropped because they were not.
        on_refused: called with the code of a problem that this protocol answers with, before any application.
        named: uvicorn's.
    """

    def __init__(
        self,
        *arguments: Any,
        most_connections: int = sys.maxsize,
        pace: Pace = _PACE,
        on_unread: Callable[[], None] = _uncounted,
        on_refused: Callable[[str], None] = _uncounted,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self.parser = self._new_parser()
        self._most_connections = most_connections
        self._pace = pace
        self._on_unread = on_unread
        self._on_refused = on_refused
        self._outflow: Outflow | None = None
        self._head = 0
        self._received_of_head = 0
        self._tail = b""
        self._untold = 0
        self._late: asyncio.TimerHandle | None = None
        self._discarded: int | None = None
        self._refused: bytes | None = None
        self._readers: list[BodyReader] = []
        self._current: BodyReader | None = None
        self._in_message = False
        self._in_head = True
        self._has_upgrade = False
        self._is_repeating = False

    def _new_parser(self) -> HttpRequestParser:
        """A parser that reads on behind the last request, and leaves versions to `_check_version`."""
        parser = HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True, lenient_version=True)
        return parser

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """The connection is there; one too many is told so and closed, a silent one is closed after a while."""
        super().connection_made(transport)
        if len(self.connections) > self._most_connections:
            self._discarded = 0
            refusal = _too_many_connections(self._most_connections)
            self._on_refused(refusal.code)
            transport.write(_answer(refusal, request_id_of([])))
            transport.close()
            return
        self._outflow = Outflow(transport, self._pace, self._drop_unread)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Parses what has come; after a refusal, throws it away."""
        if self._discarded is not None:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._untold += len(data)
        if self._in_head and self._counted_head(data) > MAX_HEAD_BYTES:
            self._refuse(_too_large())
            return
        self._feed(data)
        if self._discarded is None and self._untold > MAX_HEAD_BYTES:
            self._refuse(_too_large())
        if self._discarded is None and self._late is None and self._is_in_the_middle_of_a_head:
            self._late = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _discard(self, size: int) -> None:
        self._discarded = (self._discarded or 0) + size
        if self._discarded > REST_BYTES and self._refused is None:
            self.transport.close()

    def _counted_head(self, data: bytes) -> int:
        """Bytes of the current head with those in `data`."""
        joined = self._tail + data if self._tail else data
        end = joined.find(_END_OF_HEAD)
        self._received_of_head += len(data) if end < 0 else end + len(_END_OF_HEAD) - len(self._tail)
        self._tail = joined[1 - len(_END_OF_HEAD) :] if end < 0 else b""
        return self._received_of_head

    @property
    def _is_in_the_middle_of_a_head(self) -> bool:
        return self._in_head and (self._in_message or self._received_of_head > 0)

    def _head_is_late(self) -> None:
        self._late = None
        self._refuse(Refusal("malformed", f"the head had not come after {HEAD_SECONDS:g} s", status=408))

    def _feed(self, data: bytes) -> None:
        """Parses data, with the messages behind a wish for another protocol."""
        while data and self.parser is not None:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._ignore_upgrade()
            except HttpParserError as error:
                self._refuse(_reason(error))
                return
            else:
                return

    def _ignore_upgrade(self) -> None:
        """Has another parser read the body of a message whose head asked for another protocol."""
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING]
        version = self.parser.get_http_version().encode()
        self.parser = self._new_parser()
        self._has_upgrade = False
        self._is_repeating = True
        self.parser.feed_data(b"".join([b"POST / HTTP/%b\r\n" % version, *lines, b"\r\n"]))
        self._is_repeating = False

    def on_message_begin(self) -> None:
        """A new request begins."""
        if self._is_repeating:
            return
        self._head = self._untold = 0
        self._in_message = self._in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the path."""
        if self._is_repeating:
            return
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is none."""
        if self._is_repeating:
            return
        self._grow(len(name) + len(value) + _HEADER_BYTES)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._is_repeating:
            return
        self._in_head = False
        self._in_time()
        _check_head(self.headers, self.parser.get_http_version())
        self._readers = [one for one in self._readers if not one.is_over]
        if len(self._readers) >= MOST_PIPELINED:
            raise _too_many()
        self._has_upgrade = self.parser.should_upgrade()
        try:
            super().on_headers_complete()
        except (HttpParserError, AttributeError, UnicodeError):
            raise Refusal("malformed", "the target of the request is no path and no URL of this server") from None
        self._current = BodyReader(self.cycle, self.flow)
        self._current.offer(self.scope)
        self._readers.append(self._current)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

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
            self.parser = self._new_parser()

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._has_upgrade:  # says a parser that has not looked for a body
            return
        self._current = None
        self._in_message = False
        self._in_head = True
        self._received_of_head, self._tail = 0, b""
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._watch_outflow()

    def on_response_complete(self) -> None:
        """A request is answered."""
        super().on_response_complete()
        self._watch_outflow()
        if self._refused is not None and not self.transport.is_closing() and not self._unanswered:
            self._tell_refused()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended; nothing refers to it from itself, so its memory goes without a whole collection."""
        self._in_time()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._outflow is not None:
            self._outflow.end()
            self._outflow = None
        self._end_requests()
        self._readers.clear()
        self.pipeline.clear()
        self._current = self.cycle = None  # type: ignore[assignment] # as uvicorn begins

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
            raise _too_large()

    @property
    def _unanswered(self) -> list[BodyReader]:
        return [reader for reader in self._readers if not reader.is_over]

    def _refuse(self, refusal: Refusal) -> None:
        """Answers the current request with a problem document, once those before it are answered; parses no more."""
        self._in_time()
        self._discarded = 0
        request_id = request_id_of(self.headers or [])
        _log.warning("request refused", code=refusal.code, request_id=request_id, detail=refusal.detail)
        self._on_refused(refusal.code)
        if self._end_current():
            self.transport.close()
            return
        self._refused = _answer(refusal, request_id)
        if not self._unanswered:
            self._tell_refused()

    def _end_current(self) -> bool:
        """Ends the request whose body is being received; returns whether some of its answer was sent."""
        current, self._current = self._current, None
        if current is None:
            return False
        begun = current.has_begun or current.is_over
        self._readers.remove(current)
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()
        current.leave()
        return begun

    def _tell_refused(self) -> None:
        """Sends the problem document, closes the sending side, and discards what is received for a while.

        Closing at once would reset the connection of a sender in the middle of its request, and the answer with it.
        """
        document, self._refused = self._refused, None
        self._discarded = 0
        self.transport.write(document or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(REST_SECONDS, self.transport.close)


def _check_head(headers: Sequence[tuple[bytes, bytes]], version: str) -> None:
    """Raises the refusal of a head that is parsed but not valid, or asks for what no one here does."""
    _check_version(version)
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts > 1 or (not hosts and version != _WITHOUT_HOST):
        raise Refusal("malformed", f"the request has {hosts} Host headers; HTTP/1.1 requires one")
    if b"transfer-encoding" in names:
        _check_codings(b",".join(value for name, value in headers if name == b"transfer-encoding"))


def _check_version(version: str) -> None:
    """Raises the refusal of another major version; a higher minor one is read as HTTP/1.1 (RFC 9110, section 2.5)."""
    if version.partition(".")[0] != _MAJOR:
        raise _other_version(f"HTTP/{version}")


def _other_version(named: str) -> Refusal:
    return Refusal("malformed", f"the request is in {named}; the server speaks HTTP/1.1", "send HTTP/1.1", status=505)


def _check_codings(value: bytes) -> None:
    *others, last = [coding.strip().lower() for coding in value.split(b",")]
    if others and last == _CHUNKED and _CHUNKED not in others:
        raise Refusal(
            "malformed",
            "the body has a transfer coding besides chunked",
            "send it as it is: matrices of floats hardly compress",
            status=501,
        )
    if others or last != _CHUNKED:
        raise Refusal("malformed", "the transfer coding of a body is chunked, once, or there is none")


def _reason(error: HttpParserError) -> Refusal:
    """The refusal that tells an error of the parser, or of a call from it."""
    cause = error.__context__
    if isinstance(cause, Refusal):
        return cause
    if str(error) == _TOO_LONG:
        return Refusal("too_large", "the declared length of the body has more than 64 bits")
    if str(error) in _PREFACE:
        return _other_version("HTTP/2")
    if cause is not None:
        _log.error("a request could not be begun", exc_info=cause)
    return Refusal("malformed", f"this is no valid HTTP request: {error}")


def _too_many_connections(most: int) -> Refusal:
    detail = f"the server has {most} connections (MATFN_MAX_CONNECTIONS)"
    return Refusal(
        "busy", detail, "close idle connections, or send many calls in one request", status=503, retry_after=1.0
    )


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
        *(b"%b: %b" % header for header in problem_headers(refusal)),
    ]
    return b"\r\n".join([*lines, b"", bytes(document)])
