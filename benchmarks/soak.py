"""Mixed traffic for a while with a fault now and then: does anything grow that should not?

Callers of every kind call all the time (checked_callers.py); every quarter of a minute something happens to the server
that it should survive (faults.py). Every five seconds the memory of its processes, their descriptors and threads are
counted, and the latencies of the last five seconds. The slope of each series is Theil's: the median of the slopes
between all pairs of samples, which a few high ones do not move. A series grows if its slope is above zero at 99 %, by
the rank correlation of Kendall, and would have added more than is allowed over the run. The exit code is 1 if memory or
descriptors grow, or if a request was answered wrongly, twice or not at all.

    python benchmarks/soak.py [--minutes N]      # writes benchmarks/results/soak.md and soak.png
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from checked_callers import calling
from ends import End
from faults import FAULTS, MEMORY, PASSING, WORKERS, Target
from occupied import occupied
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checked_callers import Callers

_SAMPLE_SECONDS: Final = 5.0
_FAULT_SECONDS: Final = 15.0
_SETTLING: Final = 0.25
"""Share of the run in which memory is taken for the first time; slopes are of what follows."""
_CERTAIN: Final = 2.326
"""The 99 % quantile of the normal distribution, which Kendall's statistic follows."""
_FEWEST: Final = 8
"""Samples below which the normal distribution says little."""
_FOLDER: Final = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample at one time.

    Attributes:
        minutes: since the start.
        server: MiB of the server's own process.
        all: MiB of all processes.
        descriptors: open in the server's own process.
        all_descriptors: open in all processes.
        threads: of all processes.
        p50: median latency since the last sample, in ms.
        p99: 99 % quantile of it.
    """

    minutes: float
    server: float
    all: float
    descriptors: float
    all_descriptors: float
    threads: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity of the samples, and what it may grow by over a run.

    Attributes:
        name: of the sample's field.
        title: with its unit.
        allowed: what the run may add to the median by its slope; infinite for what is only shown.
        share: of the median that may be added besides.
    """

    name: str
    title: str
    allowed: float = math.inf
    share: float = 0.0


