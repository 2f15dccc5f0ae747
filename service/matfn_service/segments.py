"""Memory that the server shares with clients on its unix socket, handed over at a side socket (`matfn.segments`).

Rules of this file:

- Only processes of the server's own user, and of root, get memory: the system says whose a connection is.
- Memory has no name in the file system, cannot change its size, and is found by a token that cannot be guessed.
- Memory is charged from when it is made to when its connection ends, against a bound for all and one for each process.
- What a client writes may change at any time: a body is copied once, and only the copy is read.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import mmap
import os
import secrets
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from matfn.segments import HANDSHAKE_S, SEGMENT_GONE, copy, copy_in
from matfn_service.problems import Refusal
from matfn_service.shared_memory import lent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matfn.wire import Buffer

__all__ = ["Claim", "Peer", "Segment", "Segments", "SideProtocol", "parse_claim"]

_INLINE_BYTES: Final = 1 << 22  # copied in less than a millisecond
_QUESTION_BYTES: Final = 256
_LENGTH_DIGITS: Final = 18
_CREDENTIALS: Final = struct.Struct("3i")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a connection, and its user."""

    process: int
    user: int

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """The process that connected, by the word of the system."""
        said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process, user, _ = _CREDENTIALS.unpack(said)
        return cls(process, user)

    @property
    def is_trusted(self) -> bool:
        """Whether it is of the server's own user or of root."""
        return self.user in {0, os.geteuid()}


@dataclass(frozen=True, slots=True)
class Claim:
    """Reference of a request to its body: a token and the body's length."""

    token: str
    length: int


def parse_claim(header: str) -> Claim | None:
    """The claim in an `X-Matfn-Segment` header; None for anything else."""
    token, _, length = header.partition(" ")
    is_number = length.isascii() and length.isdigit() and len(length) <= _LENGTH_DIGITS
    return Claim(token, int(length)) if is_number else None


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Shared memory, and the process that it was made for."""

    memory: mmap.mmap
    owner: int

    def holds(self, length: int) -> bool:
        """Whether it is large enough for so many bytes."""
        return length <= len(self.memory)

    async def read(self, length: int, offset: int) -> memoryview:
        """A copy of the body, whose byte at `offset` is aligned."""
        content = lent(length, offset)
        await _done(partial(copy, content, memoryview(self.memory)[:length]), length)
        return content

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Copies the buffers of an answer to the beginning."""
        await _done(partial(copy_in, self.memory, buffers), sum(map(len, buffers)))


async def _done(copying: Callable[[], object], size: int) -> None:
    """Copies so many bytes, in a thread where that takes the loop longer than handing it over."""
    if size <= _INLINE_BYTES:
        copying()
    else:
        await asyncio.to_thread(copying)


class Segments:
    """All shared memory, by token.

    Args:
        most: bytes of all of it together.
        most_of_one: bytes that one process may have.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._segments: dict[str, Segment] = {}
        self._charged: Counter[int] = Counter()

    def __len__(self) -> int:
        """Number of segments."""
        return len(self._segments)

    def make(self, size: int, owner: int) -> tuple[str, int]:
        """Makes memory for a process; returns its token and a file descriptor, which the caller closes.

        Raises:
            Refusal: `too_large` if the process may never have so much, `busy` if there is no room now.
        """
        if size > self._most_of_one:
            detail = f"{size} bytes of shared memory; a client may have {self._most_of_one} (MATFN_SHARED_CLIENT_BYTES)"
            raise Refusal("too_large", detail)
        if self._charged[owner] + size > self._most_of_one or self._charged.total() + size > self._most:
            detail = (
                f"{size} bytes of shared memory: the client has {self._charged[owner]} of {self._most_of_one}"
                f" (MATFN_SHARED_CLIENT_BYTES), all have {self._charged.total()} of {self._most} (MATFN_SHARED_BYTES)"
            )
            raise Refusal("busy", detail)
        descriptor, memory = _sealed(size)
        token = secrets.token_urlsafe()
        self._segments[token] = Segment(memory, owner)
        self._charged[owner] += size
        return token, descriptor

    def release(self, token: str) -> None:
        """Forgets memory; it is gone once nothing copies from it any more."""
        segment = self._segments.pop(token)
        self._charged[segment.owner] -= len(segment.memory)
        self._charged += Counter()  # drops what is at zero

    def find(self, claim: Claim) -> Segment:
        """The memory that holds a body.

        Raises:
            Refusal: `malformed`, with the status 410, if there is no such memory; with 400 if the body exceeds it.
        """
        segment = self._segments.get(claim.token)
        if segment is None:
            detail = "the request names memory that this server does not share, or shares no longer"
            raise Refusal("malformed", detail, "send the body itself, or ask for new memory", status=SEGMENT_GONE)
        if not segment.holds(claim.length):
            detail = f"a body of {claim.length} bytes does not fit into {len(segment.memory)} bytes of shared memory"
            raise Refusal("malformed", detail, "ask for more memory, or send the body itself")
        return segment


def _sealed(size: int) -> tuple[int, mmap.mmap]:
    """A file descriptor of memory whose size stays as it is, and the memory."""
    descriptor = os.memfd_create("matfn-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor, mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise


class SideProtocol(asyncio.Protocol):
    """One side connection: a question, an answer with a file descriptor, and nothing more until it ends."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._question = b""
        self._token: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvloop has it
        """Closes a connection of another user's; bounds the time of the others' question."""
        self._transport = transport
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_S, transport.abort)
        try:
            with self._socket() as own:
                self._peer = Peer.of(own)
        except OSError:  # there is no descriptor left for it
            transport.abort()
            return
        if not self._peer.is_trusted:
            _log.warning("no shared memory for another user", user=self._peer.user)
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answers a question once it is complete; what else is said ends the connection."""
        self._question += data
        if self._transport.is_closing() or self._token is not None or len(self._question) > _QUESTION_BYTES:
            self._transport.abort()
        elif self._question.endswith(b"\n"):
            self._answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives the memory back."""
        del exc
        self._deadline.cancel()
        if self._token is not None:
            self._segments.release(self._token)

    def _answer(self) -> None:
        try:
            self._token, descriptor = self._segments.make(_size_in(self._question), self._peer.process)
        except Refusal as refusal:
            self._refuse(refusal)
        except OSError as error:
            self._refuse(Refusal("out_of_memory", f"there is no memory to share: {error.strerror}"))
        else:
            self._hand_over(self._token, descriptor)

    def _refuse(self, refusal: Refusal) -> None:
        self._transport.write(_line(code=refusal.code, detail=refusal.detail))
        self._transport.close()

    def _hand_over(self, token: str, descriptor: int) -> None:
        self._deadline.cancel()
        try:
            with self._socket() as own:
                socket.send_fds(own, [_line(token=token)], [descriptor])
        except OSError:
            self._transport.abort()
        finally:
            os.close(descriptor)

    def _socket(self) -> socket.socket:
        """The connection's socket, which transports hide, in a descriptor of its own."""
        return socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))


def _size_in(question: bytes) -> int:
    try:
        asked = json.loads(question)
        size = asked["bytes"]
    except (ValueError, TypeError, KeyError, RecursionError):
        size = None
    if type(size) is not int or size < 1:
        raise Refusal("malformed", 'the question is {"bytes": SIZE} on one line')
    return size


def _line(**fields: str) -> bytes:
    return json.dumps(fields).encode() + b"\n"
