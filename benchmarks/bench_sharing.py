"""What shared memory saves a client on the same machine: 64 MiB each way, against the socket and against a bare echo.

The echo is the same bytes there and back between two processes over a unix socket, with nothing done to them. The calls
are of `qk_clip`, whose work is one pass over its inputs. Every round takes each way once; the medians and the least are
printed, and the CPU time of the server's processes.

    python benchmarks/bench_sharing.py > benchmarks/results/sharing.md
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import matfn
from matfn.segments import Segments
from matfn_service.serve import ENVIRONMENT
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 15
SIZE = 64 * 2**20
HEADS, WIDTH, MODEL = 64, 128, 1024


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(f"64 MiB each way, milliseconds of {ROUNDS} alternating rounds\n")
    print("| | median | least | server's CPU, median |\n|---|---|---|---|")
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "matfn.sock"
        server = stack.enter_context(_server(path))
        echo = stack.enter_context(_echo())
        shared = stack.enter_context(matfn.Client(f"unix://{path}"))
        plain = stack.enter_context(matfn.Client(f"unix://{path}"))
        plain._transport._segments = Segments(None, time.monotonic)  # noqa: SLF001 - no setting turns it off
        ways = {"echo": echo, "qk_clip, socket": _clip(plain), "qk_clip, shared memory": _clip(shared)}
        _compare(ways, server)


def _compare(ways: dict[str, Callable[[], object]], server: int) -> None:
    wall: dict[str, list[float]] = {name: [] for name in ways}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 2):
        for name, way in ways.items():
            before, started = _cpu_ms(server), time.perf_counter()
            way()
            if number > 1:
                wall[name].append((time.perf_counter() - started) * 1e3)
                spent[name].append(_cpu_ms(server) - before)
    for name in ways:
        median, least = statistics.median(wall[name]), min(wall[name])
        print(f"| {name} | {median:.0f} | {least:.0f} | {statistics.median(spent[name]):.0f} |")


def _clip(client: matfn.Client) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    w_q, w_k = rng.standard_normal((2, HEADS, WIDTH, MODEL), "f4")
    logits = np.linspace(50, 200, HEADS, dtype="f4")
    assert w_q.nbytes + w_k.nbytes == SIZE
    return lambda: client.qk_clip(w_q, w_k, logits)


@contextmanager
def _server(path: Path) -> Iterator[int]:
    """The process of a server that listens on a path."""
    command = [sys.executable, "-c", "from matfn.cli import main; main()", "serve", "--uds", str(path)]
    process = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        with matfn.Client(f"unix://{path}", max_retries=1000) as client:
            client.msign(np.eye(2))
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _echo() -> Iterator[Callable[[], None]]:
    """Sends 64 MiB to a process and receives them from it."""
    near, far = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=_return, args=(near, far), daemon=True)
    process.start()
    far.close()
    sent, received = memoryview(bytearray(os.urandom(1) * SIZE)), memoryview(bytearray(SIZE))

    def there_and_back() -> None:
        near.sendall(sent)
        _receive(near, received)

    with near:
        yield there_and_back
    process.join()


def _return(near: socket.socket, far: socket.socket) -> None:
    near.close()
    buffer = memoryview(bytearray(SIZE))
    while _receive(far, buffer):
        far.sendall(buffer)


def _receive(connection: socket.socket, buffer: memoryview) -> bool:
    """Fills the buffer; returns whether the connection lasted so long."""
    filled = 0
    while filled < len(buffer):
        count = connection.recv_into(buffer[filled:])
        if not count:
            return False
        filled += count
    return True


def _cpu_ms(process: int) -> float:
    """CPU time of a process and its children so far."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    own = [path.read_text().split()[0] for path in Path(f"/proc/{process}/task").glob("*/schedstat")]
    return sum(map(int, own)) / 1e6 + sum(_cpu_ms(int(child)) for child in listed)


if __name__ == "__main__":
    main()
