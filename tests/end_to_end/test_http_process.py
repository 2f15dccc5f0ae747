"""The real process: callers who leave it, sockets it listens on, what it says of itself."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn
from matfn import wire
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from pathlib import Path


def request_of(order: int) -> bytes:
    """A whole HTTP request with a call that takes longer the larger its order."""
    m = np.random.default_rng(0).standard_normal((order, order))
    call = wire.Call("msign", {"m": wire.Tensor("float64", m.shape, m.tobytes())}, {}, {"precision": "fp64"})
    body = b"".join(wire.encode_call(call, wire.Media.MSGPACK))
    lines = [
        "POST /v1/msign HTTP/1.1",
        "Host: m",
        f"Content-Type: {wire.Media.MSGPACK}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("half", [False, True])
def test_caller_who_left_is_dropped_and_logged_nowhere(server: ServerProcess, half: bool) -> None:
    """A close, or a half-close, in the middle of the work costs the device nothing more and shows no traceback."""
    with matfn.Client(server.url) as client, server.connect() as busy, server.connect() as leaver:
        before = client.status()
        busy.sendall(request_of(order=800))
        while client.status()["batches"]["count"] == before["batches"]["count"]:
            continue
        leaver.sendall(request_of(order=64))
        while not client.status()["queue"]["jobs"]:
            continue
        leaver.shutdown(socket.SHUT_WR) if half else leaver.close()
        while client.status()["queue"]["jobs"]:
            continue
        dropped = client.status()["counters"]["dropped_disconnected"]

        assert dropped == before["counters"]["dropped_disconnected"] + 1
        assert busy.recv(12) == b"HTTP/1.1 200"

    assert not [line for line in server.lines if "exception" in line or line["event"] == "unstructured"]


def test_triangles_have_the_answers_of_whole_matrices(server: ServerProcess) -> None:
    """A client that sends triangles gets the same bits as one that does not, alone and in a map."""
    g = np.random.default_rng(0).standard_normal((3, 70, 70))
    a = np.eye(70) + g @ g.swapaxes(1, 2) / 70
    calls = [matfn.call.inv_root(a, 4), matfn.call.msign(g)]
    with matfn.Client(server.url) as plain, matfn.Client(server.url, triangles=True) as told:
        expected = [plain.inv_root(a, 4), plain.msign(g)]
        alone, together = [told.inv_root(a, 4), told.msign(g)], told.map(calls)

    np.testing.assert_array_equal(alone[0], expected[0])
    np.testing.assert_array_equal(alone[1], expected[1])
    np.testing.assert_array_equal(together[0], expected[0])
    np.testing.assert_array_equal(together[1], expected[1])


def test_unix_socket(tmp_path: Path) -> None:
    """A server on a unix socket answers there; Ctrl-C ends it like SIGTERM does, and the socket is gone.

    Another server on the socket ends with exit code 1 and one line, and the first goes on.
    """
    path = tmp_path / "matfn.sock"
    with running_server(uds=str(path)) as server:
        second = ServerProcess(uds=str(path))
        assert second.exit_code() == 1
        assert [(line["event"], line["uds"]) for line in second.lines] == [("cannot listen", str(path))]

        with matfn.Client(f"unix://{path}") as client:
            np.testing.assert_allclose(client.msign(2 * np.eye(3)), np.eye(3))
        server.process.send_signal(signal.SIGINT)

        assert server.exit_code() == 0
        assert not path.exists()


def test_bad_settings_end_the_process() -> None:
    """Settings that cannot be end with exit code 1 and one line, and no traceback."""
    server = ServerProcess(port="abc")

    assert server.exit_code() == 1
    assert [line["line"] for line in server.lines] == [
        "matfn serve: MATFN_PORT=abc: must be a whole number of at least 0 and at most 65535\n"
    ]


def test_warnings_do_not_hold_the_start(tmp_path: Path) -> None:
    """Listening beyond this machine without keys, and a cache that cannot be written, cost a warning each."""
    (tmp_path / "file").touch()
    with running_server(host="0.0.0.0", cache_dir=str(tmp_path / "file" / "cache")) as server:  # noqa: S104 - the point of the test
        assert server.wait_for("open to the network without keys")["level"] == "warning"
        assert server.wait_for("kernels compiled for a GPU will not be kept")["level"] == "warning"


def test_process_keeps_its_pages(server: ServerProcess) -> None:
    """The server runs with a malloc that keeps its pages."""
    with open(f"/proc/{server.process.pid}/environ", "rb") as environment:  # noqa: PTH123 - a file of the kernel
        names = {entry.partition(b"=")[0] for entry in environment.read().split(b"\0")}

    assert {b"MALLOC_MMAP_THRESHOLD_", b"MALLOC_TRIM_THRESHOLD_", b"MALLOC_TOP_PAD_"} <= names


def test_process_uses_the_fast_loop_and_parser(server: ServerProcess) -> None:
    """The server runs on uvloop and httptools."""
    with open(f"/proc/{server.process.pid}/maps") as maps:  # noqa: PTH123 - a file of the kernel
        loaded = maps.read()

    assert "/uvloop/loop." in loaded
    assert "/httptools/parser/" in loaded
