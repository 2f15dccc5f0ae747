"""A connection without a socket: what the server sends is kept, what it receives is up to the test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn_service.socket_protocol import SocketProtocol

__all__ = ["Outlet", "receive"]


class Outlet(asyncio.Transport):
    """A connection's sending side that keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keeps it."""
        self.sent += data

    def writelines(self, list_of_data: Sequence[bytes | bytearray | memoryview]) -> None:  # type: ignore[override]
        """Keeps them."""
        self.sent += b"".join(list_of_data)

    def is_closing(self) -> bool:
        """Not yet."""
        return False

    def get_write_buffer_size(self) -> int:
        """Everything is read at once."""
        return 0

    def can_write_eof(self) -> bool:
        """It can be closed one side at a time."""
        return True

    def write_eof(self) -> None:
        """Nothing to close."""

    def close(self) -> None:
        """Likewise."""

    def pause_reading(self) -> None:
        """What is received is up to the test."""

    def resume_reading(self) -> None:
        """Likewise."""


def receive(protocol: SocketProtocol, stream: bytes) -> None:
    """Puts a stream where the protocol wants it, as much at a time as it has room for."""
    while stream:
        room = protocol.get_buffer(-1)
        size = min(len(room), len(stream))
        room[:size] = stream[:size]
        protocol.buffer_updated(size)
        stream = stream[size:]
