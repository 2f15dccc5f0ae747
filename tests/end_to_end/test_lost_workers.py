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


def workers_of(server: ServerProcess) -> list[int]:
    """The process numbers of the server's children."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(number) for number in children.read_text().split()]


def lost(server: ServerProcess, reason: str) -> float:
    """How many workers were lost for a reason."""
    return samples(server.metrics())[f'matfn_workers_lost_total{{reason="{reason}"}}']


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_worker_lost_during_warm_up_is_made_up_for(number: signal.Signals) -> None:
    """The warm-up begins anew, and the server becomes ready."""
    server = ServerProcess()
    try:
        server.url = str(server.wait_for("listening")["url"])
        for _ in range(2):  # the worker's task is tried twice, then the warm-up is
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


def test_a_stopped_worker_is_replaced() -> None:
    """Calls of a stopped worker are answered by the one that replaces it; /readyz tells while there is none."""
    m = np.random.default_rng(0).standard_normal((2, 32, 32))
    with running_server() as server, matfn.Client(server.url) as client, ThreadPoolExecutor(4) as callers:
        expected = client.msign(m)
        os.kill(workers_of(server)[0], signal.SIGSTOP)
        answers = [callers.submit(client.msign, m) for _ in range(4)]
        while lost(server, "stopped") == 0:
            assert server.get("/readyz")[0] in {200, 503}

        assert all(np.array_equal(answer.result(), expected) for answer in answers)
        assert server.get("/readyz") == (200, {"state": "ready"})


def test_a_call_that_loses_its_worker_twice_is_told_so() -> None:
    """It has a code of its own, and the call after it is answered."""
    m = np.random.default_rng(0).standard_normal((1200, 1200))
    with (
        running_server() as server,
        matfn.Client(server.url, max_retries=0) as client,
        ThreadPoolExecutor(1) as caller,
    ):
        answer = caller.submit(client.msign, m, precision="fp64")
        while not client.status()["batches"]["count"]:
            continue
        for number in range(2):
            (worker,) = workers_of(server)
            os.kill(worker, signal.SIGKILL)
            while lost(server, "killed") == number:
                continue

        with pytest.raises(matfn.WorkerLost) as caught:
            answer.result()
        assert caught.value.status == 500
        np.testing.assert_allclose(client.msign(2 * np.eye(3)), np.eye(3))


def test_stopped_workers_end_with_a_killed_server() -> None:
    """A server that is killed leaves no process behind, although its workers cannot act."""
    with running_server(workers="2") as server:
        numbers = workers_of(server)
        workers = [os.pidfd_open(number) for number in numbers]
        for number in numbers:
            os.kill(number, signal.SIGSTOP)
        server.process.kill()

        for worker in workers:
            assert select.select([worker], [], [], 20)[0], "a process descriptor is readable once the process has ended"
            os.close(worker)
