"""One end of a stream between two processes of the service: pickled messages, each with its length before it."""

from __future__ import annotations

import asyncio
import pickle
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["Pipe", "framed", "read_one"]

_LENGTH: Final = struct.Struct("!Q")


class Pipe(asyncio.Protocol):
    """Sends and receives messages on the event loop.

    Args:
        receive: called with each message.
        lost: called once, when the other end is closed.
    """

    def __init__(self, receive: Callable[[object], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvloop has it
        """The pipe may be used."""
        self._transport = transport

    def send(self, message: object) -> None:
        """Sends a message; one to a closed end is lost, of which `lost` tells."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed(message))

    def data_received(self, data: bytes) -> None:
        """Hands on the messages that are complete."""
        self._received += data
        begin = 0
        while (end := _end_of_message(self._received, begin)) is not None:
            message = pickle.loads(memoryview(self._received)[begin + _LENGTH.size : end])  # noqa: S301 - from our own process
            begin = end
            self._receive(message)
        if begin:
            del self._received[:begin]

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


def _ignore(message: object) -> None:
    """Takes no notice of a message."""


def framed(message: object) -> bytes:
    """A message as it is sent."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


def read_one(end: socket.socket) -> object:
    """The next message, of a socket that blocks.

    Raises:
        EOFError: if the other end was closed before.
    """
    (length,) = _LENGTH.unpack(_exactly(end, _LENGTH.size))
    return pickle.loads(_exactly(end, length))  # noqa: S301 - likewise


def _exactly(end: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        piece = end.recv(size - len(content))
        if not piece:
            raise EOFError
        content += piece
    return bytes(content)


def _end_of_message(received: bytearray, begin: int) -> int | None:
    """Where the message that begins there ends; None if a part of it is missing."""
    if len(received) < begin + _LENGTH.size:
        return None
    end: int = begin + _LENGTH.size + _LENGTH.unpack_from(received, begin)[0]
    return end if len(received) >= end else None
