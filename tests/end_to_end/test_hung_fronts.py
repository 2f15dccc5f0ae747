"""Fronts that hang, are stopped or are killed: they are replaced, and nobody but their own connections notices."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from connections import Caller, fronts_of, one_of_each
from processes import ServerProcess, running_server
from scraped import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCKED = """
import signal, sys, threading

def spin(*_):
    while True:
        pass

if "matfn_service.fronts.process" in sys.orig_argv:
    signal.signal(signal.SIGUSR1, lambda *_: threading.Event().wait())
    signal.signal(signal.SIGUSR2, spin)
"""
"""Signal handlers of a front, which hold up its loop for good: one waits, one computes."""
NEW_CALLERS = 30
pytestmark = pytest.mark.timeout(180)  # a server, and its fronts once more
SMALL: dict[str, Any] = {"inputs": {"m": [[2.0]]}}
LONG: dict[str, Any] = {"inputs": {"m": np.random.default_rng(0).standard_normal((700, 700)).tolist()}}


@pytest.fixture
def blockable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server whose two fronts hang at SIGUSR1 and SIGUSR2."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    with running_server(fronts="3") as server:
        yield server


def children_of(server: ServerProcess, module: bytes) -> list[int]:
    """Process numbers of the server's children that run this module."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if module in _command_of(pid).split(b"\0")]


def _command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def lost(server: ServerProcess) -> dict[str, float]:
    """How many fronts were lost, by reason."""
    prefix = 'matfn_fronts_lost_total{reason="'
    found = samples(server.metrics()).items()
    return {name.removeprefix(prefix)[:-2]: number for name, number in found if name.startswith(prefix) and number}


def test_fronts_whose_loops_are_held_up_are_replaced(blockable: ServerProcess) -> None:
    """Both at once: the server serves all that come meanwhile, and cuts the connections of the two alone."""
    server = blockable
    hung = fronts_of(server)
    with one_of_each(server) as (own, *theirs):
        for pid, number in zip(hung, (signal.SIGUSR1, signal.SIGUSR2), strict=True):
            os.kill(pid, number)
        for caller in theirs:
            caller.send("/v1/norm2", SMALL)

        for _ in range(NEW_CALLERS):
            with closing(Caller(server)) as new:
                assert new.post("/v1/norm2", SMALL)[0] == 200
                assert new.get("/readyz")[0] == 200
                assert new.process == server.process.pid
        assert lost(server) == {}

        for pid, caller in zip(hung, theirs, strict=True):
            assert server.wait_for("front lost", pid=pid)["reason"] == "hung"
            with pytest.raises(ConnectionError):
                caller.received()
            assert own.get("/readyz")[0] == 200
    assert lost(server) == {"hung": 2}


def test_processes_stopped_for_a_moment_lose_nothing() -> None:
    """A front, the server, and both in either order: calls wait, and no front is lost."""
    with running_server(fronts="2") as server, one_of_each(server) as callers:
        (front,) = fronts_of(server)
        own = server.process.pid
        for stopped in ([front], [own], [front, own], [own, front]):
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            for caller in callers:
                caller.send("/v1/norm2", SMALL)
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

            assert [caller.received()[0] for caller in callers] == [200, 200]
        assert lost(server) == {}


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped")])
def test_no_call_is_lost_with_all_fronts(number: signal.Signals, reason: str) -> None:
    """Under load both are lost at once: clients try again elsewhere, and every answer comes and is right."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200, 48, 48))
    matrices = a @ a.transpose(0, 2, 1) + np.eye(48)
    expected = np.linalg.inv(matrices)
    with running_server(fronts="3") as server, ThreadPoolExecutor(8) as threads:

        def one(which: int) -> np.ndarray:
            with matfn.Client(server.url) as client:
                answer: np.ndarray = client.inv_root(matrices[which], 1)
                return answer

        answers = [threads.submit(one, which) for which in range(len(matrices))]
        answers[20].result()
        for pid in fronts_of(server):
            os.kill(pid, number)

        found = np.stack([answer.result() for answer in answers])
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
        server.wait_for("front listening", times=4)
        assert lost(server) == {reason: 2}
        left = samples(server.metrics())
        assert (left["matfn_queue_jobs"], left["matfn_held_bytes"], left["matfn_fronts_alive"]) == (0, 0, 3)
        with one_of_each(server) as callers:
            assert [caller.post("/v1/norm2", SMALL)[0] for caller in callers] == [200] * 3
        assert len([line for line in server.lines if line["event"] == "ready"]) == 1


def test_jobs_of_a_lost_front_leave_the_queue() -> None:
    """What waits for callers that are gone is not computed, and holds nothing."""
    with running_server(fronts="2") as server, one_of_each(server) as (own, its):
        (worker,) = children_of(server, b"matfn_service.worker")
        os.kill(worker, signal.SIGSTOP)  # until it is replaced, nothing is computed
        own.send("/v1/norm2", SMALL)
        while not samples(server.metrics())["matfn_held_bytes"]:
            assert server.process.poll() is None
        its.send("/v1/norm2", SMALL)
        while not samples(server.metrics())["matfn_queue_jobs"]:
            assert server.process.poll() is None
        os.kill(its.process, signal.SIGKILL)
        server.wait_for("front lost")

        assert samples(server.metrics())['matfn_drops_total{reason="disconnected"}'] == 1
        assert own.received()[0] == 200
        left = samples(server.metrics())
        assert (left["matfn_queue_jobs"], left["matfn_held_bytes"]) == (0, 0)
        assert left['matfn_matrices_total{code="none",function="norm2",outcome="converged"}'] == 1


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM])
def test_front_lost_while_it_starts_is_replaced(number: signal.Signals) -> None:
    """The server takes calls meanwhile, and is ready when the next one serves."""
    server = ServerProcess(fronts="2")
    try:
        server.url = str(server.wait_for("listening")["url"])
        while not (started := children_of(server, b"matfn_service.fronts.process")):
            assert server.process.poll() is None
        os.kill(started[0], number)

        server.wait_for("front lost", pid=started[0])
        with matfn.Client(server.url) as client:
            assert client.msign(np.eye(3)) == pytest.approx(np.eye(3))
        server.wait_for("ready")
        assert len(fronts_of(server)) == 1
        os.kill(fronts_of(server)[0], signal.SIGSTOP)
        server.terminate()
        assert server.exit_code() == 0
    finally:
        server.stop()


def test_front_that_is_stopped_does_not_hold_up_the_end() -> None:
    """Neither before nor during a drain, in which the calls of the other processes are answered."""
    with running_server(fronts="3", drain_seconds="300") as server, one_of_each(server) as (own, early, late):
        os.kill(early.process, signal.SIGSTOP)
        for caller in (own, late):
            caller.send("/v1/msign", LONG)
        server.terminate()
        server.wait_for("draining", times=2)
        os.kill(late.process, signal.SIGSTOP)

        assert own.received()[0] == 200
        assert server.exit_code() == 0
        assert {line["reason"] for line in server.lines if line["event"] == "front lost"} == {"stopped"}
