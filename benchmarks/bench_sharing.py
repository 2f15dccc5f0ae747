"""What shared memory saves a client on the same machine: bodies through it, through the socket, and a bare echo.

The echo is the same bytes there and back between two processes over a unix socket, with nothing done to them. The calls
are of `qk_clip`, whose work is one pass over its inputs. Every round takes each way once.

    python benchmarks/bench_sharing.py > benchmarks/results/sharing.md
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import matfn
from matfn.segments import Segments
from provenance import provenance
from unix_sockets import bare_echo, service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        stack.enter_context(service(path))
        shared = stack.enter_context(matfn.Client(f"unix://{path}"))
        plain = stack.enter_context(matfn.Client(f"unix://{path}"))
        plain._transport._segments = Segments(None, time.monotonic)  # type: ignore[attr-defined] # noqa: SLF001 - no setting turns it off
        print("| MiB each way | echo | qk_clip, socket | qk_clip, shared memory |\n|---|---|---|---|")
        for heads in HEADS:
            with bare_echo(heads * MIB) as echo:
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


if __name__ == "__main__":
    main()
