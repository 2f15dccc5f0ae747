"""Starts the service, sends it real matrices from many callers at once, and checks every answer against float64.

Exits 0 only if every answer of every caller is within its bound and batches of more than one matrix formed.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

import matfn
from cases import Case, cases
from matfn_kernels.reference import relative_error

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLERS = 16
START_SECONDS = 60
OVERLAP = 0.25
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answered call: its worst true error, what its certificate said, and how it travelled."""

    case: Case
    error: float
    certificate: matfn.Certificate
    batch_size: int
    milliseconds: float


@contextmanager
def service() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The real service on a free port, stopped with SIGTERM at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "matfn.cli", "serve", "--port", str(port)],
        env={**os.environ, "MATFN_LOG_LEVEL": "warning"},
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=60) != 0:
            sys.exit(f"the service ended with {process.returncode}")


def wait_until_ready(client: matfn.Client, process: subprocess.Popen[bytes]) -> float:
    """Seconds until the service answered that it is ready."""
    start = time.monotonic()
    while time.monotonic() - start < START_SECONDS:
        if process.poll() is not None:
            sys.exit(f"the service ended with {process.returncode} before it was ready")
        try:
            if client.status()["state"] == "ready":
                return time.monotonic() - start
        except matfn.MatfnError:
            time.sleep(0.05)
    sys.exit(f"the service was not ready after {START_SECONDS} s")


def run_caller(client: matfn.Client, work: list[Case], number: int) -> list[Outcome]:
    """One caller's calls, in an order of its own that partly agrees with the others'."""
    order = list(work)
    shuffled = random.Random(number)  # noqa: S311 - an order, no secret
    if shuffled.random() > OVERLAP:
        shuffled.shuffle(order)
    return [call(client, case) for case in order]


def call(client: matfn.Client, case: Case) -> Outcome:
    """One call and its comparison with the exact answer."""
    start = time.perf_counter()
    answer = getattr(client.with_info, case.function)(*case.inputs, **case.keywords)
    elapsed = time.perf_counter() - start
    values = answer.value if isinstance(answer.value, tuple) else (answer.value,)
    exact = case.truth(np.array([certificate.shift for certificate in answer.certificates]))
    error = max(float(relative_error(x, y).max()) for x, y in zip(values, exact, strict=True))
    worst = max(answer.certificates, key=lambda certificate: certificate.error_estimate or 0)
    return Outcome(case, error, worst, answer.timing.batch_size, 1e3 * elapsed)


def table(outcomes: list[Outcome], work: list[Case]) -> Table:
    """One line a case, over all callers."""
    view = Table(title=f"{len(outcomes)} calls from {CALLERS} callers", title_justify="left")
    for name in (
        "function",
        "matrices",
        "shape",
        "dtype",
        "method",
        "certificate",
        "estimate",
        "true error",
        "batch",
        "ms",
    ):
        view.add_column(name, justify="right" if name in {"estimate", "true error", "batch", "ms"} else "left")
    for case in work:
        mine = [outcome for outcome in outcomes if outcome.case is case]
        certificate = mine[0].certificate
        estimate = certificate.error_estimate
        view.add_row(
            case.function,
            case.title,
            "x".join(map(str, case.inputs[0].shape)),
            str(case.inputs[0].dtype),
            f"{certificate.method} {certificate.precision}",
            str(certificate.outcome),
            "none" if estimate is None else f"{estimate:.0e}",
            f"{max(outcome.error for outcome in mine):.0e}",
            f"{min(o.batch_size for o in mine)}..{max(o.batch_size for o in mine)}",
            f"{median(outcome.milliseconds for outcome in mine):.0f}",
        )
    return view


def misses(outcomes: list[Outcome]) -> list[str]:
    """Every answer outside its bound, in words."""
    return [
        f"{outcome.case.function} of {outcome.case.title}: error {outcome.error:.1e}, allowed {outcome.case.bound:.0e}"
        for outcome in outcomes
        if not outcome.error <= outcome.case.bound
    ]


def _matrices(case: Case) -> int:
    """Matrices in a call: all of a case's inputs are single or stacks."""
    first = case.inputs[0]
    return first.shape[0] if case.title.startswith("deltanet") or first.ndim > _MATRIX else 1


def main() -> int:
    """Runs the demo and says how it went."""
    console = Console(width=None if sys.stdout.isatty() else 170)
    work = cases()
    with service() as (url, process), matfn.Client(url) as client:
        console.print(f"service ready on {url} after {wait_until_ready(client, process):.1f} s")
        with ThreadPoolExecutor(CALLERS) as pool:
            outcomes = [o for part in pool.map(lambda k: run_caller(client, work, k), range(CALLERS)) for o in part]
        histogram = client.status()["batches"]["histogram"]
    console.print(table(outcomes, work))
    sizes = ", ".join(f"{size}: {histogram[size]}" for size in sorted(histogram, key=int))
    console.print(f"batches by number of matrices: {sizes}")
    console.print(f"outcomes: {dict(Counter(str(outcome.certificate.outcome) for outcome in outcomes))}")
    failures = misses(outcomes)
    if not any(outcome.batch_size > _matrices(outcome.case) for outcome in outcomes):
        failures.append("no batch held matrices of more than one call")
    for line in failures:
        console.print(f"[red]MISS[/red] {line}")
    console.print("every answer is within its bound" if not failures else f"{len(failures)} answers missed their bound")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
