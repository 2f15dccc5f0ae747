"""Workers that are killed or stopped at bad moments: the server is ready again, and every call has an answer."""

from __future__ import annotations

import os
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import matfn
from processes import ServerProcess, running_server
from scraped import samples

CALLERS = 4
ROUNDS = 3


def workers_of(server: ServerProcess) -> list[int]:
    """The process numbers of the server's workers.

    A child that has not yet begun the worker's program shares the server's memory, and the system holds the server
    until it has: a child stopped in that moment stops the server too.
    """
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(number) for number in children.read_text().split() if _is_worker(number)]


def _is_worker(number: str) -> bool:
    try:
        return b"matfn_service.worker" in Path(f"/proc/{number}/cmdline").read_bytes()
    except FileNotFoundError:  # it has ended
        return False


def lost(server: ServerProcess, reason: str) -> float:
    """How many workers were lost for a reason."""
    return samples(server.metrics())[f'matfn_workers_lost_total{{reason="{reason}"}}']


def test_a_worker_lost_during_warm_up_is_made_up_for() -> None:
    """The warm-up begins anew however a worker was lost, and the server becomes ready."""
    server = ServerProcess()
    try:
        server.url = str(server.wait_for("listening")["url"])
        # the worker's task is tried twice, then the warm-up is
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGKILL):
            (worker,) = workers_of(server)
            os.kill(worker, number)
            server.wait_for("worker lost", pid=worker)
            while not workers_of(server):  # another one is started at once
                continue
        server.wait_for("ready")

        assert server.get("/readyz") == (200, {"state": "ready"})
        with matfn.Client(server.url) as client:
            np.testing.assert_allclose(client.msign(2 * np.eye(3)), np.eye(3))
    finally:
        server.stop()


def test_a_killed_worker_costs_nobody_an_answer() -> None:
    """While callers wait, a worker is killed, in several rounds; each time it is replaced, and everyone is answered."""
    m = np.random.default_rng(0).standard_normal((2, 128, 128))
    with (
        running_server(workers="2") as server,
        matfn.Client(server.url) as client,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        before, first = workers_of(server), client.msign(m)
        for turn in range(ROUNDS):  # all calls of a round end in it: one that loses its second worker has no answer
            answers = [callers.submit(client.msign, m) for _ in range(2 * CALLERS)]
            answers[0].result()
            os.kill(workers_of(server)[turn % 2], signal.SIGKILL)
            assert all(np.allclose(answer.result(), first, atol=1e-12) for answer in answers)
        while samples(server.metrics())["matfn_workers_alive"] < 2:
            continue

        assert len(workers_of(server)) == 2
        assert workers_of(server) != before
        assert 1 <= lost(server, "killed") <= ROUNDS  # one that idles may not be missed yet


def test_a_stopped_worker_is_replaced(server: ServerProcess) -> None:
    """Calls of a stopped worker are answered by the one that replaces it; /readyz tells while there is none."""
    m = np.random.default_rng(0).standard_normal((2, 32, 32))
    with matfn.Client(server.url) as client, ThreadPoolExecutor(4) as callers:
        expected, before = client.msign(m), lost(server, "stopped")
        os.kill(workers_of(server)[0], signal.SIGSTOP)
        answers = [callers.submit(client.msign, m) for _ in range(4)]
        while lost(server, "stopped") == before:
            assert server.get("/readyz")[0] in {200, 503}

        assert all(np.array_equal(answer.result(), expected) for answer in answers)
        assert server.get("/readyz") == (200, {"state": "ready"})


def test_a_call_that_loses_its_worker_twice_is_told_so(server: ServerProcess) -> None:
    """It has a code of its own, and the call after it is answered."""
    m = np.random.default_rng(0).standard_normal((1200, 1200))
    with matfn.Client(server.url, max_retries=0) as client, ThreadPoolExecutor(1) as caller:
        batches, before = client.status()["batches"]["count"], lost(server, "killed")
        answer = caller.submit(client.msign, m, precision="fp64")
        while client.status()["batches"]["count"] == batches:
            continue
        for number in range(2):
            (worker,) = workers_of(server)
            os.kill(worker, signal.SIGKILL)
            while lost(server, "killed") == before + number:
                continue

        with pytest.raises(matfn.WorkerLost) as caught:
            answer.result()
        assert caught.value.status == 500
        np.testing.assert_allclose(client.msign(2 * np.eye(3)), np.eye(3))


def test_workers_end_with_a_killed_server() -> None:
    """A server that is killed leaves no process behind, whether its worker can act or is stopped."""
    with running_server(workers="2") as server:
        numbers = workers_of(server)
        workers = [os.pidfd_open(number) for number in numbers]
        os.kill(numbers[0], signal.SIGSTOP)
        server.process.kill()

        for worker in workers:
            assert select.select([worker], [], [], 20)[0], "a process descriptor is readable once the process has ended"
            os.close(worker)
