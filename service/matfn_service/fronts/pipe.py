"""One end of a stream between two processes of the service.

Each message is its lengths, the numbers of its tensors and the rest as a pickle. Numbers are sent from where they lie
and received where they stay: of a message that is longer than the scratch, only what has come with its begin is copied.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

__all__ = ["Pipe", "framed", "read_one"]

_LENGTHS: Final = struct.Struct("!QQ")  # of the numbers and of the pickle
_SCRATCH: Final = 1 << 12  # holds several messages without numbers


class Pipe(asyncio.BufferedProtocol):
    """Sends and receives messages on the event loop.

    Args:
        receive: called with each message and its numbers.
        lost: called once, when the other end is closed.
    """

    def __init__(self, receive: Callable[[object, memoryview], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._kept = 0  # octets in the scratch that belong to no message yet
        self._body: memoryview | None = None  # of a message of which a part is missing
        self._numbers = self._missing = 0  # octets of its numbers, and those that are to come
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvloop has it
        """The pipe may be used."""
        self._transport = transport

    def send(self, message: object, numbers: Sequence[memoryview] = ()) -> None:
        """Sends a message with its numbers; one to a closed end is lost, of which `lost` tells."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(framed(message, numbers))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next octets go."""
        del sizehint
        return self._scratch[self._kept :] if self._body is None else self._body[-self._missing :]

    def buffer_updated(self, nbytes: int) -> None:
        """Hands on the messages that are complete."""
        if self._body is None:
            self._look_through(self._kept + nbytes)
            return
        self._missing -= nbytes
        if not self._missing:
            body, self._body = self._body, None
            self._hand_on(body, self._numbers)

    def _look_through(self, end: int) -> None:
        """Takes the messages that begin in the scratch, which holds so many octets."""
        begin = 0
        while end >= begin + _LENGTHS.size:
            numbers, pickled = _LENGTHS.unpack_from(self._scratch, begin)
            begin += _LENGTHS.size
            body = _memory(numbers + pickled)
            come = min(len(body), end - begin)
            body[:come] = self._scratch[begin : begin + come]
            begin += come
            if come < len(body):
                self._body, self._numbers, self._missing = body, numbers, len(body) - come
            else:
                self._hand_on(body, numbers)
        self._kept = end - begin
        self._scratch[: self._kept] = bytes(self._scratch[begin:end])

    def _hand_on(self, body: memoryview, numbers: int) -> None:
        self._receive(pickle.loads(body[numbers:]), body[:numbers])  # noqa: S301 - from our own process

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end, or this one, was closed."""
        del exc
        lost = self._lost
        self._transport, self._receive, self._lost = None, _ignore, lambda: None  # whoever has the pipe may go at once
        lost()

    def close(self) -> None:
        """Closes this end."""
        if self._transport is not None:
            self._transport.abort()


def _ignore(message: object, numbers: memoryview) -> None:
    """Takes no notice of a message."""


def _memory(size: int) -> memoryview:
    """Aligned memory, which nothing has written yet."""
    return np.empty(size, np.uint8).data


def framed(message: object, numbers: Sequence[memoryview] = ()) -> list[bytes | memoryview]:
    """A message as it is sent."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    if not numbers:
        return [_LENGTHS.pack(0, len(content)) + content]
    return [_LENGTHS.pack(sum(map(len, numbers)), len(content)), *numbers, content]


def read_one(end: socket.socket) -> object:
    """The next message, one without numbers, of a socket that blocks.

    Raises:
        EOFError: if the other end was closed before.
    """
    _, length = _LENGTHS.unpack(_exactly(end, _LENGTHS.size))
    return pickle.loads(_exactly(end, length))  # noqa: S301 - likewise


def _exactly(end: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        piece = end.recv(size - len(content))
        if not piece:
            raise EOFError
        content += piece
    return bytes(content)
