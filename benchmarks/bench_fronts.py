"""Processor time that a call costs each process of the service, with and without a front before the queue.

One loop that does everything feeds as many workers as its time for a call goes into a worker's; with fronts, as many as
the server's own part of it does. Calls are of 8 matrices of order 32 and of one of order 256 (fp64); every connection
of a round is to the process that is named. Rounds alternate.

    python benchmarks/bench_fronts.py > benchmarks/results/fronts.md
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from connections import fronts_of, owner_of
from processes import running_server
from provenance import provenance

if TYPE_CHECKING:
    from processes import ServerProcess

ROUNDS = 5
CALLERS = 8
CALLS = 100
"""Of each caller in a round."""
ALONE, FRONT = "alone", "a front"
SHAPES = {"8 of order 32": (8, 32, 32), "one of order 256": (1, 256, 256)}
TICK = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Round:
    """Processor milliseconds of a call, by process."""

    server: float
    front: float
    worker: float


Rounds = dict[str, dict[str, list[Round]]]
"""By the shape, and by who holds the connections."""


def body_of(shape: tuple[int, ...]) -> bytes:
    """An inverse square root of well-conditioned matrices, as msgpack."""
    a = np.random.default_rng(0).standard_normal(shape)
    matrices = a @ a.swapaxes(-1, -2) / shape[-1] + np.eye(shape[-1])
    tensor = {"dtype": "float64", "shape": list(shape), "data": matrices.tobytes()}
    content: bytes = msgpack.packb({"inputs": {"a": tensor}, "params": {"r": 2}})
    return content


def spent(process: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def worker_of(server: ServerProcess) -> int:
    """The computing process."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    (worker,) = {int(child) for child in children} - set(fronts_of(server))
    return worker


def connected(opened: ExitStack, server: ServerProcess, process: int) -> list[HTTPConnection]:
    """As many connections as there are callers, all to one process."""
    processes = [server.process.pid, *fronts_of(server)]
    found: list[HTTPConnection] = []
    while len(found) < CALLERS:
        connection = opened.enter_context(closing(HTTPConnection(*server.address, timeout=60)))
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        if owner_of(connection, processes) == process:
            found.append(connection)
    return found


def call(connection: HTTPConnection, body: bytes) -> None:
    """A caller's calls, one after the other."""
    for _ in range(CALLS):
        connection.request("POST", "/v1/inv_root", body, {"Content-Type": "application/msgpack"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200  # noqa: PLR2004 - HTTP's


def one_round(server: ServerProcess, process: int, body: bytes) -> Round:
    """The processor time of a round of calls."""
    watched = {"server": server.process.pid, "front": process, "worker": worker_of(server)}
    with ExitStack() as opened:
        connections = connected(opened, server, process)
        call(connections[0], body)
        before = {name: spent(pid) for name, pid in watched.items()}
        threads = [threading.Thread(target=call, args=(connection, body)) for connection in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = {name: (spent(pid) - before[name]) / (CALLERS * CALLS) * 1e3 for name, pid in watched.items()}
    return Round(**took)


def rounds_of_all() -> Rounds:
    """The rounds of every shape, with each process that holds the connections."""
    found: Rounds = {}
    with running_server(fronts="2") as server:
        server.wait_for("front listening")
        holders = {ALONE: server.process.pid, FRONT: fronts_of(server)[0]}
        for name, shape in SHAPES.items():
            body = body_of(shape)
            rounds = [{who: one_round(server, pid, body) for who, pid in holders.items()} for _ in range(ROUNDS)]
            found[name] = {who: [one[who] for one in rounds] for who in holders}
    return found


def row(name: str, who: str, rounds: list[Round]) -> str:
    """A line of the table: medians, and the range of what the server takes."""
    server = [one.server for one in rounds]
    worker = statistics.median(one.worker for one in rounds)
    front = "" if who == ALONE else f"{statistics.median(one.front for one in rounds):.2f}"
    middle = statistics.median(server)
    spread = f"{middle:.2f} ({min(server):.2f}..{max(server):.2f})"
    return f"| {name} | {who} | {spread} | {front} | {worker:.2f} | {worker / middle:.1f} |"


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(
        f"Processor milliseconds a call, medians of {ROUNDS} rounds of {CALLERS * CALLS} calls by {CALLERS} callers.\n"
    )
    print("| call | connections held by | server | front | worker | workers that the server feeds |")
    print("|---|---|---|---|---|---|")
    for name, found in rounds_of_all().items():
        for who, rounds in found.items():
            print(row(name, who, rounds))


if __name__ == "__main__":
    main()
