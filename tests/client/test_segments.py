"""A client shares memory with a server only where all is well; otherwise bodies pass through the socket."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from matfn.endpoint import Endpoint
from matfn.errors import ProtocolError, TransportError
from matfn.http1 import Request, Response
from matfn.segments import Segments, copy, side_path
from matfn.transport import SocketTransport
from scripted_socket import Conversation, ScriptedServer, http_response

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = Request("POST", "/", (), (bytes(1 << 20), b"", b"end"))
SHRINK_AND_GROW = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@contextmanager
def side_server(path: Path, reply: bytes, seals: int | None = SHRINK_AND_GROW) -> Iterator[list[bytes]]:
    """Answers each question with a reply and new memory; None hands over none. What was asked is listed."""
    questions: list[bytes] = []
    kept: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(side_path(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                questions.append(connection.recv(256))
                if seals is None:
                    connection.sendall(reply)
                    continue
                size = int(questions[-1].split(b":")[1].rstrip(b"}\n"))
                descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
                os.ftruncate(descriptor, size)
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
                socket.send_fds(connection, [reply], [descriptor])
                os.close(descriptor)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield questions
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in kept:
            connection.close()


@pytest.mark.parametrize("size", [0, 1, (1 << 23) - 1, (1 << 23) + 1])
def test_copy_is_whole(size: int) -> None:
    """Every byte is copied, by one thread or by two."""
    octets = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    there = bytearray(size)
    copy(memoryview(there), octets.data)

    assert there == octets.tobytes()


@pytest.mark.parametrize(
    ("reply", "seals"),
    [
        (b'{"code": "busy", "detail": "full"}\n', None),
        (b"", None),
        (b"no JSON\n", None),
        (b"[]\n", SHRINK_AND_GROW),
        (b'{"token": "t"}\n', None),
        (b'{"token": "t"}\n', 0),
    ],
)
def test_bad_reply_is_no_obstacle(tmp_path: Path, reply: bytes, seals: int | None) -> None:
    """A refusal, nonsense, no memory, or memory that may shrink: the body passes through the socket."""
    lengths: list[int] = []

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        while request := server.read(conversation):
            lengths.append(len(request.partition(b"\r\n\r\n")[2]))
            conversation.say(http_response(b"hello"))

    path = tmp_path / "s"
    with side_server(path, reply, seals) as questions, ScriptedServer(script, path=path) as server:
        transport = SocketTransport(Endpoint.parse(server.url), clock=lambda: 0.0)
        bodies = [bytes(transport.send(LARGE, None).body) for _ in range(2)]
        transport.close()

    assert bodies == [b"hello"] * 2
    assert lengths == [(1 << 20) + 3] * 2
    assert len(questions) == 1  # the server is not asked again at once


def test_refused_client_asks_again_later(tmp_path: Path) -> None:
    """A server that had no memory to share is asked again after some seconds."""
    now = 0.0
    path = tmp_path / "s"
    owner = Segments(str(path), lambda: now)
    assert owner.take(1 << 20, None) is None
    with side_server(path, b'{"token": "t"}\n') as questions:
        assert owner.take(1 << 20, None) is None
        now = 5.0
        segment = owner.take(1 << 20, None)
        assert segment is not None
        segment.socket.close()

    assert questions == [b'{"bytes": 2097152}\n']


def test_interrupted_request_gives_its_memory_up(tmp_path: Path) -> None:
    """Memory into which the server may still write is not used for another request."""
    path = tmp_path / "s"

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)

    with side_server(path, b'{"token": "t"}\n') as questions, ScriptedServer(script, path=path) as server:
        transport = SocketTransport(Endpoint.parse(server.url))
        for _ in range(2):
            with pytest.raises(TransportError):
                transport.send(LARGE, 5.0)
        assert b"x-matfn-segment: t 1048579" in server.requests[0]

    assert len(questions) == 2


def test_ended_side_connection_is_replaced(tmp_path: Path) -> None:
    """Memory whose connection the server has ended is not used again."""
    path = tmp_path / "s"
    owner = Segments(str(path), lambda: 0.0)
    with side_server(path, b'{"token": "t"}\n') as questions:
        segment = owner.take(1 << 20, None)
        assert segment is not None
        owner.put(segment)
        segment.socket.shutdown(socket.SHUT_RDWR)
        other = owner.take(1 << 20, None)
        assert other is not None
        assert other is not segment
        other.socket.close()

    assert len(questions) == 2


def test_answer_beyond_the_memory_is_a_protocol_error(tmp_path: Path) -> None:
    """A server that claims to have written more than there is breaks the protocol."""
    path = tmp_path / "s"
    with side_server(path, b'{"token": "t"}\n'):
        segment = Segments(str(path), lambda: 0.0).take(1 << 20, None)
        assert segment is not None
        with segment.socket, pytest.raises(ProtocolError, match="2097153 bytes of 2097152"):
            segment.fetched(Response(200, {"x-matfn-segment": "2097153"}, b""))