# workers that are replaced begin small and grow to what their work takes, and connections come and go
SERIES: Final = (
    Series("server", "memory of the server's process, MiB", 16.0, 0.05),
    Series("all", "memory of all processes, MiB", 32.0, 0.05),
    Series("descriptors", "descriptors of the server's process", 4.0),
    Series("all_descriptors", "descriptors of all processes", 6.0),
    Series("threads", "threads of all processes"),
    Series("p50", "latency, p50, ms"),
    Series("p99", "latency, p99, ms"),
)


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through a series.

    Attributes:
        slope: per minute.
        is_rising: whether the slope is above zero at 99 %.
    """

    slope: float
    is_rising: bool


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Theil's slope, and Kendall's test of it; ties count for nothing in the test."""
    first, second = np.triu_indices(len(times), 1)
    run, rise = (
        np.asarray(times)[second] - np.asarray(times)[first],
        np.asarray(values)[second] - np.asarray(values)[first],
    )
    n, score = len(times), float(np.sign(rise).sum())
    ties = np.unique(values, return_counts=True)[1]
    variance = float(n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    is_rising = n >= _FEWEST and variance > 0 and (score - 1) / math.sqrt(variance) > _CERTAIN
    return Trend(float(np.median(rise / run)), is_rising)


def grows(series: Series, samples: Sequence[Sample]) -> bool:
    """Whether a series rises by more than is allowed over these samples."""
    values = [getattr(sample, series.name) for sample in samples]
    found = trend([sample.minutes for sample in samples], values)
    added = found.slope * (samples[-1].minutes - samples[0].minutes)
    return found.is_rising and added > series.allowed + series.share * median(values)


def settled(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples after the time in which memory is taken for the first time."""
    return samples[int(_SETTLING * len(samples)) :]


def table(samples: Sequence[Sample]) -> Iterator[str]:
    """A line for each series: medians of its first and last quarter, its slope, and the verdict."""
    yield "| series | first quarter | last quarter | an hour | verdict |"
    yield "|---|---|---|---|---|"
    for series in SERIES:
        known = [sample for sample in samples if not math.isnan(getattr(sample, series.name))]
        yield _row(series, known) if len(known) > 1 else f"| {series.title} | | | | nothing to see |"


def _row(series: Series, samples: Sequence[Sample]) -> str:
    values = [getattr(sample, series.name) for sample in samples]
    quarter, rest = max(1, len(samples) // 4), settled(samples)
    found = trend([sample.minutes for sample in rest], [getattr(sample, series.name) for sample in rest])
    verdict = "shown only" if math.isinf(series.allowed) else "grows" if grows(series, rest) else "does not grow"
    first, last = median(values[:quarter]), median(values[-quarter:])
    return f"| {series.title} | {first:.1f} | {last:.1f} | {60 * found.slope:+.1f} | {verdict} |"


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile of some numbers, NaN of none."""
    return sorted(values)[int(share * (len(values) - 1))] if values else math.nan


def watch(target: Target, callers: Callers, seconds: float) -> list[Sample]:
    """Samples while the callers call."""
    samples, began, told = list[Sample](), time.monotonic(), 0
    while time.monotonic() - began < seconds:
        time.sleep(_SAMPLE_SECONDS)
        fresh, told = callers.seen[told:], len(callers.seen)
        latencies = [1e3 * one.seconds for one in fresh if one.end is End.RIGHT]
        now = occupied(target.pid)
        samples.append(
            Sample(
                (time.monotonic() - began) / 60,
                now.own_bytes / 2**20,
                now.all_bytes / 2**20,
                now.descriptors,
                now.all_descriptors,
                now.threads,
                quantile(latencies, 0.5),
                quantile(latencies, 0.99),
            )
        )
    return samples


def trouble(target: Target, over: threading.Event, happened: Counter[str]) -> None:
    """A fault every quarter of a minute, each of those that a process survives as often as any other."""
    kinds = list[str]()
    while not over.wait(_FAULT_SECONDS):
        kinds = kinds or target.rng.sample(PASSING, len(PASSING))
        kind = kinds.pop()
        FAULTS[kind](target)
        happened[kind] += 1


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Memory, descriptors and threads, and latencies over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(9, 8), sharex=True)
    times = [sample.minutes for sample in samples]
    for axis, label, names in zip(
        axes,
        ("MiB", "", "ms"),
        (("server", "all"), ("descriptors", "all_descriptors", "threads"), ("p50", "p99")),
        strict=True,
    ):
        for name in names:
            title = next(series.title for series in SERIES if series.name == name)
            axis.plot(times, [getattr(sample, name) for sample in samples], label=title)
        axis.set_ylabel(label)
        axis.legend(fontsize="small", loc="lower right")
    for axis in axes[:-1]:
        axis.set_ylim(bottom=0)
    axes[-1].set(xlabel="minutes", yscale="log")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def run(target: Target, minutes: float) -> tuple[list[Sample], list[str], str]:
    """A run on a server that is ready: its samples, what was wrong, and the requests by their ends."""
    over, happened = threading.Event(), Counter[str]()
    with calling(target.service, seed=1) as callers:
        disturber = threading.Thread(target=trouble, args=(target, over, happened))
        disturber.start()
        samples = watch(target, callers, 60 * minutes)
        over.set()
        disturber.join()
    ends = [*callers.seen, *target.seen]
    bad = [f"{one.end}: {one.detail}" for one in ends if one.end in {End.WRONG, End.HUNG}] + target.amiss
    number = Counter(str(one.end) for one in ends)
    told = ", ".join(f"{number[end]} {end}" for end in End)
    return (
        samples,
        bad,
        f"{len(ends)} requests: {told}. Faults: {', '.join(f'{n} {kind}' for kind, n in sorted(happened.items()))}.",
    )


def main() -> int:
    """Writes the table, the samples and the plot; returns 1 where something grows or was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=4.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder) / "keys", random.Random(1))  # noqa: S311 - no secret
        target.start()
        try:
            samples, bad, told = run(target, minutes)
        finally:
            target.server.stop()
    bad += [f"{series.title} grows" for series in SERIES if grows(series, settled(samples))]
    command = f"make soak MINUTES={minutes:g}"
    head = f"{provenance(command=command)}\n\n{WORKERS} workers, MATFN_MEMORY {MEMORY // 10**6} MB. {told}"
    content = (
        f"{head}\n\n![memory, descriptors and latencies over time](soak.png)\n\n" + "\n".join(table(samples)) + "\n"
    )
    (_FOLDER / "soak.md").write_text(content)
    plot(samples, _FOLDER / "soak.png")
    print(content)
    print("\n".join(bad) or "nothing grows, and every request had its end", file=sys.stderr)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
