"""What a fault costs those who have nothing to do with it, on a real server process: nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from faulty_server import HOLD, RAISE, SHORTAGE
from matfn import wire
from processes import ServerProcess, running_server
from scraped import moved, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

ORDER = 6
INNOCENTS = 8
ROUNDS = 3


@pytest.fixture(scope="module")
def faulty() -> Iterator[ServerProcess]:
    """A server whose device does as matrices say."""
    with running_server(Path(__file__).parents[1] / "support" / "faulty_server.py") as server:
        yield server


@pytest.fixture
def client(faulty: ServerProcess) -> Iterator[matfn.Client]:
    """A client that takes the first answer."""
    with matfn.Client(faulty.url, max_retries=0) as client:
        yield client


def matrix(entry: float, order: int = ORDER) -> NDArray[np.float64]:
    """A matrix with an entry that only it has; a clipping without bounds gives it back."""
    a = np.random.default_rng(0).standard_normal((order, order))
    a[0, 0] = entry
    return a


def copied(client: matfn.Client, entry: float, order: int = ORDER) -> bool:
    """Whether a matrix comes back as it was sent."""
    a = matrix(entry, order)
    return bool(np.allclose(client.mclip(a, hi=None), a, rtol=1e-8))


def cut_short(client: matfn.Client) -> bool:
    """Sends a tensor with fewer bytes than its shape has."""
    tensor = {"dtype": "float64", "shape": [ORDER, ORDER], "data": bytes(8 * ORDER**2 - 1)}
    return raw_status(client, {"inputs": {"m": tensor}}) == 400


def raw_status(client: matfn.Client, tree: dict[str, Any]) -> int:
    """The status of an answer to a body that no client would send."""
    import http.client

    import msgpack

    host, _, port = client._session.endpoints[0].authority.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("POST", "/v1/mclip", msgpack.packb(tree), {"Content-Type": wire.Media.MSGPACK})
    status = connection.getresponse().status
    connection.close()
    return status


def raises(code: str, entry: float) -> Callable[[matfn.Client], bool]:
    """A call that is refused with this code."""

    def send(client: matfn.Client) -> bool:
        with pytest.raises(matfn.ProblemError) as caught:
            client.mclip(matrix(entry), hi=None)
        return caught.value.code == code

    return send


@contextmanager
def held(server: ServerProcess, client: matfn.Client, threads: ThreadPoolExecutor) -> Iterator[None]:
    """Keeps the device busy meanwhile."""
    before = client.status()["batches"]["count"]
    blocker = threads.submit(copied, client, HOLD)
    until(lambda: client.status()["batches"]["count"] > before)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGUSR1)
        assert blocker.result(timeout=30)


def until(condition: Callable[[], object]) -> None:
    """Asks the server again until it says so; the test's own time limit ends it."""
    while not condition():
        continue


FAULTS: dict[str, tuple[Callable[[matfn.Client], bool], int]] = {
    "another shape": (lambda client: copied(client, 1.0, order=ORDER + 1), 1),
    "a short body": (cut_short, 0),
    "not a number": (raises("not_finite", np.nan), 0),
    "a kernel that raises": (raises("internal", RAISE), 1),
    "no memory": (raises("out_of_memory", SHORTAGE), 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_innocents_are_answered(faulty: ServerProcess, client: matfn.Client, fault: str) -> None:
    """Eight calls that wait together with a bad one get their own answers, and the bad one what it deserves."""
    send, waiting = FAULTS[fault]
    with ThreadPoolExecutor(INNOCENTS + 2) as threads:
        for number in range(ROUNDS):
            with held(faulty, client, threads):
                bad = threads.submit(send, client)
                good: list[Future[bool]] = [
                    threads.submit(copied, client, 10.0 * number + entry) for entry in range(INNOCENTS)
                ]
                until(lambda: client.status()["queue"]["jobs"] == INNOCENTS + waiting)
            assert [future.result(timeout=30) for future in good] == [True] * INNOCENTS
            assert bad.result(timeout=30)


@pytest.mark.parametrize(
    ("fault", "series"),
    [
        ("a kernel that raises", 'matfn_calls_total{code="internal",function="mclip"}'),
        ("a kernel that raises", "matfn_isolated_failures_total"),
        ("no memory", 'matfn_calls_total{code="out_of_memory",function="mclip"}'),
        ("no memory", "matfn_halvings_total"),
        ("not a number", 'matfn_calls_total{code="not_finite",function="mclip"}'),
        ("a short body", 'matfn_calls_total{code="malformed",function="mclip"}'),
    ],
)
def test_faults_are_counted(faulty: ServerProcess, client: matfn.Client, fault: str, series: str) -> None:
    """A fault shows once in the metric that is for it."""
    before = samples(faulty.metrics())
    assert FAULTS[fault][0](client)

    assert moved(before, samples(faulty.metrics()))[series] == 1.0


VICTIM = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
message = sys.stdin.buffer.read()
connection.sendall(message)
print("sent", flush=True)
connection.recv(1)
"""


def request_of(order: int) -> bytes:
    """A whole HTTP request."""
    call = wire.Call("mclip", {"m": wire.Tensor("float64", (order, order), matrix(1.0, order).tobytes())}, {}, {})
    body = b"".join(wire.encode_call(call, wire.Media.MSGPACK))
    head = f"POST /v1/mclip HTTP/1.1\r\nHost: m\r\nContent-Type: {wire.Media.MSGPACK}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def start(server: ServerProcess, message: bytes) -> subprocess.Popen[bytes]:
    """A process that sends so much and waits for an answer."""
    host, port = server.address
    command = [sys.executable, "-I", "-S", "-c", VICTIM, host, str(port)]
    victim = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert victim.stdin is not None
    victim.stdin.write(message)
    victim.stdin.close()
    return victim


def kill(victims: list[subprocess.Popen[bytes]]) -> None:
    """Ends processes at once, after what they had to send has gone."""
    for victim in victims:
        assert victim.stdout is not None
        with victim.stdout as told:
            assert told.readline() == b"sent\n"
        victim.kill()
    for victim in victims:
        victim.wait()


@pytest.mark.parametrize("share", [0.5, 1.0], ids=["in the middle of the body", "in the middle of the wait"])
def test_killed_callers_leave_nothing_behind(faulty: ServerProcess, client: matfn.Client, share: float) -> None:
    """After callers were killed nothing waits, nothing is kept, and the next call is answered."""
    message = request_of(256)
    callers = 4
    resident: list[int] = []
    for _ in range(ROUNDS):
        with ThreadPoolExecutor(1) as threads, held(faulty, client, threads):
            victims = [start(faulty, message[: int(share * len(message))]) for _ in range(callers)]
            if share == 1.0:
                until(lambda: client.status()["queue"]["jobs"] == callers)
            kill(victims)
            until(lambda: client.status()["queue"]["jobs"] == 0)
        assert copied(client, 1.0)
        assert client.status()["queue"]["bytes"] == 0
        resident.append(faulty.resident_bytes)

    assert max(resident[1:]) <= 1.05 * resident[0]
