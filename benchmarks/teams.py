"""Processes that compute side by side, each with its share of a batch, timed from the word to the last to finish.

A rival keeps its processes from case to case, since starting one takes seconds. Between runs they are stopped, since
the idle threads of an OpenMP pool spin, and slow others down up to four times. All have the `MALLOC_*` settings of
`matfn serve`, without which an allocation of some size is fresh pages every time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from matfn_service.serve import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from function_cases import Array, Case
    from matfn_kernels import Profile
    from rivals import Rival

__all__ = ["Team", "cores"]

_COLD: Final = 0.1  # seconds of a run below which the first after a pause is not counted


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


class _Member:
    """One process of a team, stopped unless it is spoken to."""

    def __init__(self, threads: int) -> None:
        self.link, far = Pipe()
        counts = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, __file__, str(far.fileno()), str(threads)],
            pass_fds=[far.fileno()],
            env={**os.environ, **ENVIRONMENT, **counts},
        )
        far.close()

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        self.wake()
        self.link.close()
        self._process.wait()


class Team:
    """The processes of one rival: given a case, they wait for the word to compute it; a context that ends them."""

    def __init__(self, rival: Rival) -> None:
        self._rival = rival
        threads = cores() if rival.whole else 1
        self._members = [_Member(threads) for _ in range(cores() // threads)]
        self._busy: list[_Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            member.end()

    def take(self, case: Case, given: tuple[Array, ...], profile: Profile) -> None:
        """Hands out the shares of a batch, and has each computed once."""
        self._busy = self._members[: case.batch]
        shares = zip(*(np.array_split(x, len(self._busy)) for x in given), strict=True)
        self._ask([(self._rival.name, case, share, profile) for share in shares])

    def seconds(self) -> float:
        """One run of the whole batch; the second where the caches that others have used matter."""
        for member in self._busy:
            member.wake()
        seconds = self._run()
        if seconds < _COLD:
            seconds = self._run()
        for member in self._busy:
            member.stop()
        return seconds

    def _run(self) -> float:
        began = time.perf_counter()
        for member in self._busy:
            member.link.send("run")
        for member in self._busy:
            member.link.recv()
        return time.perf_counter() - began

    def answers(self) -> Array:
        """The answers of the last run, (batch, ...)."""
        return np.concatenate(self._ask(["show"] * len(self._busy)))

    def _ask(self, words: Sequence[object]) -> list[Array]:
        for member, word in zip(self._busy, words, strict=True):
            member.wake()
            member.link.send(word)
        replies = [member.link.recv() for member in self._busy]
        for member in self._busy:
            member.stop()
        return replies


def _serve(link: Connection, threads: int) -> None:
    """Computes what it is told until nobody is left to tell it."""
    import torch

    from rivals import runner

    torch.set_num_threads(threads)
    work: Callable[[], object] = tuple
    answers: object = None
    with suppress(EOFError):
        while True:
            match link.recv():
                case "run":
                    answers = work()
                    link.send(None)
                case "show":
                    link.send(np.asarray(answers))
                case task:
                    work = runner(*task)
                    answers = work()
                    link.send(None)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
