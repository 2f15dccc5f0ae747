"""Rounds of random faults under load: every request is answered right, refused or cut off, and the server recovers.

In each round clients, tasks and bare sockets call, a fault happens at a random moment, and the server must be ready
again within a minute: all its workers compute, nothing is charged, its connections are closed, and the memory of
all processes is within MATFN_MEMORY and a quarter more all the time. The exit code is 1 if a request was answered
wrongly, twice or not at all, or if the server is not what it was.

    python benchmarks/random_faults.py [--rounds N] [--seed N] [--kind KIND] > benchmarks/results/random_faults.md
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from checked_callers import calling
from ends import End
from faults import FAULTS, KEY, MEMORY, WORKERS, Target
from occupied import family, occupied, resident_bytes
from provenance import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from scraped import samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ends import Ended

ROUNDS: Final = 100
_READY_SECONDS: Final = 60.0
_ROOM: Final = 1.25
_LATER: Final = 4
"""Descriptors that a server opens when it first needs them, such as that of shared memory."""
_LOOK_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Round:
    """Results of one round.

    Attributes:
        kind: of its fault.
        ends: of all requests.
        ready_seconds: from the end of the fault until all workers compute and a call is answered.
        peak: most memory of all processes, in bytes.
        amiss: what the server should not have done or be.
    """

    kind: str
    ends: Sequence[Ended]
    ready_seconds: float
    peak: int
    amiss: Sequence[str]


def play(target: Target, kind: str, seed: int) -> Round:
    """One round."""
    target.rng = random.Random(seed)  # noqa: S311 - no secret
    rested = occupied(target.pid).descriptors
    target.forget()
    with _watched(target) as peak:
        with calling(target.service, seed) as callers:
            target.pause(0.2, 1.0)
            FAULTS[kind](target)
            ready_seconds = _seconds_to_ready(target)
            target.pause(0.2, 0.6)
        amiss = [*target.amiss, *_left_over(target, rested)]
    amiss += [f"log: {line}" for line in target.log if line["event"] == "unstructured" or "exception" in line]
    if max(peak) > _ROOM * MEMORY:
        amiss.append(f"{max(peak) >> 20} MiB of memory")
    return Round(kind, [*callers.seen, *target.seen], ready_seconds, max(peak), amiss)


@contextmanager
def _watched(target: Target) -> Iterator[list[int]]:
    """Measures the memory of all processes again and again within the block."""
    peaks, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            peaks.append(sum(map(resident_bytes, family(target.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def _seconds_to_ready(target: Target) -> float:
    """Seconds until the server is ready and all workers compute; infinite if that lasts too long."""
    began = target.mended or time.monotonic()
    while (seconds := time.monotonic() - began) < _READY_SECONDS:
        if _is_ready(target):
            return seconds
        time.sleep(_LOOK_SECONDS)
    return float("inf")


def _is_ready(target: Target) -> bool:
    try:
        alive = samples(target.server.metrics(KEY))["matfn_workers_alive"]
        is_told = target.server.get("/readyz")[0] == 200  # noqa: PLR2004 - HTTP's own
        return is_told and alive == WORKERS and target.answers()
    except OSError:
        return False


def _left_over(target: Target, rested: int) -> list[str]:
    """Resources still held a minute after the callers have gone."""
    until = time.monotonic() + _READY_SECONDS
    while (found := _kept(target, rested)) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    return found


def _kept(target: Target, rested: int) -> list[str]:
    counted = samples(target.server.metrics(KEY))
    found = [
        f"{name} is {value:.0f}"
        for name, value in counted.items()
        if value and name.startswith(("matfn_charged_bytes", "matfn_held_bytes", "matfn_queue_jobs", "matfn_key_bytes"))
    ]
    now = occupied(target.pid)
    found += [f"{now.workers} workers"] * (now.workers != WORKERS)
    return found + [f"{now.descriptors} descriptors, {rested} before"] * (now.descriptors > rested + _LATER)


@dataclass
class Report:
    """All rounds so far."""

    rounds: list[Round] = field(default_factory=list)

    def faults(self) -> list[str]:
        """Faults of the round, in words."""
        return [f"{one.kind}: {words}" for one in self.rounds for words in _faults(one)]

    def rows(self) -> Iterator[str]:
        """A line of the table for each kind of fault, and one for all."""
        for kind in FAULTS:
            if chosen := [one for one in self.rounds if one.kind == kind]:
                yield _row(kind, chosen)
        yield _row("all", self.rounds)


def _faults(one: Round) -> list[str]:
    bad = [f"{end.end}: {end.detail}" for end in one.ends if end.end in {End.WRONG, End.HUNG}]
    late = [] if one.ready_seconds < _READY_SECONDS else ["not ready"]
    return [*bad, *late, *one.amiss]


def _row(kind: str, rounds: Sequence[Round]) -> str:
    ends = [end for one in rounds for end in one.ends]
    number = Counter(end.end for end in ends)
    refused = Counter(end.detail for end in ends if end.end is End.REFUSED)
    codes = ", ".join(f"{count} {code}" for code, count in sorted(refused.items())) or "0"
    waits = [one.ready_seconds for one in rounds]
    cells = [
        kind,
        len(rounds),
        len(ends),
        number[End.RIGHT],
        codes,
        number[End.CLOSED],
        number[End.WRONG],
        number[End.HUNG],
        f"{max(end.seconds for end in ends):.1f}",
        f"{median(waits):.1f}, {max(waits):.1f}",
        max(one.peak for one in rounds) >> 20,
        sum(len(one.amiss) for one in rounds),
    ]
    return f"| {' | '.join(map(str, cells))} |"


_COLUMNS: Final = (
    "fault",
    "rounds",
    "requests",
    "right",
    "refused",
    "closed",
    "wrong",
    "hung",
    "slowest, s",
    "to ready, s: median, most",
    "peak MiB",
    "amiss",
)
_HEAD: Final = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"


def drawn(rounds: int, seed: int, only: str) -> list[str]:
    """A kind of fault for each round: each as often as any other, in a random order."""
    kinds = [kind for kind in FAULTS if only in kind]
    chosen = [kinds[number % len(kinds)] for number in range(rounds)]
    random.Random(seed).shuffle(chosen)  # noqa: S311
    return chosen


def played(kinds: Sequence[str], seed: int, seconds: float) -> Report:
    """A round of each of these kinds, one after the other, on one server; no round begins after so many seconds."""
    report, until = Report(), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder) / "keys")
        target.start()
        try:
            for number, kind in enumerate(kinds):
                if time.monotonic() < until:
                    report.rounds.append(play(target, kind, seed * 1000 + number))
                    _tell(number, target, report.rounds[-1])
        finally:
            target.server.stop()
    return report


def _tell(number: int, target: Target, one: Round) -> None:
    """Writes what was amiss in a round on the error stream, with the server's log."""
    faults = _faults(one)
    print(f"round {number + 1}, {one.kind}: {'; '.join(faults) or 'as it should be'}", file=sys.stderr, flush=True)
    for line in target.log if faults else ():
        print(f"    {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Prints the table, and on the error stream what was amiss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no round begins")
    parser.add_argument("--kind", default="", help="only faults with these words")
    arguments = parser.parse_args()
    kinds = drawn(arguments.rounds, arguments.seed, arguments.kind)
    report = played(kinds, arguments.seed, 60 * arguments.minutes)
    print(f"{provenance()}\n\nSeed {arguments.seed}, {WORKERS} workers, MATFN_MEMORY {MEMORY // 10**6} MB.\n\n{_HEAD}")
    print("\n".join(report.rows()))
    return bool(report.faults())


if __name__ == "__main__":
    sys.exit(main())
