"""Whatever is sent, all processes together stay within MATFN_MEMORY and a quarter more."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn
from matfn import wire
from processes import running_server
from scraped import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import ServerProcess

pytestmark = pytest.mark.timeout(120)

MSGPACK = wire.Media.MSGPACK
MEMORY = 1_200_000_000
BOUND = MEMORY * 1.25


@pytest.fixture(scope="module")
def small_server() -> Iterator[ServerProcess]:
    """A server with little memory, which does not wait long for its readers."""
    with running_server(memory=str(MEMORY), write_idle_seconds="1") as server:
        yield server


@contextmanager
def bounded(server: ServerProcess) -> Iterator[None]:
    """Measures the memory of all processes again and again, and checks the peak."""
    peaks, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            peaks.append(server.resident_bytes_of_all)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    assert max(peaks) < BOUND


def zeros(*shape: int) -> wire.Tensor:
    """A tensor of ones on the diagonal of its matrices where they are square, else of zeros."""
    matrices = np.zeros(shape, np.float32)
    if shape[-1] == shape[-2]:
        matrices[:] = np.eye(shape[-1], dtype=np.float32)
    return wire.Tensor("float32", shape, matrices.tobytes())


def posted(server: ServerProcess, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to a POST."""
    connection = HTTPConnection(*server.address, timeout=60)
    try:
        connection.request("POST", path, body, {"content-type": "application/msgpack"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def triangular(items: int) -> wire.Call:
    """Two triangles and so many empty right-hand sides, which broadcast to twice as many triangles of order 60."""
    return wire.Call("tri_solve", {"t": zeros(2, 1, 60, 60), "b": zeros(1, items, 60, 0)}, {}, {})


def empty(items: int) -> bytes:
    """A body of some hundred bytes whose answer has a matrix of order 256 for each of its empty ones."""
    return b"".join(wire.encode_call(wire.Call("polar", {"m": zeros(items, 0, 256)}, {}, {}), MSGPACK))


def test_many_calls_that_broadcast(small_server: ServerProcess) -> None:
    """All calls of a request are charged before one is broadcast; those without room are told to come again."""
    body = b"".join(wire.encode_calls([triangular(2048)] * 40, MSGPACK))
    with bounded(small_server):
        status, content = posted(small_server, "/v1/calls", body)

    codes = {getattr(answer, "code", "ok") for answer in wire.decode_answers(content, MSGPACK)}
    assert (len(body) < 1_200_000, status) == (True, 200)
    assert codes <= {"ok", "busy", "too_large"}
    assert codes != {"ok"}


@pytest.mark.parametrize("items", [1024, 8192, 32768])
def test_one_call_that_broadcasts(small_server: ServerProcess, items: int) -> None:
    """A call of 28 KB that becomes gigabytes is refused; a smaller one is answered."""
    body = b"".join(wire.encode_call(triangular(items), MSGPACK))
    with bounded(small_server):
        status, _ = posted(small_server, "/v1/tri_solve", body)

    assert status == (200 if items == 1024 else 413)


def test_calls_that_broadcast_side_by_side(small_server: ServerProcess) -> None:
    """Requests that have room one by one have none all at once, and the rest is told to come again."""
    body = b"".join(wire.encode_call(triangular(1500), MSGPACK))
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(posted(small_server, "/v1/tri_solve", body)[0]))
        for _ in range(24)
    ]
    with bounded(small_server):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert set(statuses) <= {200, 429}
    assert 200 in statuses


def test_answers_that_nobody_reads(small_server: ServerProcess) -> None:
    """Unread answers are charged until their callers are dropped; then there is room again."""
    body = empty(50)
    head = b"POST /v1/polar HTTP/1.1\r\nHost: h\r\nContent-Type: application/msgpack\r\nContent-Length: %d\r\n\r\n"
    assert len(body) < 128
    connections = [small_server.connect() for _ in range(8)]
    with bounded(small_server):
        for connection in connections:
            connection.sendall(head % len(body) + body)
        for connection in connections:
            connection.recv(1)
        assert posted(small_server, "/v1/polar", empty(1))[0] in {200, 429}
        small_server.wait_for("answers not read")
        while charged(small_server):
            assert samples(small_server.metrics())['matfn_drops_total{reason="unread"}'] <= 8
        assert posted(small_server, "/v1/polar", body)[0] == 200
    for connection in connections:
        connection.close()


def charged(server: ServerProcess) -> float:
    """Bytes of answers that are charged."""
    return samples(server.metrics())['matfn_charged_bytes{use="answers"}']


@pytest.mark.parametrize("items", [100, 2048])
def test_outputs_of_empty_inputs_count(small_server: ServerProcess, items: int) -> None:
    """Outputs of inputs without a number are charged like others."""
    with bounded(small_server):
        status, _ = posted(small_server, "/v1/polar", empty(items))

    assert status in {200, 413}
    assert (status == 413) == (items == 2048)


@pytest.mark.parametrize("lead", [(), (40, 1), (1, 30)])
def test_broadcast_inputs_have_the_answers_of_whole_ones(small_server: ServerProcess, lead: tuple[int, ...]) -> None:
    """However an input is broadcast, by strides or copied, the answer has the bits of that to whole inputs."""
    rng = np.random.default_rng(3)
    t = np.tril(rng.standard_normal((*lead, 20, 20)), -1) + np.eye(20)
    b = rng.standard_normal((40, 30, 20, 2))
    whole = np.ascontiguousarray(np.broadcast_to(t, (40, 30, 20, 20)))
    with matfn.Client(small_server.url) as client:
        assert np.array_equal(client.tri_solve(t, b), client.tri_solve(whole, b))


def test_bodies_that_never_end(small_server: ServerProcess) -> None:
    """Large bodies that are only announced take no room from small calls; another large one is told to come again."""
    head = b"POST /v1/msign HTTP/1.1\r\nHost: h\r\nContent-Type: application/msgpack\r\nContent-Length: %d\r\n"
    small = b"".join(wire.encode_call(wire.Call("msign", {"m": zeros(3, 3)}, {}, {}), MSGPACK))
    connections = [small_server.connect() for _ in range(3)]
    with bounded(small_server):
        for connection in connections:
            connection.sendall(head % 70_000_000 + b"Expect: 100-continue\r\n\r\n")
        replies = sorted(connection.recv(12) for connection in connections)
        assert posted(small_server, "/v1/msign", small)[0] == 200
    for connection in connections:
        connection.close()

    assert replies == [b"HTTP/1.1 100", b"HTTP/1.1 429", b"HTTP/1.1 429"]
