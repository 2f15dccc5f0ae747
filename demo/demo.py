"""Starts the service, sends it real matrices from many callers at once, and checks every answer against float64.

Exits 0 only if every answer of every caller is within its bound and batches of more than one matrix formed.
"""

from __future__ import annotations

import math
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
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

import matfn
from cases import Array, Case, cases, matrices
from equations import equations
from matfn.answers import outputs_of
from matfn_kernels.reference import errors, relative_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CALLERS = 16
START_SECONDS = 60
_MATRIX = 2
_TRUTH = 2e-10
"""Error of the definitions in float64 for these matrices, whose condition is up to 1e5."""


@dataclass(frozen=True, slots=True)
class Received:
    """One answer as it came, and how long it took."""

    case: Case
    answer: matfn.Answer[Any]
    milliseconds: float


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
        [str(Path(sys.executable).with_name("matfn")), "serve", "--port", str(port)],
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


def run_caller(client: matfn.Client, work: list[Case], number: int) -> list[Received]:
    """One caller's calls: half of the callers start at the same time with the same, half go their own way."""
    order = list(work)
    if number % 2:
        random.Random(number).shuffle(order)  # noqa: S311 - an order, no secret
    return [call(client, case) for case in order]


def call(client: matfn.Client, case: Case) -> Received:
    """One call, timed from the caller's side."""
    start = time.perf_counter()
    answer = getattr(client.with_info, case.function)(*case.inputs, **case.keywords)
    return Received(case, answer, 1e3 * (time.perf_counter() - start))


def compared(received: list[Received]) -> list[Outcome]:
    """Every answer against the exact one; callers whose certificates state the same shifts share it."""
    exact: dict[tuple[int, tuple[float, ...]], tuple[Array, ...]] = {}
    outcomes = []
    for one in received:
        shifts = tuple(certificate.shift for certificate in one.answer.certificates)
        key = id(one.case), shifts
        if key not in exact:
            exact[key] = one.case.truth(np.array(shifts))
        values = outputs_of(one.answer.value)
        error = _error(one.case, values, exact[key])
        worst = max(one.answer.certificates, key=lambda certificate: certificate.error_estimate or 0)
        outcomes.append(Outcome(one.case, error, worst, one.answer.timing.batch_size, one.milliseconds))
    return outcomes


def _error(case: Case, values: Sequence[Array], exact: Sequence[Array]) -> float:
    """The largest error of an answer's outputs, in the sense of its certificate."""
    if case.function in {"eigh", "eigenbasis"}:
        inputs = dict(zip(("a", "q"), (x[None] for x in case.inputs), strict=False))
        return float(errors(case.function, inputs, *([np.asarray(x)[None] for x in xs] for xs in (values, exact)))[0])
    of_all = case.function == "qk_clip"  # whose certificate is of all heads together
    return max(distance(x, y, of_all=of_all) for x, y in zip(values, exact, strict=True))


def distance(x: Array, exact: Array, *, of_all: bool = False) -> float:
    """Largest relative error over a stack of matrices, or of a vector, a number or all matrices as a whole."""
    if exact.ndim < _MATRIX or of_all:
        return float(np.linalg.norm(np.asarray(x, np.float64) - exact) / np.linalg.norm(exact))
    return float(relative_error(x, exact).max())


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
    """Every answer outside its bound, or further from the truth than its certificate's estimate, in words."""
    return [
        f"{outcome.case.function} of {outcome.case.title}: error {outcome.error:.1e}, allowed {limit:.0e}"
        for outcome in outcomes
        for limit in (outcome.case.bound, _stated(outcome))
        if not outcome.error <= limit
    ]


def _stated(outcome: Outcome) -> float:
    """The estimate with the rounding of the truth, which is computed in float64; infinite where there is none."""
    estimate = outcome.certificate.error_estimate
    return math.inf if estimate is None else estimate + _TRUTH


def _matrices(case: Case) -> int:
    """Matrices in a call: all of a case's inputs are single or stacks."""
    first = case.inputs[0]
    return first.shape[0] if case.title.startswith("deltanet") or first.ndim > _MATRIX else 1


def run(client: matfn.Client, console: Console) -> int:
    """Sends every case from all callers to a server that is ready, and says how it went."""
    work = [*cases(), *equations(matrices())]
    start = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        received = [one for part in pool.map(partial(run_caller, client, work), range(CALLERS)) for one in part]
    seconds = time.perf_counter() - start
    histogram = client.status()["batches"]["histogram"]
    outcomes = compared(received)
    console.print(table(outcomes, work))
    console.print(f"{len(received) / seconds:.0f} calls a second")
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


def main() -> int:
    """Runs the demo on a service of its own."""
    console = Console(width=None if sys.stdout.isatty() else 170)
    with service() as (url, process), matfn.Client(url) as client:
        console.print(f"service ready on {url} after {wait_until_ready(client, process):.1f} s")
        return run(client, console)


if __name__ == "__main__":
    sys.exit(main())
