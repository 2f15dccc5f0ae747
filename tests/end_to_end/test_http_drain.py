"""SIGTERM ends the process with exit code 0 within its drain time, whatever callers are doing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPResponse
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from matfn import wire
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

DRAIN_SECONDS = 3.0


@pytest.fixture
def leaving() -> Iterator[ServerProcess]:
    """A server with a short drain time."""
    with running_server(drain_seconds=str(DRAIN_SECONDS)) as server:
        yield server


def check_end(server: ServerProcess, seconds: float = DRAIN_SECONDS + 2.0) -> None:
    """The process ends with exit code 0 in time and without a traceback."""
    started = time.monotonic()
    assert server.exit_code() == 0
    assert time.monotonic() - started < seconds
    assert not [line for line in server.lines if "exception" in line or line["event"] == "unstructured"]


def body_of(items: int, order: int) -> bytes:
    """A call that takes a while."""
    m = np.random.default_rng(0).standard_normal((items, order, order))
    call = wire.Call("msign", {"m": wire.Tensor("float64", m.shape, m.tobytes())}, {}, {})
    return b"".join(wire.encode_call(call, wire.Media.MSGPACK))


def test_idle_connections_do_not_hold_the_server(leaving: ServerProcess) -> None:
    """Connections that keep alive, or have not finished their first line, are closed at once."""
    with leaving.connect() as speechless:
        speechless.sendall(b"POST /v1/ms")
        idle = HTTPConnection(*leaving.address)
        idle.request("GET", "/healthz")
        assert json.loads(idle.getresponse().read()) == {"state": "ready"}
        leaving.terminate()

        check_end(leaving, seconds=2.0)
        idle.close()


def posted(server: ServerProcess, body: bytes) -> int:
    """The status of the answer to a call."""
    connection = HTTPConnection(*server.address, timeout=30)
    connection.request("POST", "/v1/msign", body, {"Content-Type": "application/msgpack"})
    status = connection.getresponse().status
    connection.close()
    return status


def test_queued_work_is_answered() -> None:
    """What is computed or waits in the queue when the signal comes is answered, if the drain time allows it."""
    with running_server(drain_seconds="25") as server, ThreadPoolExecutor(8) as threads:
        computed = threads.submit(posted, server, body_of(1, 1000))
        while server.get("/v1/status")[1]["batches"]["count"] == 0:
            continue
        queued = [threads.submit(posted, server, body_of(2, 64)) for _ in range(7)]
        while server.get("/v1/status")[1]["queue"]["jobs"] < len(queued):
            assert not computed.done()
        server.terminate()

        assert [call.result() for call in (computed, *queued)] == [200] * 8
        check_end(server, seconds=27.0)


def test_neither_endless_work_nor_a_half_sent_body_holds_the_server(leaving: ServerProcess) -> None:
    """The callers of work that cannot end in time, and of a body that does not come, are told, and the process ends."""
    body = body_of(1, 4000)
    with closing(HTTPConnection(*leaving.address, timeout=30)) as connection, leaving.connect() as sender:
        connection.request("POST", "/v1/msign", body, {"Content-Type": "application/msgpack"})
        while leaving.get("/v1/status")[1]["batches"]["count"] == 0:
            continue
        begin_body(sender)
        sender.sendall(b"{")
        leaving.terminate()
        response = connection.getresponse()

        assert wire.decode_problem(response.read(), response.headers["content-type"]).code == "draining"
        assert json_problem(sender) == (503, "draining")
    check_end(leaving)


def begin_body(sender: socket.socket) -> None:
    """Sends the head of a call, and waits until the server reads its body."""
    sender.sendall(
        b"POST /v1/msign HTTP/1.1\r\nHost: matfn\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert sender.recv(100).startswith(b"HTTP/1.1 100")


def json_problem(sender: socket.socket) -> tuple[int, str]:
    """Status and code of the problem that has come."""
    answer = HTTPResponse(sender)
    answer.begin()
    return answer.status, json.loads(answer.read())["code"]


def test_a_second_signal_tells_those_who_wait() -> None:
    """Everyone whose call is computed, waits, or is on its way gets a problem; then the process ends."""
    body = body_of(1, 1500)
    with running_server(drain_seconds="60") as server, ThreadPoolExecutor(12) as threads, server.connect() as sender:
        codes = [threads.submit(problem_of, server, body) for _ in range(10)]
        while server.get("/v1/status")[1]["queue"]["jobs"] < 9:
            continue
        begin_body(sender)
        server.process.send_signal(signal.SIGINT)
        server.wait_for("draining")
        server.process.send_signal(signal.SIGTERM)

        assert [code.result() for code in codes] == [(503, "draining")] * 10
        assert json_problem(sender) == (503, "draining")
        check_end(server, seconds=10.0)


def test_signals_until_the_end_do_not_change_it(leaving: ServerProcess) -> None:
    """A supervisor that sends signals again and again, also while the process is ending, sees exit code 0."""
    leaving.terminate()
    for number in cycle((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
        if leaving.process.poll() is not None:
            break
        leaving.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            leaving.process.wait(0.005)

    check_end(leaving)


def problem_of(server: ServerProcess, body: bytes) -> tuple[int, str]:
    """Status and code of the problem that a call gets."""
    connection = HTTPConnection(*server.address, timeout=30)
    connection.request("POST", "/v1/msign", body, {"Content-Type": "application/msgpack"})
    response = connection.getresponse()
    problem = wire.decode_problem(response.read(), response.headers["content-type"])
    connection.close()
    return response.status, problem.code


def test_a_hang_up_renews_the_keys(tmp_path: Path) -> None:
    """SIGHUP reads the keys' file again: former keys end, new ones begin, and connections stay.

    A file that is gone, empty or wrong changes no key in force, and one line without keys says why.
    """
    keys = tmp_path / "keys"
    keys.write_text("first")
    with running_server(api_keys_file=str(keys)) as server, server.connect() as connection:
        assert status_with(connection, "first") == 200
        for count, renewed in enumerate(("second", "second, third", "third\nsecond\n"), 1):
            keys.write_text(renewed)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("settings renewed", times=count)

            assert [status_with(connection, key) for key in ("first", "second")] == [401, 200]
            assert status_with(connection, "third") == (401 if renewed == "second" else 200)

        for count, broken in enumerate(("", " , \n", "fourth weight=heavy", None), 1):
            keys.unlink() if broken is None else keys.write_text(broken)
            server.process.send_signal(signal.SIGHUP)
            reason = server.wait_for("settings not renewed", times=count)["reason"]

            assert reason.startswith("MATFN_API_KEYS_FILE=")
            assert "\n" not in reason
            assert "fourth" not in reason
            assert [status_with(connection, key) for key in ("third", "fourth", "")] == [200, 401, 401]


def status_with(connection: socket.socket, key: str) -> int:
    """The status of /v1/status with a key, on a connection that stays open."""
    connection.sendall(f"GET /v1/status HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    response = HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status
