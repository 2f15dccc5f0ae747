"""What shared memory saves a client on the same machine: bodies through it, through the socket, and a bare echo.

The echo is the same bytes there and back between two processes over a unix socket, with nothing done to them. The calls
are of `qk_clip`, whose work is one pass over its inputs. Every round takes each way once.

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
    from collections.abc import Callable, Iterator, Sequence

ROUNDS = 15
MIB = 2**20
HEADS = (1, 4, 16, 64)  # one MiB each, queries and keys together


def main() -> None:
    """Prints the table."""
    matfn.segments._SHARED_BYTES = 0  # type: ignore[misc]  # noqa: SLF001 - where it stops to pay is the question
    print(f"{provenance()}\n")
    print(f"Milliseconds there and back, median (least) of {ROUNDS} alternating rounds\n")
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "matfn.sock"
        stack.enter_context(_server(path))
        shared = stack.enter_context(matfn.Client(f"unix://{path}"))
        plain = stack.enter_context(matfn.Client(f"unix://{path}"))
        plain._transport._segments = Segments(None, time.monotonic)  # type: ignore[attr-defined] # noqa: SLF001 - no setting turns it off
        print("| MiB each way | echo | qk_clip, socket | qk_clip, shared memory |\n|---|---|---|---|")
        for heads in HEADS:
            with _echo(heads * MIB) as echo:
                ways = (echo, _clip(plain, heads), _clip(shared, heads))
                print(f"| {heads} | {' | '.join(_compared(ways))} |", flush=True)


def _compared(ways: Sequence[Callable[[], object]]) -> list[str]:
    spent: list[list[float]] = [[] for _ in ways]
    for number in range(ROUNDS + 2):
        for way, seconds in zip(ways, spent, strict=True):
            started = time.perf_counter()
            way()
            if number > 1:
                seconds.append((time.perf_counter() - started) * 1e3)
    return [f"{statistics.median(seconds):.1f} ({min(seconds):.1f})" for seconds in spent]


def _clip(client: matfn.Client, heads: int) -> Callable[[], object]:
    w_q, w_k = np.random.default_rng(0).standard_normal((2, heads, 128, 1024), "f4")
    logits = np.linspace(50, 200, heads, dtype="f4")
    return lambda: client.qk_clip(w_q, w_k, logits)


@contextmanager
def _server(path: Path) -> Iterator[None]:
    """A server that listens on a path."""
    command = [sys.executable, "-c", "from matfn.cli import main; main()", "serve", "--uds", str(path)]
    process = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        with matfn.Client(f"unix://{path}", max_retries=1000) as client:
            client.msign(np.eye(2))
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _echo(size: int) -> Iterator[Callable[[], None]]:
    """Sends so many bytes to a process and receives them from it."""
    near, far = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=_return, args=(near, far, size), daemon=True)
    process.start()
    far.close()
    sent, received = memoryview(bytearray(os.urandom(1) * size)), memoryview(bytearray(size))

    def there_and_back() -> None:
        near.sendall(sent)
        _receive(near, received)

    with near:
        yield there_and_back
    process.join()


def _return(near: socket.socket, far: socket.socket, size: int) -> None:
    near.close()
    buffer = memoryview(bytearray(size))
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


if __name__ == "__main__":
    main()
