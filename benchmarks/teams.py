"""Processes that compute side by side, each with its share of a batch, timed from the word to the last to finish.

Between runs they are stopped, since the idle threads of an OpenMP pool spin, and slow others down up to four times.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from function_cases import Array, Case
    from matfn_kernels.calibration import Profile
    from rivals import Rival

__all__ = ["Team", "cores", "team"]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


class Team:
    """The processes of one rival at one case, warm and waiting for the word."""

    def __init__(self, links: list[Connection], pids: list[int]) -> None:
        self._links = links
        self._pids = pids
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids:
            os.kill(pid, number)

    def seconds(self) -> float:
        """One run of the whole batch."""
        self._signal(signal.SIGCONT)
        began = time.perf_counter()
        for link in self._links:
            link.send("run")
        for link in self._links:
            link.recv()
        seconds = time.perf_counter() - began
        self._signal(signal.SIGSTOP)
        return seconds

    def answers(self) -> Array:
        """The answers of the last run, (batch, ...); no run may follow."""
        self._signal(signal.SIGCONT)
        for link in self._links:
            link.send("show")
        return np.concatenate([link.recv() for link in self._links])


@contextmanager
def team(rival: Rival, case: Case, given: tuple[Array, ...], profile: Profile) -> Iterator[Team]:
    """A rival's processes, which have run once; they are gone afterwards."""
    members = 1 if rival.whole else min(cores(), case.batch)
    threads = cores() if rival.whole else 1
    processes, links = [], []
    try:
        for shares in zip(*(np.array_split(x, members) for x in given), strict=True):
            near, far = Pipe()
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
            processes.append(
                subprocess.Popen(  # noqa: S603
                    [sys.executable, __file__, str(far.fileno()), str(threads)],
                    pass_fds=[far.fileno()],
                    env=environment,
                )
            )
            far.close()
            near.send((rival.name, case, shares, profile))
            links.append(near)
        for link in links:
            link.recv()
        yield Team(links, [process.pid for process in processes])
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
        for link in links:
            link.close()
        for process in processes:
            process.wait()


def _serve(link: Connection, threads: int) -> None:
    import torch

    from rivals import runner

    torch.set_num_threads(threads)
    work = runner(*link.recv())
    answers = work()
    link.send("ready")
    while True:
        try:
            word = link.recv()
        except EOFError:
            return
        if word == "run":
            answers = work()
            link.send("done")
        else:
            link.send(np.asarray(answers))


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
