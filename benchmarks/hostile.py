"""What hostile callers cost a server and its other callers: memory, gaps of the event loop, errors and hangs.

Every attack of attacks.py is made on one server process, while another caller asks for its health all the time and
computes a small root after each attack. The exit code is 1 if the memory of all processes grows beyond MATFN_MEMORY by
more than a quarter, if an answer is a 5xx or not what it should be, or if one does not come.

    python benchmarks/hostile.py [ATTACK] > benchmarks/results/hostile.md
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

import matfn
from attacks import ATTACKS, launched
from occupied import private_bytes
from provenance import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attacks import Address, Attack

MEMORY: Final = 2 << 30
_SETTINGS: Final = {"memory": str(MEMORY), "workers": "2", "max_request_bytes": str(64 << 20)}
_ROOM: Final = 1.25
_PAUSE: Final = 0.002


@dataclass
class Seen:
    """What was seen during an attack.

    Attributes:
        resident: largest memory of the server's processes, in bytes.
        gap: longest time that an answer about its health took, in seconds.
        held: the longest without what the event loop and the caller waited for a core, in seconds.
    """

    resident: int = 0
    gap: float = 0.0
    held: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def watch_memory(self, pid: int) -> None:
        """Looks at the memory until the attack is over."""
        while not self.over.wait(_PAUSE * 5):
            self.resident = max(self.resident, private_bytes(pid))

    def watch_health(self, address: Address, pid: int) -> None:
        """Asks for the health until the attack is over."""
        connection = http.client.HTTPConnection(*address, timeout=60)
        while not self.over.wait(_PAUSE):
            began, waited = time.perf_counter(), _waited(pid)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            took = time.perf_counter() - began
            self.gap = max(self.gap, took)
            self.held = max(self.held, took - (_waited(pid) - waited))


def _waited(pid: int) -> float:
    """Seconds for which the first thread of a process, its event loop, and this thread were ready and had no core."""
    counts = [Path(name).read_text().split() for name in (f"/proc/{pid}/schedstat", "/proc/thread-self/schedstat")]
    return sum(int(waiting) for _, waiting, _ in counts) / 1e9


@contextmanager
def watching(pid: int, address: Address) -> Iterator[Seen]:
    """Watches a server within the block."""
    seen = Seen()
    threads = [
        threading.Thread(target=seen.watch_memory, args=(pid,)),
        threading.Thread(target=seen.watch_health, args=(address, pid)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.over.set()
        for thread in threads:
            thread.join()


def _is_well(client: matfn.Client) -> bool:
    """Whether a small root comes back right."""
    a = np.diag(np.arange(1.0, 5.0))
    return bool(np.allclose(client.root(a, 2), np.sqrt(a)))


def _faults(attack: Attack, answers: list[tuple[int, ...]], resident: int, *, is_well: bool) -> list[str]:
    statuses = Counter(status for one in answers for status in one)
    faults = [f"{count} times {status}" for status, count in statuses.items() if status not in attack.statuses]
    if resident > _ROOM * MEMORY:
        faults.append("memory")
    return faults if is_well else [*faults, "others got no answer"]


def _row(name: str, answers: list[tuple[int, ...]], seen: Seen, seconds: float, faults: list[str]) -> str:
    statuses = Counter(status for one in answers for status in one)
    told = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(statuses.items())) or "-"
    cells = [
        name,
        told,
        f"{seconds:.1f}",
        f"{seen.resident / 2**20:.0f}",
        f"{seen.gap * 1e3:.0f}",
        f"{seen.held * 1e3:.0f}",
        "; ".join(faults) or "-",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Prints the table."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{provenance()}\n\nMATFN_MEMORY is {MEMORY >> 20} MiB; the gap is the longest answer to GET /healthz.")
    print("Held is the longest without the time in which the event loop and the asking thread waited for a core.\n")
    print("| attack | answers | s | peak MiB | gap ms | held ms | faults |\n|---|---|---|---|---|---|---|")
    found: list[str] = []
    with running_server(**_SETTINGS) as server, matfn.Client(server.url, timeout=120) as client:
        for name, attack in ATTACKS.items():
            if wanted not in name:
                continue
            began = time.perf_counter()
            with watching(server.process.pid, server.address) as seen:
                answers = launched(server.address, attack)
                is_well = _is_well(client)
            faults = _faults(attack, answers, seen.resident, is_well=is_well)
            print(_row(name, answers, seen, time.perf_counter() - began, faults), flush=True)
            found += faults
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
