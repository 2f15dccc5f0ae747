"""Callers that each send their own numbers and know their own answer when they see it.

Unlike those of `load`, they read every answer to its end and look into it, and they do as they are told: who is
refused sleeps for `retry_after_ms` and comes back under the name of the refusal.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import msgpack
import numpy as np

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Answer", "Connection", "call"]

_ORDER: Final = 64
_NOISE: Final = np.random.default_rng(0).standard_normal((_ORDER, _ORDER)).astype(np.float32)
_DONE: Final = 200
_BUSY: Final = 429


def call(number: int, deadline: float | None = None) -> tuple[bytes, bytes]:
    """The body of a call that no other caller sends, and the bytes that its answer must hold on a stand-in device."""
    matrix = _NOISE.copy()
    matrix[0, :2] = divmod(number, 1 << 20)  # exact in float32
    tensor = {"dtype": "float32", "shape": matrix.shape, "data": matrix.tobytes()}
    options = {} if deadline is None else {"deadline": deadline}
    return msgpack.packb({"inputs": {"m": tensor}, "params": {}, "options": options}), matrix.tobytes()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        status: of HTTP.
        body: as it came.
        seconds: from the first byte sent to the last one read.
    """

    status: int
    body: bytes
    seconds: float

    @property
    def problem(self) -> dict[str, object]:
        """The problem document of a refusal."""
        problem: dict[str, object] = msgpack.unpackb(self.body)
        return problem

    @property
    def is_done(self) -> bool:
        """Whether the call was computed."""
        return self.status == _DONE

    @property
    def is_busy(self) -> bool:
        """Whether the call was refused because the queue was full."""
        return self.status == _BUSY


class Connection:
    """A keep-alive connection, one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def post(self, body: bytes, name: str = "") -> Answer:
        """Sends a call and reads its answer."""
        lines = [
            "POST /v1/msign HTTP/1.1",
            "Host: localhost",
            "Content-Type: application/msgpack",
            f"Content-Length: {len(body)}",
            *([f"X-Request-Id: {name}"] if name else []),
            "",
            "",
        ]
        began = time.perf_counter()
        self._writer.write("\r\n".join(lines).encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        content = await self._reader.readexactly(length)
        return Answer(int(head[9:12]), content, time.perf_counter() - began)

    @property
    def has_unasked_bytes(self) -> bool:
        """Whether more has come than was asked for: an answer given twice."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined] # noqa: SLF001 - the stream shows it nowhere else
