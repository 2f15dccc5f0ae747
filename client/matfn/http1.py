"""HTTP/1.1 as a client needs it, without I/O: a request to bytes, received bytes to a response.

Rules of this file:
- The caller receives into `parser.buffer()` and reports how much came; no bytes are passed in.
- Of a body whose length is announced, everything after what came with the head is received where it stays.
- `reusable` says whether the connection may carry another request; anything doubtful says no.
- An answer that breaks the protocol is a ProtocolError; one that stops in the middle is a TransportError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from matfn._aligned import OFFSET_HEADER, offset_in, received
from matfn.errors import ProtocolError, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matfn.endpoint import Endpoint
    from matfn.proxies import Proxy
    from matfn.wire import Buffer

__all__ = ["Request", "Response", "ResponseParser", "coalesced", "head_of"]

_SCRATCH_BYTES: Final = 64 * 1024
_COALESCED_BYTES: Final = 64 * 1024
_NO_BODY: Final = frozenset({204, 304})
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_BLANK_LINE: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """A request; target and headers are this package's own, the body is sent in order and not copied."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[Buffer, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A response; header names are in lower case. Arrays are made over a writable body, which has no other owner.

    Attributes:
        status: of HTTP.
        headers: by name.
        body: as it came.
        url: what was asked, where that is known.
    """

    status: int
    headers: Mapping[str, str]
    body: Buffer
    url: str = ""


def head_of(request: Request, endpoint: Endpoint, proxy: Proxy | None = None) -> bytes:
    """The request line and headers; a proxy that is to pass on plain HTTP needs the whole URL."""
    through = proxy if endpoint.scheme == "http" else None
    origin = f"http://{endpoint.authority}" if through else ""
    lines = [f"{request.method} {origin}{endpoint.prefix}{request.target} HTTP/1.1", f"Host: {endpoint.authority}"]
    if through and through.authorization:
        lines.append(f"Proxy-Authorization: {through.authorization}")
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.body:
        lines.append(f"Content-Length: {sum(map(len, request.body))}")
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
        raise ValueError("a header, such as the API key, holds a line break")
    return f"{head}\r\n\r\n".encode("latin-1")


def coalesced(buffers: Iterable[Buffer]) -> list[Buffer]:
    """The buffers with small adjacent ones joined: a small call is one packet, a large tensor is not copied."""
    joined: list[Buffer] = []
    for buffer in buffers:
        if joined and len(joined[-1]) + len(buffer) <= _COALESCED_BYTES:
            joined[-1] = b"".join((joined[-1], buffer))
        else:
            joined.append(buffer)
    return joined


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    DONE = auto()


class ResponseParser:
    """Reads exactly one response from one connection.

    Attributes:
        started: whether any byte of a response has come.
        done: whether the response is complete.
        reusable: whether the connection may be kept, once done.
    """

    def __init__(self) -> None:
        self.started = False
        self.reusable = False
        self._state = _State.HEAD
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._filled = 0
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: bytearray | memoryview = bytearray()
        self._chunks = _Chunks()

    @property
    def done(self) -> bool:
        """Whether the response is complete."""
        return self._state is _State.DONE

    @property
    def response(self) -> Response:
        """The complete response."""
        return Response(self._status, self._headers, self._body)

    def buffer(self) -> memoryview:
        """Where to receive the next bytes; never empty."""
        target = self._body if self._state is _State.LENGTH else self._scratch
        return memoryview(target)[self._filled :]

    def received(self, count: int) -> None:
        """Takes note of `count` bytes in the buffer given out last."""
        self.started = True
        if self._state is _State.HEAD:
            self._filled += count
            self._read_head()
        elif self._state is _State.LENGTH:
            self._filled += count
            if self._filled == len(self._body):
                self._finish()
        elif self._state is _State.DONE:
            self.reusable = False
        else:
            self._read_body(bytes(memoryview(self._scratch)[:count]))

    def closed(self) -> None:
        """Takes note that the server sends no more, which ends a body without a length and cuts any other."""
        self.reusable = False
        if self._state is _State.UNTIL_CLOSE:
            self._state = _State.DONE
        elif self._state is not _State.DONE:
            what = "in the middle of its answer" if self.started else "without an answer"
            raise TransportError(f"the server closed the connection {what}")

    def _read_head(self) -> None:
        end = self._scratch.find(_BLANK_LINE, 0, self._filled)
        if end < 0:
            if self._filled == len(self._scratch):
                raise ProtocolError(f"the server's headers exceed {_SCRATCH_BYTES} bytes")
            return
        http11 = self._parse_head(bytes(self._scratch[:end]))
        rest = bytes(self._scratch[end + len(_BLANK_LINE) : self._filled])
        self._filled = 0
        if self._status < 200:  # noqa: PLR2004 - 1xx are announcements; the answer follows
            self._scratch[: len(rest)] = rest
            self._filled = len(rest)
            self._read_head()
            return
        self.reusable = http11 and "close" not in self._headers.get("connection", "").lower()
        self._begin_body()
        self._read_body(rest)

    def _parse_head(self, head: bytes) -> bool:
        """Sets status and headers; tells whether the server speaks HTTP/1.1."""
        status_line, *lines = head.split(b"\r\n")
        status = _STATUS_LINE.fullmatch(status_line)
        if status is None:
            raise ProtocolError(f"the server's answer begins with {status_line[:40]!r}, which is not HTTP/1.1")
        self._status = int(status[2])
        self._headers = {}
        for line in lines:
            self._parse_header(line)
        return status[1] == b"1"

    def _parse_header(self, line: bytes) -> None:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise ProtocolError(f"the server sent the broken header {line[:60]!r}")
        name, value = header[1].decode("ascii").lower(), header[2].decode("latin-1")
        known = self._headers.get(name)
        self._headers[name] = value if known is None or known == value else f"{known}, {value}"

    def _begin_body(self) -> None:
        if self._status in _NO_BODY:
            self._begin_length("0")
        elif "transfer-encoding" in self._headers:
            if self._headers["transfer-encoding"].lower() != "chunked":
                raise ProtocolError(f"the server uses Transfer-Encoding {self._headers['transfer-encoding']!r}")
            self._state = _State.CHUNKED
            # both framings at once: one of the two sides is mistaken about where the next answer begins
            self.reusable &= "content-length" not in self._headers
        elif "content-length" in self._headers:
            self._begin_length(self._headers["content-length"])
        else:
            self._state = _State.UNTIL_CLOSE
            self.reusable = False

    def _begin_length(self, length: str) -> None:
        if not (length.isascii() and length.isdigit()):
            raise ProtocolError(f"the server announces a body of {length[:40]!r} bytes")
        try:
            self._body = received(int(length), offset_in(self._headers.get(OFFSET_HEADER, "")))
        except (MemoryError, OverflowError, ValueError):
            raise ProtocolError(f"the server announces a body of {length[:40]} bytes, more than fits here") from None
        self._state = _State.LENGTH

    def _read_body(self, piece: bytes) -> None:
        if self._state is _State.LENGTH:
            self._read_first(piece)
            return
        assert isinstance(self._body, bytearray)
        if self._state is _State.CHUNKED:
            if self._chunks.feed(piece, self._body):
                self.reusable &= not self._chunks.pending
                self._finish()
        else:
            self._body += piece

    def _read_first(self, piece: bytes) -> None:
        """The part of a body of announced length that was received with the head."""
        self._filled = min(len(piece), len(self._body))
        self.reusable &= len(piece) <= len(self._body)
        self._body[: self._filled] = piece[: self._filled]
        if self._filled == len(self._body):
            self._finish()

    def _finish(self) -> None:
        self._state = _State.DONE
        self._filled = 0


class _Chunks:
    """The chunked framing: size line, data, line break, ..., zero, trailers, blank line."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self._missing = 0
        self._ended = False

    def feed(self, piece: bytes, body: bytearray) -> bool:
        """Appends the data in the piece to the body; true at the end of the last chunk's trailers."""
        self.pending += piece
        while True:
            if self._missing:
                if not self._take_data(body):
                    return False
            else:
                line = self._take_line()
                if line is None:
                    return False
                if self._read_line(line):
                    return True

    def _take_data(self, body: bytearray) -> bool:
        """Moves what there is of a chunk; true once the chunk and its line break are complete."""
        data = self.pending[: max(self._missing - 2, 0)]
        body += data
        del self.pending[: len(data)]
        self._missing -= len(data)
        if self._missing > 2 or len(self.pending) < self._missing:  # noqa: PLR2004 - the line break's two bytes
            return False
        if self.pending[:2] != b"\r\n":
            raise ProtocolError("the server's chunk is longer than it says")
        del self.pending[:2]
        self._missing = 0
        return True

    def _take_line(self) -> bytes | None:
        end = self.pending.find(b"\r\n")
        if end < 0:
            if len(self.pending) > _SCRATCH_BYTES:
                raise ProtocolError("the server's chunk has no size")
            return None
        line = bytes(self.pending[:end])
        del self.pending[: end + 2]
        return line

    def _read_line(self, line: bytes) -> bool:
        if self._ended:
            return not line  # trailers are read over
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise ProtocolError(f"the server's chunk has the size {line[:40]!r}")
        length = int(size[1], 16)
        self._ended = length == 0
        self._missing = length + 2 if length else 0
        return False
