"""Computing processes that are killed, and a server that is: nothing is lost, and nothing is left behind."""

from __future__ import annotations

import os
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import matfn
from processes import ServerProcess, running_server
from scraped import samples

CALLERS = 4
CALLS = 6


def lanes_of(server: ServerProcess) -> list[int]:
    """The process numbers of the server's children."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(number) for number in children.read_text().split()]


def test_a_killed_lane_costs_nobody_an_answer() -> None:
    """While callers wait, a lane is killed again and again; each time it is replaced, and everyone is answered."""
    m = np.random.default_rng(0).standard_normal((2, 128, 128))
    with (
        running_server(lanes="2") as server,
        matfn.Client(server.url) as client,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        before = lanes_of(server)
        answers = [callers.submit(client.msign, m) for _ in range(CALLERS * CALLS)]
        for turn in range(3):
            answers[(turn + 1) * CALLERS].result()
            os.kill(lanes_of(server)[0], signal.SIGKILL)
        first = answers[0].result()

        assert all(np.allclose(answer.result(), first, atol=1e-12) for answer in answers)
        assert len(lanes_of(server)) == 2
        assert lanes_of(server) != before
        assert 1 <= samples(server.metrics())["matfn_lanes_lost_total"] <= 3  # one that idles may not be missed yet


def test_lanes_end_with_a_killed_server() -> None:
    """A server that is killed leaves no process that computes."""
    with running_server(lanes="2") as server:
        lanes = [os.pidfd_open(number) for number in lanes_of(server)]
        server.process.kill()

        for lane in lanes:
            assert select.select([lane], [], [], 20)[0], "a process descriptor is readable once the process has ended"
            os.close(lane)
