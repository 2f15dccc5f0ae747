"""A server that says exactly what a test tells it to, on a real socket in a thread."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Self

from matfn import wire
from matfn.catalogue import ENTRIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Conversation", "ScriptedServer", "answered", "http_response"]


def http_response(
    body: bytes = b"", status: int = 200, content_type: str = wire.Media.MSGPACK, **headers: str
) -> bytes:
    """A response with a Content-Length."""
    lines = [f"HTTP/1.1 {status} -", f"content-length: {len(body)}", f"content-type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answered(call: wire.Call, request_id: str = "r1") -> wire.Answer:
    """An answer that hands the first input back, certified."""
    certificate = wire.Certificate(
        wire.Outcome.CONVERGED,
        wire.Residual("none", 0.0),
        1e-16,
        1.0,
        "echo",
        "fp64",
        0,
        None,
        0.0,
        0.0,
        None,
        None,
        None,
    )
    first = next(iter(call.inputs.values()))
    outputs = {"x": first, "y": first} if call.function == "sqrt_pair" else {"x": first}
    return wire.Answer(outputs, (certificate,) * _matrices(call), wire.Timing(0.1, 0.2, 1, 1.0), "cpu", request_id)


def _matrices(call: wire.Call) -> int:
    entry = ENTRIES[call.function].inputs[0]
    shape = call.inputs[entry.name].shape
    return prod(shape[: len(shape) - len(entry.shape)])


@dataclass(frozen=True, slots=True)
class Conversation:
    """One accepted connection."""

    socket: socket.socket
    number: int

    def read(self) -> bytes:
        """One request, head and body; empty at the end of the connection."""
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self.socket.recv(65536)
            if not piece:
                return b""
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += self.socket.recv(65536)
        return head + b"\r\n\r\n" + body

    def say(self, data: bytes) -> None:
        """Sends at once."""
        self.socket.sendall(data)


@dataclass(slots=True)
class ScriptedServer:
    """Runs `script` on each connection, one after another; what it read is in `requests`."""

    script: Callable[[ScriptedServer, Conversation], None]
    path: Path | None = None
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    _listener: socket.socket = field(init=False)
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where clients find it."""
        if self.path is not None:
            return f"unix://{self.path}"
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        if self.path is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
        else:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(self.path))
            self._listener.listen()
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # a blocked accept or recv ends with its socket's shutdown, not with its close
        for opened in (self._listener, *self._open):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for opened in (self._listener, *self._open):
            opened.close()

    def read(self, conversation: Conversation) -> bytes:
        """One request, remembered."""
        request = conversation.read()
        if request:
            self.requests.append(request)
        return request

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                self._open.append(accepted)
                conversation = Conversation(accepted, self.connections)
                self.connections += 1
                self._start(lambda conversation=conversation: self._serve(conversation))  # type: ignore[misc]

    def _serve(self, conversation: Conversation) -> None:
        with suppress(OSError):
            self.script(self, conversation)
            conversation.socket.shutdown(socket.SHUT_RDWR)
