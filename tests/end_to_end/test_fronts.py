"""Several processes that hold connections: one queue, one set of limits and the same bits behind all of them."""

from __future__ import annotations

import base64
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from connections import Caller, fronts_of, one_of_each
from matfn import wire
from processes import ServerProcess, running_server
from scraped import samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FRONTS = 2
KEYS = "k1 name=one requests=1,k2 name=other"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server with a front."""
    with running_server(fronts=str(FRONTS)) as server:
        yield server


def spd(n: int, items: int = 1, seed: int = 0) -> np.ndarray:
    """Positive definite matrices."""
    a = np.random.default_rng(seed).standard_normal((items, n, n))
    matrices: np.ndarray = a @ a.transpose(0, 2, 1) + np.eye(n)
    return matrices


def test_log_says_once_that_all_take_calls(server: ServerProcess) -> None:
    """It is ready when every front has said that it listens."""
    events = [line["event"] for line in server.lines]

    assert events.count("ready") == 1
    assert "ready" not in events[: max(at for at, event in enumerate(events) if event == "front listening")]


CALLS = [
    ("/v1/inv_root", {"inputs": {"a": spd(12)[0].tolist()}, "params": {"r": 4}}),
    ("/v1/eigh", {"inputs": {"a": spd(9)[0].tolist()}}),
    ("/v1/verify/inv_root", {"inputs": {"a": [[4.0]], "x": [[0.5]]}, "params": {"r": 2}}),
    ("/v1/vjp/log", {"inputs": {"a": spd(5)[0].tolist()}, "cotangents": {"x": np.eye(5).tolist()}}),
    ("/v1/calls", {"calls": [{"function": "msign", "inputs": {"m": spd(6)[0].tolist()}}, {"function": "nothing"}]}),
    ("/v1/inv_root", {"inputs": {"a": (-spd(3)[0]).tolist()}, "params": {"r": 2}}),
    ("/v1/inv_root", {"inputs": {"a": [[1.0, 2.0]]}, "params": {"r": 2}}),
    ("/v1/nothing", {}),
]


@pytest.mark.parametrize(("path", "document"), CALLS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_process_answers_alike(server: ServerProcess, path: str, document: dict[str, Any]) -> None:
    """Answers, certificates and problems differ in nothing but times and names."""
    with one_of_each(server) as callers:
        answers = [caller.post(path, document) for caller in callers]

    said = [(status, _lasting(content)) for status, content in answers]
    assert all(one == said[0] for one in said)


def _lasting(content: Any) -> Any:
    """What an answer says that is the same every time."""
    if isinstance(content, list):
        return [_lasting(entry) for entry in content]
    if not isinstance(content, dict):
        return content
    return {name: _lasting(value) for name, value in content.items() if name not in {"timing", "request_id"}}


@pytest.mark.parametrize("path", ["/", "/v1/functions", "/healthz", "/readyz", "/openapi.json", "/nowhere"])
def test_every_process_reports_alike(server: ServerProcess, path: str) -> None:
    """What is read comes from the server itself, by whichever process it is asked."""
    with one_of_each(server) as callers:
        answers = [caller.get(path) for caller in callers]

    if path != "/nowhere":  # whose problem names the request
        assert all(answer == answers[0] for answer in answers)
    assert {status for status, _ in answers} == {404 if path == "/nowhere" else 200}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("items", [1, 12])
def test_large_calls_keep_their_bits(server: ServerProcess, dtype: type, items: int) -> None:
    """Bodies and answers of more than a megabyte lie in shared memory, and are used again for the next ones."""
    matrices: np.ndarray = spd(300, items).astype(dtype)
    with matfn.LocalClient(device="cpu") as local:
        expected = local.sqrt_pair(matrices)

    for _ in range(2 * FRONTS):  # a new connection each, so that all processes have their turn
        with matfn.Client(server.url) as client:
            found = client.sqrt_pair(matrices)
            assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_calls_of_all_processes_share_batches(server: ServerProcess) -> None:
    """While the one worker computes, calls of every process wait in one queue."""
    long = {"inputs": {"a": tensor(spd(512, 6))}, "params": {"r": 4}}
    short = {"inputs": {"a": spd(16)[0].tolist()}, "params": {"r": 4}}

    with (
        one_of_each(server) as callers,
        closing(Caller(server)) as another,
        closing(Caller(server)) as third,
        ThreadPoolExecutor(2 + FRONTS) as threads,
    ):
        sizes = [1]
        while max(sizes) == 1:  # where the long calls end before the others come, they have another turn
            before = [threads.submit(caller.post, "/v1/inv_root", long) for caller in (another, third)]
            while not (server.get("/v1/status")[1]["queue"]["jobs"] or all(one.done() for one in before)):
                pass  # the worker computes one, and the other waits
            shorter = [threads.submit(caller.post, "/v1/inv_root", short) for caller in callers]
            sizes = [answer.result()[1]["timing"]["batch_size"] for answer in shorter]
            assert [one.result()[0] for one in before] == [200, 200]


def tensor(values: np.ndarray) -> dict[str, Any]:
    """A tensor in JSON whose numbers are octets, which are read at once."""
    data = base64.b64encode(values.tobytes()).decode()
    return {"dtype": values.dtype.name, "shape": values.shape, "data": data}


def test_counters_are_sums_over_all_processes(server: ServerProcess) -> None:
    """A scrape soon has the calls that other processes have answered."""
    before = _norms(server)

    with one_of_each(server) as callers:
        for caller in callers:
            assert caller.post("/v1/norm2", {"inputs": {"m": [[2.0]]}})[0] == 200

    while (counted := _norms(server)) < before + FRONTS:  # pytest's own limit ends a wait in vain
        pass
    assert counted == before + FRONTS


def test_memory_of_all_processes_is_in_the_metrics(server: ServerProcess) -> None:
    """Half a body is charged wherever it waits, and nowhere once its sender has left."""
    head = b"POST /v1/msign HTTP/1.1\r\nHost: x\r\nContent-Type: application/msgpack\r\nContent-Length: 200000\r\n\r\n"
    with ExitStack() as opened:
        for caller in opened.enter_context(one_of_each(server)):
            caller.send_octets(head + bytes(100_000))
        while _arriving(server) < FRONTS * 200_000:  # by the declared length; pytest's own limit ends a wait in vain
            pass
    while _arriving(server):
        pass


def _arriving(server: ServerProcess) -> float:
    """Bytes charged for bodies on their way."""
    return samples(server.metrics())['matfn_charged_bytes{use="arriving"}']


def _norms(server: ServerProcess) -> float:
    """Answered calls of norm2."""
    return samples(server.metrics()).get('matfn_calls_total{code="ok",function="norm2"}', 0.0)


def test_drain_waits_for_the_calls_of_all_processes() -> None:
    """SIGTERM during calls: each is answered, and the server ends well."""
    long = {"inputs": {"a": spd(256, 4).tolist()}, "params": {"r": 4}}
    with running_server(fronts=str(FRONTS)) as server, ThreadPoolExecutor(FRONTS) as threads:
        with one_of_each(server) as callers:
            answers = [threads.submit(caller.post, "/v1/inv_root", long) for caller in callers]
            while server.get("/v1/status")[1]["queue"]["jobs"] < 1:
                assert not all(answer.done() for answer in answers)

            server.terminate()

            assert [answer.result()[0] for answer in answers] == [200] * FRONTS
        assert server.exit_code() == 0


def test_limit_of_a_key_holds_over_all_processes() -> None:
    """A key with one request in flight is refused another one, by whichever process each comes."""
    long = {"inputs": {"a": spd(256, 16).tolist()}, "params": {"r": 4}}
    short = {"inputs": {"m": [[2.0]]}}
    with (
        running_server(fronts=str(FRONTS), api_keys=KEYS) as server,
        ThreadPoolExecutor(1) as threads,
        one_of_each(server) as holders,
        one_of_each(server) as others,
        closing(Caller(server)) as third,
    ):
        for holder in holders:
            before = _batches(third)
            held = threads.submit(holder.post, "/v1/inv_root", long, "k1")
            while _batches(third) == before:
                assert not held.done()

            for other in others:
                status, problem = other.post("/v1/norm2", short, "k1")
                assert status == 429
                assert "requests=1" in problem["detail"]

            assert held.result()[0] == 200
            assert third.post("/v1/norm2", short, "k2")[0] == 200


def _batches(caller: Caller) -> int:
    """How many batches the server has computed or begun."""
    count: int = json.loads(caller.get("/v1/status", "k2")[1])["batches"]["count"]
    return count


def test_renewed_keys_hold_in_all_processes_and_those_to_come(tmp_path: Path) -> None:
    """SIGHUP revokes a key everywhere, in the front that replaces a lost one too; only the server serves gRPC."""
    keys = tmp_path / "keys"
    keys.write_text("first")
    with running_server(fronts=str(FRONTS), api_keys_file=str(keys), grpc_port="0", drain_seconds="1") as server:
        keys.write_text("second")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("front renewed", times=FRONTS - 1)
        assert _status_in_each(server, "first") == {401}
        assert _status_in_each(server, "second") == {200}

        os.kill(fronts_of(server)[0], signal.SIGKILL)
        server.wait_for("front listening", times=FRONTS)
        assert _status_in_each(server, "first") == {401}
        assert _status_in_each(server, "second") == {200}
        assert len([line for line in server.lines if line["event"] == "listening for gRPC"]) == 1


def _status_in_each(server: ServerProcess, key: str) -> set[int]:
    """What every process says to a call with this key."""
    with one_of_each(server) as callers:
        return {caller.post("/v1/norm2", {"inputs": {"m": [[2.0]]}}, key)[0] for caller in callers}


def test_second_signal_tells_those_who_wait_in_all_processes() -> None:
    """Everyone whose call is computed or waits gets a problem, also from a front, before the processes end."""
    m = np.random.default_rng(0).standard_normal((1, 1500, 1500))
    call = wire.Call("msign", {"m": wire.Tensor("float64", m.shape, m.tobytes())}, {}, {})
    body = b"".join(wire.encode_call(call, wire.Media.MSGPACK))
    with running_server(fronts=str(FRONTS), drain_seconds="60") as server, ThreadPoolExecutor(2 * FRONTS) as threads:
        with one_of_each(server) as some, one_of_each(server) as others:
            statuses = [threads.submit(caller.status_of, "/v1/msign", body) for caller in (*some, *others)]
            while server.get("/v1/status")[1]["queue"]["jobs"] < len(statuses) - 1:
                assert not any(status.done() for status in statuses)

            server.terminate()
            server.wait_for("draining", times=FRONTS)
            server.terminate()

            assert [status.result() for status in statuses] == [503] * len(statuses)
        assert server.exit_code() == 0
