"""What a thousand small calls cost against one stacked call, and what a single small call costs on both sides.

One fp32 matrix a call: stacked in one call, through `map`, as concurrent tasks of one AsyncClient, and one after
another. The same for LocalClient, once more beside a process that keeps one core busy. Every cell runs `ROUNDS` times,
alternating with the others; median and range are printed.

    python benchmarks/bench_small_calls.py > benchmarks/results/small_calls.md
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import matfn

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

from demo import service, wait_until_ready
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 7
MANY = 1000
SINGLE = 300
ORDERS = (16, 32, 64)
LOCAL = (16, 64)
"""Matrices of the call that runs beside a busy core, and their order."""

Found = dict[str, list[float]]
"""Figures of all rounds, by what they are of."""


def matrices(order: int, count: int) -> Any:
    """Symmetric positive definite fp32 matrices (count, order, order), well conditioned and all different."""
    g = np.random.default_rng(order).standard_normal((count, order, 2 * order))
    return (g @ g.swapaxes(-1, -2) / order).astype(np.float32)


def milliseconds(work: Callable[[], object]) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def rounds(cells: dict[str, Callable[[], float]]) -> Found:
    """The figures of every cell, round by round; one round before them does not count."""
    for cell in cells.values():
        cell()
    found: Found = {name: [] for name in cells}
    for _ in range(ROUNDS):
        for name, cell in cells.items():
            found[name].append(cell())
    return found


def over_http(url: str, process: subprocess.Popen[bytes], order: int) -> Found:
    """Milliseconds of a thousand calls on the service, and processor milliseconds of a single one on both sides."""
    stack = matrices(order, MANY)
    calls = [matfn.call.inv_root(a, r=2) for a in stack]
    with matfn.Client(url) as client, asyncio.Runner() as runner:
        tasks = matfn.AsyncClient(url)

        async def together() -> None:
            await asyncio.gather(*map(tasks.ask, calls))

        found = rounds(
            {
                "stacked": partial(milliseconds, lambda: client.inv_root(stack, r=2)),
                "map": partial(milliseconds, lambda: client.map(calls)),
                "async map": partial(milliseconds, lambda: runner.run(tasks.map(calls))),
                "concurrent": partial(milliseconds, lambda: runner.run(together())),
            }
        )
        runner.run(tasks.close())
        return found | singles(client, process, stack[0])


def singles(client: matfn.Client, process: subprocess.Popen[bytes], a: Any) -> Found:
    """One call after another: milliseconds of wall time, and of the processor in either thread, a call."""
    found: Found = {"single": [], "client thread": [], "event loop": []}
    for _ in range(ROUNDS):
        loop, thread = main_thread_seconds(process.pid), time.thread_time()
        found["single"].append(milliseconds(lambda: [client.inv_root(a, r=2) for _ in range(SINGLE)]) / SINGLE)
        found["client thread"].append((time.thread_time() - thread) * 1e3 / SINGLE)
        found["event loop"].append((main_thread_seconds(process.pid) - loop) * 1e3 / SINGLE)
    return found


def main_thread_seconds(pid: int) -> float:
    """Processor time of a process's first thread, in which a server's event loop runs (Linux)."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def in_process(order: int) -> Found:
    """Milliseconds of a thousand calls of LocalClient."""
    stack = matrices(order, MANY)
    calls = [matfn.call.inv_root(a, r=2) for a in stack]
    with matfn.LocalClient(device="cpu") as client:
        return rounds(
            {
                "stacked": partial(milliseconds, lambda: client.inv_root(stack, r=2)),
                "map": partial(milliseconds, lambda: client.map(calls)),
                "single": lambda: milliseconds(lambda: [client.ask(call) for call in calls[:SINGLE]]) / SINGLE,
            }
        )


def beside_a_busy_core() -> Found:
    """Milliseconds of one call of LocalClient, alone and while another process computes all the time."""
    count, order = LOCAL
    stack = matrices(order, count)
    with matfn.LocalClient(device="cpu") as client:

        def call() -> float:
            return milliseconds(lambda: [client.inv_root(stack, r=2) for _ in range(SINGLE // 3)]) / (SINGLE // 3)

        def beside() -> float:
            with busy_core():
                return call()

        return rounds({"alone": call, "beside a busy core": beside})


@contextmanager
def busy_core() -> Iterator[None]:
    """A process that computes for as long as the block."""
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def spread(values: list[float], digits: int) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def ratio(found: Found, name: str, base: str) -> str:
    """The median of the rounds' quotients."""
    return f"{statistics.median(a / b for a, b in zip(found[name], found[base], strict=True)):.2f}"


def table(title: str, found: dict[int, Found], many: tuple[str, ...], one: tuple[str, ...]) -> list[str]:
    """A row an order: milliseconds, each followed by its quotient by the stacked call."""
    names = ("stacked", *(f"{name}, over stacked" for name in many), *one)
    lines = [title, "", f"| order | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for order, figures in found.items():
        cells = [spread(figures["stacked"], 1)]
        cells += [f"{spread(figures[name], 1)}, {ratio(figures, name, 'stacked')}" for name in many]
        cells += [spread(figures[name], 3) for name in one]
        lines.append(f"| {order} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Prints the tables."""
    with service() as (url, process), matfn.Client(url) as client:
        wait_until_ready(client, process)
        served = {order: over_http(url, process, order) for order in ORDERS}
    local = {order: in_process(order) for order in ORDERS}
    busy = beside_a_busy_core()
    print(f"{provenance()}\n")
    print(f"`inv_root(a, r=2)`, one fp32 matrix a call; median (range) of {ROUNDS} rounds, in milliseconds.\n")
    columns = ("single", "client thread", "event loop")
    print("\n".join(table(f"{MANY} calls on the service:", served, ("map", "async map", "concurrent"), columns)))
    print()
    print("\n".join(table(f"{MANY} calls of LocalClient:", local, ("map",), ("single",))))
    alone, beside = (spread(busy[name], 2) for name in ("alone", "beside a busy core"))
    slower = ratio(busy, "beside a busy core", "alone")
    print(f"\nLocalClient, {LOCAL[0]} matrices of order {LOCAL[1]} in one call: {alone} alone, ", end="")
    print(f"{beside} beside a busy core, {slower} times as long.")


if __name__ == "__main__":
    main()
