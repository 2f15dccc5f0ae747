"""One message of a worker as its pieces come, so that a worker which stops in the middle of one holds up nobody."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import Final

__all__ = ["Inbox"]

_PIECE: Final = 1 << 20
_SHORT: Final = struct.Struct("!i")  # as `multiprocessing.connection` frames messages
_LONG: Final = struct.Struct("!Q")
_IS_LONG: Final = -1


class Inbox:
    """The part of one message of `multiprocessing.connection` that has come from a socket."""

    def __init__(self, socket: int) -> None:
        self._socket = socket
        self._received = bytearray()
        self._over = asyncio.Event()

    def receive(self) -> None:
        """Takes what has come; called when the socket is readable, perhaps once more than there is something."""
        if self._over.is_set():
            return
        try:
            piece = os.read(self._socket, _PIECE)
        except OSError:  # the process is gone, with what it had not read
            piece = b""
        self._received += piece
        if not piece or self._content is not None:
            self._over.set()

    async def whole(self) -> memoryview:
        """The message, once it is there.

        Raises:
            EOFError: if the other end was closed before.
        """
        await self._over.wait()
        content = self._content
        if content is None:
            raise EOFError
        return content

    @property
    def _content(self) -> memoryview | None:
        """The message; None as long as a part of it is missing."""
        begin, received = _SHORT.size, self._received
        if len(received) < begin:
            return None
        (size,) = _SHORT.unpack_from(received)
        if size == _IS_LONG:
            if len(received) < begin + _LONG.size:
                return None
            (size,) = _LONG.unpack_from(received, begin)
            begin += _LONG.size
        return memoryview(received)[begin : begin + size] if len(received) >= begin + size else None
