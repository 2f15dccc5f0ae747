"""Fifty thousand damaged requests to a server: what it answers, how fast, and what it costs its memory.

Each request is one of mutants.py. No answer may be a 5xx besides 503 and 504, or be missing; every problem document is
complete; the server stays ready, and its memory and descriptors do not grow. One in ten is sent again in pieces, over
a unix socket to a server that has not seen it, and once more to that one: verdict, outputs and certificates must be
the same. Certificates of answers are compared with float64. The exit code is 1 where anything else was found.

    python benchmarks/mutations.py > benchmarks/results/mutations.md
    python benchmarks/mutations.py --only 4711
"""

from __future__ import annotations

import argparse
import math
import socket
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from mutants import mutant
from mutation_truth import broken_claims
from mutation_verdicts import HANG_SECONDS, differ, exchanged, faults_of, verdict_of
from occupied import occupied, private_bytes
from provenance import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mutants import Mutant
    from mutation_verdicts import Answered, Verdict
    from processes import ServerProcess

__all__ = ["MEMORY", "SEED", "SETTINGS", "Found", "Judge", "connected", "faults_of_server", "judged"]

SEED: Final = 20261129
MEMORY: Final = 2 << 30
SETTINGS: Final = {"memory": str(MEMORY), "workers": "1", "max_request_bytes": str(16 << 20)}
_NUMBER: Final = 50_000
_SENDERS: Final = 8
_AT_ONCE: Final = 500
_REPEATED: Final = 10
"""One mutant in so many is sent again."""
_ROOM: Final = 1.25
_GROWTH: Final = 128 << 20
"""Bytes that may come and go: buffers that are kept for the next request, and the allocator's."""
_SHOWN: Final = 20
_PAUSE: Final = 0.02
_QUICK: Final = 1.0  # seconds, as `exchanged` by itself
_PATIENCE: Final = 10.0
"""Of a second look at a request that may have been ended too early, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of one mutant."""

    number: int
    kind: str
    verdict: Verdict
    seconds: float
    faults: tuple[str, ...]
    is_compared: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """Sends mutants and judges what comes back.

    Attributes:
        connect: makes a connection to the server.
        elsewhere: makes one to another server, which sees only what is sent again; None: that is the same server.
        seed: of the mutants.
    """

    connect: Callable[[], socket.socket]
    elsewhere: Callable[[], socket.socket] | None = None
    seed: int = SEED

    def __call__(self, number: int) -> Found:
        """Sends the mutant of this number."""
        one = mutant(self.seed, number)
        answered = exchanged(self.connect, one)
        faults = faults_of(one, answered)
        if answered.status == 200 and not faults:  # noqa: PLR2004 - certificates are only there
            faults += broken_claims(one, answered)
        is_compared = number % _REPEATED == 0
        if is_compared:
            faults += self._differences(one, answered, number)
        return Found(number, one.kind, _told(answered), answered.seconds, tuple(faults), is_compared)

    def _differences(self, one: Mutant, first: Answered, number: int) -> list[str]:
        found = self._repeated(one, number, _QUICK)
        if any(_differ(one, first, other) for other in found.values()) and one.may_wait:
            first, found = exchanged(self.connect, one, patience=_PATIENCE), self._repeated(one, number, _PATIENCE)
        faults = [f"{how}: {fault}" for how, other in found.items() for fault in faults_of(one, other)]
        return faults + [
            f"{how}: {_told(other)}, not {_told(first)}, or other numbers"
            for how, other in found.items()
            if _differ(one, first, other)
        ]

    def _repeated(self, one: Mutant, number: int, patience: float) -> dict[str, Answered]:
        """The answers to the same request, sent in other ways."""
        rng = Random(number)  # noqa: S311 - it keeps no secret
        cuts = sorted(rng.sample(range(1, len(one.octets)), rng.randint(1, 4)))
        elsewhere = self.elsewhere or self.connect
        return {
            "in pieces": exchanged(self.connect, one, cuts, patience),
            "elsewhere": exchanged(elsewhere, one, patience=patience),
            "once more": exchanged(elsewhere, one, patience=patience),
        }


def _differ(mutant: Mutant, one: Answered, other: Answered) -> bool:
    try:
        return differ(mutant, one, other)
    except (ValueError, KeyError):
        return True


def _told(answered: Answered) -> Verdict:
    try:
        return verdict_of(answered)
    except (ValueError, KeyError):
        return answered.status, "unreadable"


def judged(judge: Judge, numbers: Iterable[int]) -> list[Found]:
    """The outcomes of these mutants, several at a time."""
    with ThreadPoolExecutor(_SENDERS) as senders:
        return list(senders.map(judge, numbers))


