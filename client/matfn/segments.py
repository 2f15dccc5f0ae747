"""Memory shared with a server on the same machine, through which large bodies pass instead of its unix socket.

    client  {"bytes": 67108864}                       --> side socket, PATH.fd
    client  <-- {"token": "..."} and a file descriptor    or {"code": "busy", "detail": "..."}
    client  X-Matfn-Segment: TOKEN LENGTH of the body   --> request on the socket, PATH
    client  <-- X-Matfn-Segment: LENGTH of the body         response

The server makes the memory, which cannot change its size and has no name, and keeps it for as long as the side
connection lasts. Body and answer begin at its first byte. Whatever goes wrong, bodies take the socket.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from matfn._aligned import OFFSET_HEADER, offset_in, received
from matfn.errors import ProtocolError
from matfn.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from matfn.http1 import Request, Response
    from matfn.wire import Buffer

__all__ = [
    "HANDSHAKE_S",
    "SEGMENT_GONE",
    "SEGMENT_HEADER",
    "Segment",
    "Segments",
    "copy",
    "copy_in",
    "open_unix",
    "side_path",
]

SEGMENT_HEADER: Final = "x-matfn-segment"
SEGMENT_GONE: Final = 410  # the status of a request that names memory which the server does not share
HANDSHAKE_S: Final = 1.0  # what the server allows

_SHARED_BYTES: Final = 1 << 20  # smaller bodies pass through the socket in the same time
_ROUNDED_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 0.25  # the client's event loop stands still meanwhile
_RETRY_S: Final = 5.0
# no side socket or no room; a reply of another kind; a system without such things
_NOTHING_SHARED: Final = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError)
_HALVED_BYTES: Final = 1 << 23  # a second thread halves the time of copying so much
_REPLY_BYTES: Final = 4096


def side_path(path: str | Path) -> str:
    """The path of the side socket of a server that listens on this path."""
    return f"{path}.fd"


def copy(into: memoryview, buffer: Buffer) -> None:
    """Copies a buffer into memory of its length, while other threads run."""
    if not len(buffer):
        return
    there, octets = np.frombuffer(into, np.uint8), np.frombuffer(buffer, np.uint8)
    if octets.size < _HALVED_BYTES:
        np.copyto(there, octets)
        return
    half = octets.size // 2
    second = threading.Thread(target=np.copyto, args=(there[half:], octets[half:]))
    second.start()
    np.copyto(there[:half], octets[:half])
    second.join()


def copy_in(memory: mmap.mmap, buffers: Iterable[Buffer]) -> int:
    """Copies buffers into the beginning of shared memory, one behind the other; returns their length."""
    there, end = memoryview(memory), 0
    for buffer in buffers:
        copy(there[end : end + len(buffer)], buffer)
        end += len(buffer)
    return end


@dataclass(slots=True, eq=False)
class Segment:
    """Shared memory that one request at a time uses.

    Attributes:
        socket: the side connection.
        token: the name by which a request refers to the memory.
        memory: the memory.
        born: when it was connected.
        wanted: bytes of the last answer that passed through the socket.
    """

    socket: socket.socket
    token: str
    memory: mmap.mmap
    born: float
    wanted: int = 0

    def filled(self, request: Request) -> Request:
        """Copies the body into the memory; returns the request that names it instead."""
        length = copy_in(self.memory, request.body)
        return replace(request, headers=(*request.headers, (SEGMENT_HEADER, f"{self.token} {length}")), body=())

    def fetched(self, response: Response) -> Response | None:
        """The response with the body that lies in the memory; None if the server does not share it any more."""
        if response.status == SEGMENT_GONE:
            self.socket.close()
            return None
        told = response.headers.get(SEGMENT_HEADER)
        if told is None:
            self.wanted = len(response.body)
            return response
        length, offset = offset_in(told), offset_in(response.headers.get(OFFSET_HEADER, ""))
        if not 0 < length <= len(self.memory):
            raise ProtocolError(f"the server says that its answer takes {length} bytes of {len(self.memory)}")
        body = received(length, offset)
        copy(body, memoryview(self.memory)[:length])
        return replace(response, body=body)


class Segments:
    """The segments that a client has of one server, safe to share between threads."""

    def __init__(self, socket_path: str | None, clock: Callable[[], float]) -> None:
        self._path = None if socket_path is None else side_path(socket_path)
        self._clock = clock
        self._pool = Pool[Segment](clock)
        self._not_before = clock()
        self._least = 0

    @contextmanager
    def lent(self, request: Request, timeout: float | None) -> Iterator[Segment | None]:
        """Memory for the request's body within the context; None where the body passes through the socket."""
        segment = self.take(sum(map(len, request.body)), timeout)
        try:
            yield segment
        except BaseException:
            if segment is not None:
                segment.socket.close()  # the server may still write into it
            raise
        if segment is not None:
            self.put(segment)

    def take(self, length: int, timeout: float | None) -> Segment | None:
        """Memory for a body of this length, within the timeout; None where the body passes through the socket."""
        if self._path is None or length < _SHARED_BYTES:
            return None
        kept = self._pool.take()
        if kept is not None and len(kept.memory) >= length:
            return kept
        if kept is not None:
            kept.socket.close()
        patience = _PATIENCE_S if timeout is None else min(_PATIENCE_S, timeout)
        return self._opened(self._path, max(length, self._least), patience)

    def put(self, segment: Segment) -> None:
        """Keeps memory for the next request, unless the last answer did not fit into it."""
        if segment.socket.fileno() < 0:
            return
        if segment.wanted > len(segment.memory):
            self._least = segment.wanted
            segment.socket.close()
            return
        self._pool.put(segment)

    def close(self) -> None:
        """Gives the kept memory back."""
        self._pool.close()

    def _opened(self, path: str, length: int, patience: float) -> Segment | None:
        now = self._clock()
        if now < self._not_before:
            return None
        try:
            size = -(-(length + length // 8) // _ROUNDED_BYTES) * _ROUNDED_BYTES
            return Segment(*_handed(path, size, patience), born=now)
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ):  # there is none, or no room in it, or no such thing here
            self._not_before = now + _RETRY_S
            return None


def _handed(path: str, size: int, patience: float) -> tuple[socket.socket, str, mmap.mmap]:
    """A side connection, and the token of new memory of this size; raises an exception where there is none."""
    side = open_unix(path, patience)
    try:
        side.sendall(b'{"bytes": %d}\n' % size)
        said, descriptors, _, _ = socket.recv_fds(side, _REPLY_BYTES, 1)
        memory = _mapped(descriptors, size)
        return side, str(json.loads(said)["token"]), memory
    except BaseException:
        side.close()
        raise


def _mapped(descriptors: list[int], size: int) -> mmap.mmap:
    from fcntl import F_GET_SEALS, F_SEAL_SHRINK, fcntl

    if not descriptors:
        raise ValueError("the server shares no memory")
    with closing(os.fdopen(descriptors[0], "rb", buffering=0)) as file:
        if not fcntl(file, F_GET_SEALS) & F_SEAL_SHRINK:  # what shrinks under a mapping ends the process
            raise ValueError("the memory may shrink")
        return mmap.mmap(file.fileno(), size)


def open_unix(path: str, timeout: float | None) -> socket.socket:
    """A connection to a unix socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock
