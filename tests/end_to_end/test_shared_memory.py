"""Large bodies pass through memory that a server on this machine shares with its clients."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from matfn.segments import HANDSHAKE_S, SEGMENT_GONE, Segments, open_unix, side_path
from processes import ServerProcess, running_server
from scripted import matrices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 2**20
MOST, MOST_OF_ONE = 24 * MIB, 16 * MIB


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server listens."""
    return tmp_path_factory.mktemp("sockets") / "matfn.sock"


@pytest.fixture(scope="module", autouse=True)
def server(path: Path) -> Iterator[ServerProcess]:
    """A server that shares little memory."""
    with running_server(uds=str(path), shared_bytes=str(MOST), shared_client_bytes=str(MOST_OF_ONE)) as server:
        yield server


def segments_of(client: matfn.Client) -> list[Any]:
    """The shared memory that a client keeps."""
    return list(client._transport.transport._segments._pool.kept)  # type: ignore[attr-defined]


@contextmanager
def by_socket(path: Path) -> Iterator[matfn.Client]:
    """A client that shares no memory."""
    with matfn.Client(f"unix://{path}") as client:
        client._transport.transport._segments = Segments(None, lambda: 0.0)  # type: ignore[attr-defined]
        yield client


@contextmanager
def asked(path: Path, question: bytes) -> Iterator[tuple[dict[str, str], list[int]]]:
    """The reply to a question at the side socket, and the descriptors with it, for as long as the connection lasts."""
    with open_unix(side_path(path), 10.0) as side:
        side.sendall(question)
        said, descriptors, _, _ = socket.recv_fds(side, 4096, 1)
        try:
            yield json.loads(said), descriptors
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


class UnixConnection(HTTPConnection):
    """HTTP to a unix socket."""

    def connect(self) -> None:
        """Connects to the path that stands for the host."""
        self.sock = open_unix(self.host, 10.0)


def posted(path: Path, claim: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a call whose body is said to lie in shared memory."""
    with closing(UnixConnection(str(path))) as connection:
        headers = {"Content-Type": wire.Media.MSGPACK, "X-Matfn-Segment": claim}
        connection.request("POST", "/v1/msign", body or None, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def test_same_bits_as_through_the_socket(path: Path) -> None:
    """A client shares memory by itself, keeps it, and gets the bits that pass through the socket otherwise."""
    m, other = np.random.default_rng(0).standard_normal((2, 40, 80, 80))
    with matfn.Client(f"unix://{path}") as client, by_socket(path) as plain:
        expected = [plain.msign(m), plain.msign(other)]
        found = [client.msign(m), client.msign(other)]
        together = client.map([matfn.call.msign(m), matfn.call.msign(other)])
        tokens = {segment.token for segment in segments_of(client)}

    for values in (found, together):
        np.testing.assert_array_equal(values, expected)
    assert len(tokens) == 1


def test_large_bodies_have_the_same_bits(path: Path) -> None:
    """Bodies and answers that are copied by several threads arrive whole."""
    w_q, w_k = np.random.default_rng(0).standard_normal((2, 12, 128, 1024), "f4")
    logits = np.linspace(50, 200, 12, dtype="f4")
    with matfn.Client(f"unix://{path}") as client, by_socket(path) as plain:
        expected, found = plain.qk_clip(w_q, w_k, logits), client.qk_clip(w_q, w_k, logits)

        assert segments_of(client)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_async_client_shares_memory(path: Path) -> None:
    """Concurrent tasks get the bits that pass through the socket otherwise."""
    m = np.random.default_rng(0).standard_normal((3, 40, 80, 80))

    async def ask() -> list[Any]:
        async with matfn.AsyncClient(f"unix://{path}") as client:
            found = await asyncio.gather(*(client.msign(part) for part in m))
            kept = client._transport.transport._segments._pool.kept  # type: ignore[attr-defined]
            assert kept
            return list(found)

    with by_socket(path) as plain:
        expected = [plain.msign(part) for part in m]

    np.testing.assert_array_equal(asyncio.run(ask()), expected)


def test_answers_outlive_the_memory(path: Path) -> None:
    """An answer is the caller's: neither the next answer nor the end of the client changes it."""
    m = np.random.default_rng(0).standard_normal((40, 80, 80))
    with matfn.Client(f"unix://{path}") as client:
        first = client.msign(m)
        before = first.copy()
        client.msign(-m)

    np.testing.assert_array_equal(first, before)


def test_small_bodies_take_the_socket(path: Path) -> None:
    """Nothing is shared for a body below a MiB."""
    with matfn.Client(f"unix://{path}") as client:
        client.msign(np.eye(100))

        assert not segments_of(client)


def test_memory_grows_to_the_answers(path: Path) -> None:
    """An answer that does not fit passes through the socket, and the next one has room."""
    a = np.eye(80) + np.zeros((40, 1, 1))
    with matfn.Client(f"unix://{path}") as client:
        first = client.sqrt_pair(a)
        assert not segments_of(client)
        second = client.sqrt_pair(a)
        (segment,) = segments_of(client)

    np.testing.assert_array_equal(first, second)
    assert len(segment.memory) > 2 * a.nbytes


def test_client_whose_memory_is_gone_falls_back(path: Path) -> None:
    """A server that does not know the memory says so, and the call goes through the socket."""
    m = np.random.default_rng(0).standard_normal((40, 80, 80))
    with matfn.Client(f"unix://{path}") as client:
        expected = client.msign(m)
        segments_of(client)[0].token += "x"
        found = client.msign(m)

        assert not segments_of(client)
    np.testing.assert_array_equal(found, expected)


def test_client_beyond_the_bound_falls_back(path: Path) -> None:
    """A body that is larger than what may be shared passes through the socket."""
    m = np.random.default_rng(0).standard_normal((260, 90, 90))
    assert m.nbytes > MOST_OF_ONE
    with matfn.Client(f"unix://{path}") as client, by_socket(path) as plain:
        np.testing.assert_array_equal(client.msign(m), plain.msign(m))

        assert not segments_of(client)


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (b'{"bytes": %d}\n' % (MOST_OF_ONE + 1), "too_large"),
        (b'{"bytes": 0}\n', "malformed"),
        (b'{"bytes": true}\n', "malformed"),
        (b"[]\n", "malformed"),
        (b"\xff\n", "malformed"),
    ],
)
def test_bad_question_is_refused_in_words(path: Path, question: bytes, code: str) -> None:
    """Too much memory, and what is no question, get a code and a sentence."""
    with asked(path, question) as (reply, descriptors):
        assert reply["code"] == code
        assert str(MOST_OF_ONE) in reply["detail"] or code == "malformed"
        assert not descriptors


