"""The edge, HTTP around all routes: parses heads, checks keys, sends answers and problems.

    server --> Edge --(Exchange)--> routes of FastAPI, and the bare POST endpoints among them

Rules of this file:

- A request's head is parsed once, into a Head; nothing else reads headers.
- Every answer leaves through Exchange.send, which names the request and, where the body has not been read to its end,
  reads and throws away the rest first and closes the connection after. No route has to remember that.
- Every exception ends here as one problem document and one line in the log.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import lru_cache
from hmac import compare_digest
from http import HTTPStatus
from random import getrandbits
from typing import TYPE_CHECKING, Final

import structlog

from matfn import wire
from matfn._aligned import OFFSET_HEADER, offset_in
from matfn.segments import SEGMENT_HEADER
from matfn.triangles import TRIANGLE_HEADER
from matfn_service import body
from matfn_service.access_log import LEFT, Entry, access_log_of, line_of, plain_path
from matfn_service.body_reader import BodyReader, body_reader_of
from matfn_service.cors import Cors
from matfn_service.front_page import FILES_ROOT
from matfn_service.inference_problems import HTTP_HINT, inference_problem, told
from matfn_service.ledger import Kind
from matfn_service.problems import CallerLeft, Refusal, as_refusal, problem_headers, problem_of
from matfn_service.segments import parse_claim
from matfn_service.site import SITE_ROOT
from matfn_service.tracing import Request, enter_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from matfn_service.ledger import Account
    from matfn_service.segments import Claim, Segment, Segments
    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = [
    "Edge",
    "Exchange",
    "Head",
    "accepted_media",
    "is_inference",
    "media_of",
    "parse_head",
    "refuse_two_keys",
    "request_id_of",
    "require_identity",
]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_REQUEST_ID_BITS: Final = 128
_LENGTH_DIGITS: Final = 18
_JOINED_BYTES: Final = 1 << 15  # copying so much costs less than one more message
_OFFSET: Final = OFFSET_HEADER.encode()
_TRIANGLE: Final = TRIANGLE_HEADER.encode()
_UPLOS: Final[Mapping[bytes, wire.Uplo]] = {b"L": "L", b"U": "U"}
_SEGMENT: Final = SEGMENT_HEADER.encode()
_CALL_ROOT: Final = "/v1/"
_INFERENCE_ROOTS: Final = ("/v2/", "/inference.")  # over HTTP, and over gRPC
_INFERENCE: Final = b"inference-header-content-length"
_PROBES: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
_OPEN_PATHS: Final = _PROBES | {"/"}
_OPEN_ROOTS: Final = (FILES_ROOT, SITE_ROOT)
_MEDIA: Final = {
    "application/msgpack": wire.Media.MSGPACK,
    "application/x-msgpack": wire.Media.MSGPACK,
    "application/vnd.msgpack": wire.Media.MSGPACK,
    wire.Media.MSGPACK.problem: wire.Media.MSGPACK,
    "application/json": wire.Media.JSON,
    wire.Media.JSON.problem: wire.Media.JSON,
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """Head of a request.

    Attributes:
        method: the HTTP method.
        path: the path, decoded.
        request_id: the caller's X-Request-Id if it is a good one, else a new one.
        arrived: when the head had come, on the service's clock.
        key: the bearer token, if any.
        content_type: without parameters, in lower case; empty if there is none.
        encoding: the Content-Encoding in lower case.
        length: the declared length of the body; None if it is chunked or absent.
        offset: where in the body its first tensor begins, if the sender says so.
        claim: shared memory in which the body lies instead.
        triangle: the triangle that symmetric outputs are to be answered as; None: whole.
        inference: the Inference-Header-Content-Length as it was sent; empty if it was not.
        has_body: whether a body follows.
        expects_continue: whether the sender waits for a sign before it sends the body.
        answer: the format of the answer, problem or not.
    """

    method: str
    path: str
    request_id: str
    arrived: float
    key: bytes
    content_type: str
    encoding: str
    length: int | None
    offset: int
    claim: Claim | None
    triangle: wire.Uplo | None
    inference: bytes
    has_body: bool
    expects_continue: bool
    answer: wire.Media


def parse_head(scope: Scope, now: float) -> Head:
    """The head of an HTTP request; anything odd in it is taken as absent."""
    headers = dict(scope["headers"])
    declared = headers.get(b"content-length", b"")
    length = _length(declared) if declared.isdigit() else None
    claim = parse_claim(headers[_SEGMENT].decode("latin-1")) if _SEGMENT in headers else None
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    content_type, encoding, answer = _formats(
        headers.get(b"content-type", b""), headers.get(b"content-encoding", b""), headers.get(b"accept", b"")
    )
    to_inference, inference = is_inference(scope["path"]), headers.get(_INFERENCE, b"")
    if inference:  # two of them would be two places where the JSON ends; joined as HTTP joins them they are no number
        inference = b", ".join(value for name, value in scope["headers"] if name == _INFERENCE)
    return Head(
        method=scope["method"],
        path=scope["path"],
        request_id=_request_id(headers),
        arrived=now,
        key=key.strip() if scheme.lower() == b"bearer" else b"",
        content_type=content_type,
        encoding=encoding,
        length=length if claim is None else claim.length,
        claim=claim,
        triangle=None if to_inference else _UPLOS.get(headers.get(_TRIANGLE, b"")),
        inference=inference,
        offset=offset_in((inference if to_inference else headers.get(_OFFSET, b"")).decode("latin-1")),
        has_body=bool(length) or b"transfer-encoding" in headers,
        expects_continue=headers.get(b"expect", b"").lower() == b"100-continue",
        answer=wire.Media.JSON if to_inference else answer,
    )


def is_inference(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol."""
    return path.startswith(_INFERENCE_ROOTS) or path == "/v2"


