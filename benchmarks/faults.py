"""Faults that a server may meet, each at random moments: what a round of random_faults.py and soak.py does to one."""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bare_callers import Pace, Service, cut_short, large_case, read_at, spoken
from ends import End, Ended
from matfn.check import cases
from occupied import family

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from processes import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from matfn.check import Case

__all__ = ["FAULTS", "KEY", "MEMORY", "PASSING", "WORKERS", "Target"]

WORKERS: Final = 2
MEMORY: Final = 1_200_000_000
KEY: Final = "checked-secret"
_DRAIN_SECONDS: Final = 5
_END_SECONDS: Final = 15.0
"""Within it a server ends that drains for five seconds, on a busy machine."""
_START_SECONDS: Final = 300.0  # on a busy machine
_LARGEST: Final = 24  # megabytes of a body; a few of them take all the memory that requests have
_SETTINGS: Final = {
    "workers": str(WORKERS),
    "memory": str(MEMORY),
    "drain_seconds": str(_DRAIN_SECONDS),
    "write_idle_seconds": "2",
}


@dataclass
class Target:
    """A server that is started again on the same port, and what those saw who met its faults.

    Attributes:
        keys: its keys' file.
        rng: the source of moments and numbers.
        server: the process.
        seen: the ends of requests that belong to faults.
        amiss: what a server should not have done.
        mended: when the fault was over, by time.monotonic, where that was before its end.
    """

    keys: Path
    rng: random.Random = field(default_factory=random.Random)
    server: ServerProcess = field(init=False)
    seen: list[Ended] = field(default_factory=list)
    amiss: list[str] = field(default_factory=list)
    mended: float = 0.0
    _earlier: list[dict[str, Any]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def start(self, port: int = 0) -> None:
        """Starts the server, and waits until it is ready."""
        self.write_keys()
        self.server = self.process(port).started()

    def process(self, port: int) -> ServerProcess:
        """A server that has just been started."""
        server = ServerProcess(port=str(port), api_keys_file=str(self.keys), **_SETTINGS)
        server.patience = _START_SECONDS
        return server

    def write_keys(self, *others: str) -> None:
        """Writes the keys' file, as a whole."""
        fresh = self.keys.with_suffix(".new")
        fresh.write_text("".join(f"{key}\n" for key in (KEY, *others)))
        fresh.replace(self.keys)

    @property
    def service(self) -> Service:
        """Where callers find it."""
        return Service(self.server.address, KEY)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.server.process.pid

    def some_cases(self, number: int) -> list[Case]:
        """Cases with matrices that no other request has."""
        return self.rng.sample(cases(-next(self._numbers) % (1 << 31)), number)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of its log since it was told to forget, with those of processes before this one."""
        return [*self._earlier, *self.server.lines]

    def forget(self) -> None:
        """Begins a new round."""
        self.seen, self.amiss, self._earlier, self.mended = [], [], [], 0.0
        self.server.lines.clear()

    def stop(self, server: ServerProcess, codes: tuple[int, ...] = (0,)) -> None:
        """Tells a process to end, and notes what is wrong with its end: how long it takes, its code, what it leaves."""
        server.terminate()
        workers = [os.pidfd_open(pid) for pid in family(server.process.pid)[1:]]
        try:
            code = server.exit_code(_END_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.amiss.append(str(error))
            server.stop()
        else:
            self.amiss += [f"exit code {code}"] * (code not in codes)
        self.amiss += [f"{len(workers)} workers left behind"] * (not all(map(_has_ended, workers)))
        self._earlier += server.lines

    def answers(self) -> bool:
        """Whether a small call is answered right."""
        drawn = cases(-next(self._numbers) % (1 << 31))
        return [one.end for one in spoken(self.service, drawn[:1])] == [End.RIGHT]

    def pause(self, least: float, most: float) -> None:
        """Lets a random time pass."""
        time.sleep(self.rng.uniform(least, most))


def _signalled(number: signal.Signals) -> Callable[[Target], None]:
    def fault(target: Target) -> None:
        for _ in range(target.rng.randint(1, 3)):
            workers = family(target.pid)[1:]
            if workers:
                with suppress(ProcessLookupError):
                    os.kill(target.rng.choice(workers), number)
            target.pause(0.0, 0.8)

    return fault


def _descriptors(target: Target) -> None:
    """The server may open a few descriptors more, or none, while connections come and perhaps a worker ends."""
    most = sum(1 for _ in Path(f"/proc/{target.pid}/fd").iterdir()) + target.rng.randint(-2, 6)
    connections: list[socket.socket] = []
    with _limited(target.pid, resource.RLIMIT_NOFILE, most):
        for _ in range(30):
            with suppress(OSError):
                connections.append(socket.create_connection(target.server.address, timeout=5))
        if target.rng.random() < 0.5:  # noqa: PLR2004 - in half of the rounds
            _signalled(signal.SIGKILL)(target)
        target.pause(0.5, 2.0)
    for connection in connections:
        connection.close()


@contextmanager
def _limited(pid: int, limit: int, most: int) -> Iterator[None]:
    """Lowers a limit of a process within the block."""
    soft, hard = resource.prlimit(pid, limit)
    resource.prlimit(pid, limit, (most, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, limit, (soft, hard))


def _memory(target: Target) -> None:
    """Bodies that are together too large; in half of the rounds a worker gets no more memory from the system."""
    large = [large_case(target.rng.randint(2, _LARGEST), target.rng.randrange(1 << 30)) for _ in range(8)]
    worker = target.rng.choice(family(target.pid)[1:])
    pages = int(Path(f"/proc/{worker}/statm").read_text().split()[0])
    most = pages * resource.getpagesize() if target.rng.random() < 0.5 else resource.RLIM_INFINITY  # noqa: PLR2004
    with _limited(worker, resource.RLIMIT_AS, most), ThreadPoolExecutor(len(large)) as callers:
        for ends in callers.map(lambda case: spoken(target.service, [case]), large):
            target.seen += ends


def _slow_readers(target: Target) -> None:
    """Large answers that are read slowly, and some that are not read for a while."""
    paces = [Pace(1 << 17, 0.005), Pace(1 << 14, 0.05), Pace(1 << 20, 4.0), Pace(1 << 18, 0.02)]
    large = [large_case(4, target.rng.randrange(1 << 30)) for _ in paces]
    with ThreadPoolExecutor(len(large)) as callers:
        target.seen += callers.map(lambda pace, case: read_at(pace, target.service, case), paces, large)


def _half_closed(target: Target) -> None:
    """Connections whose sending side is closed after whole requests, and some that end within one."""
    for _ in range(8):
        target.seen += spoken(target.service, target.some_cases(target.rng.randint(1, 3)), is_half_closed=True)
        (case,) = target.some_cases(1)
        cut_short(target.service, case, target.rng.random(), is_reset=target.rng.random() < 0.5)  # noqa: PLR2004
        target.pause(0.0, 0.2)


def _sigterm(target: Target) -> None:
    """The server drains, in some rounds not to the end, and is started again; in some also during its start."""
    port = target.server.address[1]
    if target.rng.random() < 0.3:  # noqa: PLR2004 - in three of ten rounds
        target.server.terminate()
        target.pause(0.0, 0.5)
    target.stop(target.server)
    if target.rng.random() < 0.3:  # noqa: PLR2004
        early = target.process(port)
        target.pause(0.0, 4.0)
        target.stop(early, (0, -signal.SIGTERM))
    target.mended = time.monotonic()
    target.start(port)


def _has_ended(descriptor: int) -> bool:
    """Whether the process of this descriptor ends."""
    try:
        return bool(select.select([descriptor], [], [], _END_SECONDS)[0])
    finally:
        os.close(descriptor)


def _sighup(target: Target) -> None:
    """The keys change, or their file is gone or invalid for a while; the callers' key holds all the time."""
    for number in range(10):
        broken = target.rng.choice(["no", "empty", "invalid", "missing"])
        target.write_keys(f"other-{number} name=other-{number} requests={number + 1}")
        if broken == "missing":
            target.keys.unlink()
        elif broken != "no":
            target.keys.write_text("" if broken == "empty" else f"{KEY} weight=none\n")
        target.server.process.send_signal(signal.SIGHUP)
        target.pause(0.0, 0.3)
    target.write_keys()
    target.server.process.send_signal(signal.SIGHUP)


def _together(target: Target) -> None:
    """Three of the others at the same time."""
    kinds = target.rng.sample([kind for kind in PASSING if kind != "several at once"], 3)
    threads = [threading.Thread(target=FAULTS[kind], args=(target,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


FAULTS: Final[Mapping[str, Callable[[Target], None]]] = {
    "SIGKILL of a worker": _signalled(signal.SIGKILL),
    "SIGSTOP of a worker": _signalled(signal.SIGSTOP),
    "no descriptors": _descriptors,
    "no memory": _memory,
    "slow readers": _slow_readers,
    "half-closed connections": _half_closed,
    "SIGTERM and restart": _sigterm,
    "SIGHUP": _sighup,
    "several at once": _together,
}
PASSING: Final = tuple(kind for kind in FAULTS if kind != "SIGTERM and restart")
"""Those after which the process is the same."""