def test_memory_is_bounded_and_freed(path: Path) -> None:
    """A process that has all that it may have is refused until one of its connections ends."""
    question = b'{"bytes": %d}\n' % (MOST_OF_ONE // 2)
    with asked(path, question) as (_, first), asked(path, question) as (_, second):
        with asked(path, question) as (refused, none):
            assert refused["code"] == "busy"
            assert "MATFN_SHARED_CLIENT_BYTES" in refused["detail"]
        assert [len(first), len(second), len(none)] == [1, 1, 0]

    while True:  # the server hears of the ends in its own time
        with asked(path, question) as (reply, _):
            if "token" in reply:
                return


def test_memory_cannot_be_cut(path: Path) -> None:
    """A client that cuts or extends the memory is stopped by the system, and its request is answered."""
    with asked(path, b'{"bytes": 4096}\n') as (reply, (descriptor,)):
        for size in (0, 8192):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
        call = wire.Call("msign", {"m": matrices(3, 3)}, {}, {})
        length = os.pwritev(descriptor, wire.encode_call(call, wire.Media.MSGPACK), 0)

        assert posted(path, f"{reply['token']} {length}")[0] == 200


def test_large_answer_lies_in_the_memory(path: Path) -> None:
    """The response says how long the answer in the memory is, and has no body."""
    call = wire.Call("msign", {"m": matrices(90, 90)}, {}, {})
    with asked(path, b'{"bytes": 1048576}\n') as (reply, (descriptor,)):
        length = os.pwritev(descriptor, wire.encode_call(call, wire.Media.MSGPACK), 0)
        status, headers, body = posted(path, f"{reply['token']} {length}")
        answer = os.pread(descriptor, int(headers["x-matfn-segment"]), 0)

    assert (status, headers["content-length"], body) == (200, "0", b"")
    assert wire.decode_answer(answer, wire.Media.MSGPACK).outputs["x"].shape == (90, 90)


def test_token_of_an_ended_connection_is_refused(path: Path) -> None:
    """A token is worth nothing once its connection has ended, and a made-up one never was."""
    with asked(path, b'{"bytes": 4096}\n') as (reply, _):
        token = reply["token"]
    while posted(path, f"{token} 100")[0] != SEGMENT_GONE:
        continue
    status, headers, body = posted(path, "x 100")

    assert status == SEGMENT_GONE
    assert wire.decode_problem(body, headers["content-type"]).code == "malformed"


def test_body_beyond_the_memory_is_refused(path: Path) -> None:
    """A length that exceeds the memory is refused in words."""
    with asked(path, b'{"bytes": 4096}\n') as (reply, _):
        status, headers, body = posted(path, f"{reply['token']} 4097")

    assert status == 400
    assert "4097 bytes" in wire.decode_problem(body, headers["content-type"]).detail


@pytest.mark.parametrize("claim", ["", "token", "token -1", "token 1 2", "token ٣"])
def test_odd_claim_is_no_claim(path: Path, claim: str) -> None:
    """A header that names no memory counts as absent, and the body as sent."""
    call = wire.encode_call(wire.Call("msign", {"m": matrices(3, 3)}, {}, {}), wire.Media.MSGPACK)

    assert posted(path, claim.encode().decode("latin-1"), b"".join(call))[0] == 200


def test_silent_connection_is_closed(path: Path) -> None:
    """A connection that asks for nothing is closed within the time of a handshake."""
    with open_unix(side_path(path), 10 * HANDSHAKE_S) as side:
        assert side.recv(1) == b""


@pytest.mark.parametrize("second", [b"x" * 300, b'{"bytes": 4096}\n'])
def test_talkative_connection_is_closed(path: Path, second: bytes) -> None:
    """More than one question, or an endless one, ends the connection."""
    with open_unix(side_path(path), 10.0) as side:
        side.sendall(b'{"bytes": 4096}\n')
        socket.recv_fds(side, 4096, 0)
        side.sendall(second)

        assert side.recv(1) == b""


def test_side_socket_is_the_owners_and_goes_with_the_server(tmp_path: Path) -> None:
    """No other user may connect, and nothing is left behind."""
    path = tmp_path / "s"
    with running_server(uds=str(path)) as server:
        mode = os.stat(side_path(path)).st_mode & 0o777  # noqa: PTH116 - the path is a string
        with asked(path, b'{"bytes": 4096}\n'):
            server.terminate()

            assert (mode, server.exit_code()) == (0o600, 0)
        assert list(tmp_path.iterdir()) == []
        assert not [line for line in server.lines if "exception" in line or line["event"] == "unstructured"]


def test_server_that_shares_nothing(tmp_path: Path) -> None:
    """Without memory to share there is no side socket, and clients do without."""
    m = np.random.default_rng(0).standard_normal((40, 80, 80))
    with running_server(uds=str(tmp_path / "s"), shared_bytes="0"):
        with matfn.Client(f"unix://{tmp_path / 's'}") as client:
            assert client.msign(m).shape == m.shape
        assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
