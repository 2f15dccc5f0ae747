"""Steps of Shampoo that refreshes its roots beside the training, against steps of one that refreshes no more.

The server has the second core to itself, the training the first, with one thread. Both runs train the model of
examples/shampoo.py from the same seed, alternately, each the same number of steps; the plain run has its roots from the
first refresh and asks for none after it. The quantiles are of the seconds that `step()` took, without the first
refresh, which is waited for.

    python benchmarks/bench_shampoo_steps.py > benchmarks/results/shampoo_steps.md
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

import matfn
from matfn.optim import Shampoo
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Sequence

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import shampoo as example

ROUNDS: Final = 7
STEPS: Final = 400
REFRESH_EVERY: Final = 10
_SIZE: Final = example.Size(STEPS, layers=2, batch=8, refresh_every=REFRESH_EVERY, shown_every=STEPS)
_PORT: Final = 8642


@dataclass(frozen=True, slots=True)
class Steps:
    """Quantiles of the steps of a run, ms."""

    p50: float
    p90: float
    p99: float
    mean: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Steps:
        """The quantiles of these seconds."""
        cuts = statistics.quantiles(seconds, n=100)
        return cls(1e3 * cuts[49], 1e3 * cuts[89], 1e3 * cuts[98], 1e3 * statistics.fmean(seconds))


def steps(client: matfn.Client, refresh_every: int, seed: int) -> list[float]:
    """Seconds of each step but the first refresh's, of a run with a refresh every so many steps after the first."""
    torch.manual_seed(seed)
    text = example.corpus()
    model = example.Model(int(text.max()) + 1, _SIZE.layers)
    optimizer = Shampoo(
        model.parameters(),
        lr=2e-3,
        client=client,
        refresh_every=refresh_every,
        start_step=1,
        betas=(0.9, 0.99),
        max_staleness=2 * refresh_every,
    )
    seconds = []
    for piece in example.batches(text, _SIZE, STEPS, seed):
        optimizer.zero_grad()
        model(*piece).backward()
        start = time.perf_counter()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def started(core: int) -> subprocess.Popen[bytes]:
    """A server on this core."""
    command = ["taskset", "-c", str(core), sys.executable, "-m", "matfn", "serve", "--port", str(_PORT)]
    environment = {**os.environ, "MATFN_LOG_LEVEL": "warning", "MATFN_WORKERS": "1"}
    process = subprocess.Popen(command, env=environment)  # noqa: S603
    example.wait_until_ready(f"http://127.0.0.1:{_PORT}", process)
    return process


def report(plain: Sequence[Steps], refreshing: Sequence[Steps]) -> str:
    """The table: medians over the rounds, and of the ratios within a round the median and range."""
    lines = ["| quantile of step() | no refresh, ms | refreshes, ms | ratio, median | range |", "|---|---|---|---|---|"]
    for name in ("p50", "p90", "p99", "mean"):
        ones, others = ([getattr(run, name) for run in runs] for runs in (plain, refreshing))
        ratios = [other / one for one, other in zip(ones, others, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        lines.append(
            f"| {name} | {statistics.median(ones):.2f} | {statistics.median(others):.2f} "
            f"| {statistics.median(ratios):.2f} | {spread} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs all rounds and prints the table."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    server = started(second)
    os.sched_setaffinity(0, {first})
    torch.set_num_threads(1)
    plain, refreshing = [], []
    try:
        with matfn.Client(f"http://127.0.0.1:{_PORT}") as client:
            steps(client, REFRESH_EVERY, ROUNDS)
            for seed in range(ROUNDS):
                plain.append(Steps.of(steps(client, STEPS + 1, seed)))
                refreshing.append(Steps.of(steps(client, REFRESH_EVERY, seed)))
    finally:
        server.terminate()
        server.wait()
    os.sched_setaffinity(0, {first, second})
    print("# Steps of Shampoo with and without refreshes beside them\n")
    print(provenance() + "\n")
    print(f"{STEPS} steps a run, a refresh every {REFRESH_EVERY}, {ROUNDS} rounds; the server has a core of its own.\n")
    print(report(plain, refreshing))


if __name__ == "__main__":
    main()