@lru_cache(maxsize=64)  # callers come with the same few again and again
def _formats(content_type: bytes, encoding: bytes, accept: bytes) -> tuple[str, str, wire.Media]:
    """Content type and encoding of the body, and the format of the answer."""
    kind = _token(content_type)
    return kind, _token(encoding), accepted_media(accept.decode("latin-1"), _MEDIA.get(kind, wire.Media.JSON))


def _length(digits: bytes) -> int:
    """A declared length; one of more digits than any body has is as good as another."""
    return int(digits) if len(digits) <= _LENGTH_DIGITS else int(digits.lstrip(b"0")[: _LENGTH_DIGITS + 1] or b"0")


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's X-Request-Id if it is a good one, else a new one."""
    return _request_id(dict(headers))


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    named = headers.get(b"x-request-id", b"").decode("latin-1")
    return named if _REQUEST_ID.fullmatch(named) else f"{getrandbits(_REQUEST_ID_BITS):032x}"


def _token(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()


def accepted_media(accept: str, otherwise: wire.Media) -> wire.Media:
    """The format that an Accept header prefers; `otherwise` if it has no preference or knows neither."""
    best, chosen = 0.0, otherwise
    for entry in accept.split(","):
        name, _, parameters = entry.partition(";")
        media = otherwise if "*" in name else _MEDIA.get(name.strip().lower())
        quality = _quality(parameters)
        if media is not None and (quality > best or (quality == best and media is otherwise)):
            best, chosen = quality, media
    return chosen


def _quality(parameters: str) -> float:
    found = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters)
    return float(found[1]) if found else 1.0


def media_of(head: Head) -> wire.Media:
    """The format of the request's body.

    Raises:
        Refusal: `unsupported_media_type` if it is neither msgpack nor JSON, or is compressed.
    """
    require_identity(head)
    media = _MEDIA.get(head.content_type)
    if media is None:
        raise Refusal("unsupported_media_type", f"the body has Content-Type {head.content_type or 'nothing'}")
    return media


def require_identity(head: Head) -> None:
    """Refuses a compressed body.

    Raises:
        Refusal: `unsupported_media_type`.
    """
    if head.encoding not in {"", "identity"}:
        raise Refusal(
            "unsupported_media_type",
            f"the body has Content-Encoding {head.encoding}",
            "send it as it is: matrices of floats hardly compress",
        )