def faults_of_server(server: ServerProcess) -> list[str]:
    """Signs of damage that a server shows after mutants."""
    faults = [] if server.get("/readyz")[0] == 200 else ["not ready"]  # noqa: PLR2004 - an HTTP status
    lost = [line for line in server.metrics().splitlines() if line.startswith("matfn_workers_lost_total")]
    faults += [line for line in lost if not line.endswith(" 0.0")]
    return faults + [str(line) for line in server.lines if line.get("level") == "error" or "line" in line]


@dataclass
class Holding:
    """Memory and descriptors of a server, sampled."""

    pid: int
    peak: int = 0
    samples: list[tuple[int, int, int]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Keeps the peak until it is over."""
        while not self.over.wait(_PAUSE):
            self.peak = max(self.peak, private_bytes(self.pid))

    def sample(self, sent: int) -> None:
        """Keeps what is held after so many mutants."""
        now = occupied(self.pid)
        self.samples.append((sent, now.all_bytes, now.descriptors))

    def faults(self) -> list[str]:
        """Growth, from a fifth of the way on."""
        settled = self.samples[len(self.samples) // 5 :]
        (_, before, open_before), (_, after, open_after) = settled[0], settled[-1]
        faults = ["memory above its bound"] if self.peak > _ROOM * MEMORY else []
        faults += [f"memory grew by {(after - before) >> 20} MiB"] if after - before > _GROWTH else []
        return faults + ([f"{open_after - open_before} more descriptors"] if open_after > open_before else [])


def connected(address: tuple[str, int]) -> socket.socket:
    """A connection that sends each piece at once."""
    connection = socket.create_connection(address, timeout=HANG_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _connect_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(HANG_SECONDS)
    connection.connect(path)
    return connection


def _print_found(found: Sequence[Found], holding: Holding) -> None:
    verdicts = Counter(one.verdict for one in found)
    slowest: dict[Verdict, float] = defaultdict(float)
    for one in found:
        slowest[one.verdict] = max(slowest[one.verdict], one.seconds)
    print("| status | code | answers | slowest, ms |\n|---|---|---|---|")
    for (status, code), number in sorted(verdicts.items()):
        print(f"| {status or '-'} | {code or '-'} | {number} | {slowest[status, code] * 1e3:.0f} |")
    print("\n| damage | requests | answered with 200 | slowest, ms |\n|---|---|---|---|")
    for kind in sorted({one.kind for one in found}):
        of_kind = [one for one in found if one.kind == kind]
        good = sum(one.verdict[0] == 200 for one in of_kind)  # noqa: PLR2004 - an HTTP status
        print(f"| {kind} | {len(of_kind)} | {good} | {max(one.seconds for one in of_kind) * 1e3:.0f} |")
    print("\n| requests | MiB | descriptors |\n|---|---|---|")
    for sent, resident, opened in holding.samples[:: max(1, len(holding.samples) // 10)]:
        print(f"| {sent} | {resident >> 20} | {opened} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Damaged requests to a server.")
    parser.add_argument("--number", type=int, default=_NUMBER, help="how many")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no more are sent")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", type=int, help="the number of the one that is sent, and shown")
    return parser.parse_args()


def _sent(judge: Judge, numbers: range, seconds: float, holding: Holding) -> list[Found]:
    began = time.perf_counter()
    watch = threading.Thread(target=holding.watch)
    watch.start()
    try:
        found: list[Found] = []
        for start in range(numbers.start, numbers.stop, _AT_ONCE):
            found += judged(judge, range(start, min(start + _AT_ONCE, numbers.stop)))
            holding.sample(len(found))
            if time.perf_counter() - began > seconds:
                break
    finally:
        holding.over.set()
        watch.join()
    return found


def main() -> int:
    """Prints the tables; returns 1 where something is wrong."""
    given, measured = _arguments(), provenance()
    with ExitStack() as stack:
        path = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "socket")
        server = stack.enter_context(running_server(**SETTINGS))
        other = stack.enter_context(running_server(**SETTINGS, uds=path))
        judge = Judge(partial(connected, server.address), partial(_connect_unix, path), given.seed)
        if given.only is not None:
            one = mutant(given.seed, given.only)
            print(one, exchanged(judge.connect, one), judge(given.only), *faults_of_server(server), sep="\n")
            return 0
        holding = Holding(server.process.pid)
        found = _sent(judge, range(given.number), given.seconds, holding)
        faults = [f"{one.number} ({one.kind}): {fault}" for one in found for fault in one.faults]
        faults += [*holding.faults(), *faults_of_server(server)]
        faults += [] if other.process.poll() is None else ["the other server ended"]
    compared = sum(one.is_compared for one in found)
    print(f"{measured}\n\n{len(found)} damaged requests, {compared} of them sent four times; {len(faults)} faults.")
    print(f"MATFN_MEMORY is {MEMORY >> 20} MiB; the processes held {holding.peak >> 20} MiB at most.\n")
    _print_found(found, holding)
    print(*([""] + [f"- {fault}" for fault in faults[:_SHOWN]] if faults else []), sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
