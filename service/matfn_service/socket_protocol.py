"""The receiving side of a connection: heads go to the parser, bodies directly into their readers' memory.

A parser is handed what was received and hands it on, which copies a body three times. Once its reader has made memory
for a body whose length is known, there is nothing left to parse: the rest of it is received there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from matfn_service.http_protocol import HttpProtocol

if TYPE_CHECKING:
    from typing import Any

__all__ = ["SocketProtocol"]

_SCRATCH: Final = memoryview(bytearray(1 << 16))  # for all connections: what is received is passed on before the next


class SocketProtocol(asyncio.BufferedProtocol):
    """The receiving side of one connection; the HTTP protocol does everything else."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._http = HttpProtocol(*arguments, **named)
        self._remaining = 0  # bytes of the current body that the parser will not see
        self._is_in_place = False

    def get_buffer(self, sizehint: int) -> memoryview:
        """Memory for the next bytes."""
        del sizehint
        space = self._http.space()
        self._is_in_place = bool(space)
        if space:
            self._remaining = len(space)
            return space
        return _SCRATCH[: self._remaining or None]

    def buffer_updated(self, nbytes: int) -> None:
        """Passes on the bytes that were received."""
        if not self._remaining:
            self._http.data_received(bytes(_SCRATCH[:nbytes]))
            return
        self._remaining -= nbytes
        if self._is_in_place:
            self._http.received_in_place(nbytes)
        else:  # its reader has given the body up
            self._http.on_body(bytes(_SCRATCH[:nbytes]))
        if not self._remaining:
            self._http.end_message()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """The connection is there."""
        self._http.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._http.connection_lost(exc)

    def eof_received(self) -> None:
        """The caller has closed its side."""
        self._http.eof_received()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        self._http.resume_writing()