class Exchange:
    """One request and its answer, over the two channels of ASGI."""

    def __init__(
        self,
        head: Head,
        receive: Receive,
        send: Send,
        rest_seconds: Callable[[], float],
        reader: BodyReader | None,
        segments: Segments,
    ) -> None:
        self.head = head
        self.entry = Entry()
        self.headers: list[tuple[bytes, bytes]] = []  # of every answer, besides its own
        self.status: int | None = None
        self._reader = reader
        self._receive = receive
        self._send = send
        self._rest_seconds = rest_seconds
        self._segments = segments
        self._segment: Segment | None = None
        self._body_ended = not head.has_body

    async def receive(self) -> Message:
        """The next message from the caller."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_ended = True
        return message

    @property
    def key(self) -> str:
        """Name of the request's API key, once the edge has checked it; empty where there is none."""
        return self.entry.key

    @property
    def body_has_come(self) -> bool:
        """Whether the whole body is here already, as far as can be told."""
        return self._reader is not None and self._reader.has_come

    async def read(self, limit: int, account: Account) -> memoryview:
        """The whole body, of at most so many bytes, charged to the request's account (see `body.read`)."""
        if self.head.claim is not None:
            body.check_length(self.head.length, limit)
            self._segment = self._segments.find(self.head.claim)
            account.charge({Kind.BODIES: self.head.claim.length})
            content = await self._segment.read(self.head.claim.length, self.head.offset)
        else:
            content = await body.read(self.receive, self.head.length, limit, account, self.head.offset, self._reader)
            self._body_ended = True
        self.entry.received = content.nbytes
        return content

    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
        """Calls `on_leave` if the caller closes the connection, or its side of it; returns what ends the watch."""
        if self._reader is not None:
            self._reader.watch(on_leave)
            return self._reader.unwatch
        task = asyncio.get_running_loop().create_task(self._hang_up())
        task.add_done_callback(lambda _: on_leave())
        return task.cancel

    async def _hang_up(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def send(self, message: Message) -> None:
        """Sends a message; before an answer, reads and throws away the rest of the body."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            named = b"x-request-id", self.head.request_id.encode()
            headers = [*message.get("headers", []), *self.headers, named]
            if not self._body_ended:
                await self._throw_rest_away()
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        else:
            self.entry.sent += len(message.get("body", b""))
        await self._send(message)

    async def _throw_rest_away(self) -> None:
        # a sender that waits for "100 Continue" has not begun; reading would invite the body
        if not self.head.expects_continue:
            await body.discard(self.receive, self._rest_seconds())

    async def answer(
        self,
        status: int,
        content_type: str,
        buffers: Sequence[wire.Buffer],
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> int:
        """Sends a whole answer, its buffers as they lie in memory; returns the size of its body."""
        length = sum(len(buffer) for buffer in buffers)
        own = [(b"content-type", content_type.encode())]
        if offset := wire.offset_of(buffers):
            own.append((_OFFSET, b"%d" % offset))
        if length <= _JOINED_BYTES:
            buffers = [b"".join(buffers)]
        elif self._segment is not None and self._segment.holds(length):
            await self._segment.write(buffers)
            own.append((_SEGMENT, b"%d" % length))
            buffers = [b""]
        own.append((b"content-length", b"%d" % sum(len(buffer) for buffer in buffers)))
        if self._reader is not None and self._body_ended and self.head.method != "HEAD":
            self.status, self.entry.sent = status, length
            await self._reader.answer(
                status, [*own, *headers, *self.headers, (b"x-request-id", self.head.request_id.encode())], buffers
            )
            return length
        await self.send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
        last = len(buffers) - 1
        for number, buffer in enumerate(buffers):
            await self.send({"type": "http.response.body", "body": buffer, "more_body": number < last})
        return length

    async def refuse(self, refusal: Refusal) -> None:
        """Sends the problem document of a refusal."""
        if is_inference(self.head.path):
            problem = inference_problem(refusal, self.head.request_id, HTTP_HINT)
            twice = {"error": told(problem)}  # where its clients look for it
        else:
            problem, twice = problem_of(refusal, self.head.request_id), {}
        document = wire.encode_problem(problem, self.head.answer, twice)
        await self.answer(problem.status, self.head.answer.problem, [document], problem_headers(refusal))


class Edge:
    """The outermost layer: names requests, checks keys, and turns every exception into a problem document."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._segments = service.segments
        self.renew_keys(service.settings)
        self._statistics = service.statistics
        self._clock = service.clock
        self._rest_seconds = service.rest_seconds
        self._access = access_log_of(service.settings)
        self._cors = Cors.of(service.settings.cors_origins)
        self._telemetry = service.telemetry

    def renew_keys(self, settings: Settings) -> None:
        """Takes the keys of these settings from the next request on."""
        self._keys = [(key.get_secret_value().encode(), key.tenant.name) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or passes what is not HTTP on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head, reader = parse_head(scope, self._clock()), body_reader_of(scope)
        exchange = Exchange(head, receive, send, self._rest_seconds, reader, self._segments)
        routed = _routed(scope, exchange)
        try:
            self._begin(scope, exchange)
            if await self._answered_preflight(scope, exchange):
                return
            refuse_two_keys(scope["headers"])
            exchange.entry.key = self.authorize(exchange.head)
            await self._app(routed, exchange.receive, exchange.send)
        except CallerLeft:
            exchange.entry.outcomes = {LEFT: 1}
        except Exception as error:  # noqa: BLE001 - any exception becomes a problem document
            await self._refuse(exchange, error)
            error.with_traceback(None)  # its frames hold what was sent, and some of them the error
        finally:
            self.log_access(head, exchange.entry, exchange.status)
            if self._telemetry is not None:
                request = Request(routed, head, exchange.entry, exchange.status, self._clock())
                self._telemetry.end(exchange.entry.trace, request)

    def _begin(self, scope: Scope, exchange: Exchange) -> None:
        """Lets traces and other origins have their headers of the answer."""
        if self._telemetry is not None:
            trace = exchange.entry.trace = self._telemetry.begin(scope)
            enter_trace(trace)
            exchange.headers.extend(() if trace is None else trace.headers)
        if self._cors is not None:
            exchange.headers.extend(self._cors.of_answer(dict(scope["headers"])))

    async def _answered_preflight(self, scope: Scope, exchange: Exchange) -> bool:
        """Answers a browser's question whether a page of an allowed origin may send a request; it has no key."""
        granted = None if self._cors is None else self._cors.of_preflight(scope["method"], dict(scope["headers"]))
        if granted is None:
            return False
        exchange.headers = [*granted]
        await exchange.answer(HTTPStatus.OK, "text/plain", [b""])
        return True

    def log_access(self, head: Head, entry: Entry, status: int | None) -> None:
        """Writes the line of a request that has ended, if there is an access log."""
        if self._access is not None:
            self._access(line_of(head, entry, status, self._clock()))

    def authorize(self, head: Head) -> str:
        """The name of the request's key; empty where none is needed.

        Raises:
            Refusal: `unauthorized`.
        """
        if not self._keys or head.path in _OPEN_PATHS or head.path.startswith(_OPEN_ROOTS):
            return ""
        # every key is compared, each in constant time: how long it takes tells nothing
        known = [name for key, name in self._keys if compare_digest(head.key, key)]
        if not known:
            raise Refusal("unauthorized", "the request has no API key" if not head.key else "the API key is not known")
        return known[0]

    async def _refuse(self, exchange: Exchange, error: Exception) -> None:
        refusal, head = as_refusal(error), exchange.head
        exchange.entry.outcomes = {refusal.code: 1}
        if head.method == "OPTIONS" and refusal.allow is not None:
            await exchange.answer(HTTPStatus.OK, "text/plain", [b""], problem_headers(refusal))
            return
        # a probe that is told to wait asks again and again, and its answer is the whole story
        if head.path not in _PROBES or refusal is not error:
            self.count_failure(head, exchange.entry, refusal, error)
        if exchange.status is not None:
            raise error  # the answer has begun: nothing is left but to cut the connection
        try:
            await exchange.refuse(refusal)
        except CallerLeft:
            return

    def count_failure(self, head: Head, entry: Entry, refusal: Refusal, error: Exception) -> None:
        """Counts and logs a request that failed by this error, which means this refusal."""
        self._statistics.count_call(entry.function or head.path.removeprefix(_CALL_ROOT), refusal.code)
        fields = {
            "method": head.method,
            "path": plain_path(head.path),
            "code": refusal.code,
            "request_id": head.request_id,
            **({"key": entry.key} if entry.key else {}),
        }
        spent = round((self._clock() - head.arrived) * 1e3, 3)
        if refusal is not error and refusal.code == "internal":
            _log.error("request failed", **fields, ms=spent, exc_info=error)
        else:
            _log.warning("request failed", **fields, ms=spent, detail=refusal.detail)


def refuse_two_keys(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuses a request that others on its way may have judged by another key.

    Raises:
        Refusal: `malformed`.
    """
    if sum(name == b"authorization" for name, _ in headers) > 1:
        raise Refusal("malformed", "the request has more than one Authorization header")


def _routed(scope: Scope, exchange: Exchange) -> Scope:
    """The scope for the routes: HEAD is GET there, and servers drop the body of its answer."""
    method = "GET" if exchange.head.method == "HEAD" else exchange.head.method
    return {**scope, "method": method, "matfn.exchange": exchange}
