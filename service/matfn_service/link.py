"""The service's end of a socket pair: one message at a time, and its answer, without a thread.

Beside a busy loop a thread would wait for the interpreter at every step. Pieces are sent and received as the socket
takes and has them, so that a process which stops in the middle of one message holds up nobody.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Link"]

_PIECE: Final = 1 << 16
_SHORT: Final = struct.Struct("!i")  # as `multiprocessing.connection` frames messages
_LONG: Final = struct.Struct("!iQ")
_LONGEST_SHORT: Final = 0x7FFFFFFF


class Link:
    """One end of a pair of sockets, whose other end answers every message.

    Args:
        end: the end, which is closed in favour of a socket that does not block.
    """

    def __init__(self, end: Connection) -> None:
        self._socket = socket.socket(fileno=os.dup(end.fileno()))
        self._socket.settimeout(0.0)
        end.close()
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that tells of what comes
        self._received = bytearray()
        self._answer: asyncio.Future[memoryview] | None = None
        self._is_over = False

    async def exchange(self, message: bytes) -> memoryview:
        """Sends a message and returns its answer; cancelled, it ends the link.

        Raises:
            EOFError, OSError: if the other end was closed before.
        """
        loop = asyncio.get_running_loop()
        self._listen(loop)
        if self._is_over:
            raise EOFError
        self._answer = loop.create_future()
        octets = _framed(message)
        try:
            sent = self._socket.send(octets)
        except BlockingIOError:
            sent = 0
        try:
            if sent < len(octets):
                await loop.sock_sendall(self._socket, octets[sent:])
            return await self._answer
        except asyncio.CancelledError:
            self._end()  # half a message, or an answer that is to come, would be taken for the next one's
            raise

    def close(self) -> None:
        """Closes this end; an answer that is waited for will not come."""
        self._end()
        self._socket.close()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has this loop tell of what comes."""
        if loop is not self._loop and not self._is_over:
            self._listen_no_more()
            self._loop = loop
            loop.add_reader(self._socket.fileno(), self._receive)

    def _listen_no_more(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
        self._loop = None

    def _receive(self) -> None:
        """Takes what has come, perhaps once more than there is something."""
        try:
            piece = self._socket.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:  # the process is gone, with what it had not read
            piece = b""
        self._received += piece
        if not piece:
            self._end()
        elif (content := _content(self._received)) is not None:
            self._received = bytearray()
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(content)

    def _end(self) -> None:
        """Either end was closed."""
        self._is_over = True
        self._listen_no_more()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(EOFError())
            self._answer.exception()  # marked as retrieved: who still sends hears of it from the socket


def _framed(message: bytes) -> bytes:
    size = len(message)
    return (_SHORT.pack(size) if size <= _LONGEST_SHORT else _LONG.pack(-1, size)) + message


def _content(received: bytearray) -> memoryview | None:
    """The message; None as long as a part of it is missing."""
    if len(received) < _SHORT.size:
        return None
    (size,), begin = _SHORT.unpack_from(received), _SHORT.size
    if size < 0:
        if len(received) < _LONG.size:
            return None
        (_, size), begin = _LONG.unpack_from(received), _LONG.size
    return memoryview(received)[begin : begin + size] if len(received) >= begin + size else None
