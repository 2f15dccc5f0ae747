"""Looks for answers that depend on other matrices in the batch, their place in it or in memory, or on threads.

Every program of every function is run with each matrix alone and then in batches, elsewhere in memory and with other
numbers of threads; outputs and certificates are compared bit by bit. Prints a table and ends with 1 if any differ.

    OPENBLAS_NUM_THREADS=1 python scripts/same_bits.py --function msign --method svd --list differences.txt

With --url a running server is asked instead, with --serve one that it starts for each number of BLAS threads: every
call alone, stacked, in requests of many and beside other connections.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import torch

import matfn
from first_difference import first_difference
from processes import running_server
from same_answers import (
    BRIEF,
    FULL,
    THREADS,
    Combination,
    Difference,
    combinations,
    differences,
    shared_differences,
)
from same_answers_over_http import alone, compare, served

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from bit_cases import Case
    from same_answers import Extent, Row

_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_EXTENTS: Final = {"brief": BRIEF, "full": FULL, "threads": THREADS}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one combination.

    Attributes:
        name: of the combination.
        group: function, method and dtype.
        count: of answers compared.
        found: those that differ.
        cause: the first operation with another result, if it was asked for.
    """

    name: str
    group: tuple[str, str, str]
    count: int
    found: list[Difference]
    cause: str = ""


def _group(combination: Combination) -> tuple[str, str, str]:
    return combination.case.function, combination.method, combination.case.dtype


def _report(combination: Combination, extent: Extent, *, why: bool) -> Report:
    try:
        found, count = differences(combination, extent)
    except Exception as error:  # noqa: BLE001 - the others are still of interest
        found, count = [Difference(f"raised {error!r}", "", (), in_output=True, layout="none")], 1
    cause = first_difference(combination, found) if why and found else ""
    return Report(combination.name, _group(combination), count, found, cause)


def _reports(chosen: Sequence[Combination], extent: Extent, jobs: int, *, why: bool) -> Iterator[Report]:
    work = partial(_report, extent=extent, why=why)
    if jobs == 1:
        torch.set_num_threads(1)
        yield from map(work, chosen)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(work, chosen, chunksize=4)


def _table(reports: Iterable[Report]) -> str:
    """Combinations, comparisons and differences of each function, method and dtype."""
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    for report in reports:
        row = rows.setdefault(report.group, Counter())
        outputs = sum(difference.in_output for difference in report.found)
        row["combinations"] += 1
        row["affected"] += bool(report.found)
        row["comparisons"] += report.count
        row["outputs"] += outputs
        row["certificates"] += len(report.found) - outputs
    columns = ("combinations", "affected", "comparisons", "outputs", "certificates")
    lines = ["| function | method | dtype | combinations | affected | comparisons | outputs | certificates only |"]
    lines.append("|---" * 8 + "|")
    total: Counter[str] = Counter()
    for group, row in sorted(rows.items()):
        total.update(row)
        lines.append(f"| {' | '.join(group)} | {' | '.join(str(row[name]) for name in columns)} |")
    lines.append(f"| all | | | {' | '.join(str(total[name]) for name in columns)} |")
    return "\n".join(lines)


def _write(report: Report, file: TextIO) -> None:
    print(f"{report.name}: {len(report.found)} of {report.count}", file=file)
    if report.cause:
        print(f"    first: {report.cause}", file=file)
    for difference in report.found:
        print(f"    {difference}", file=file)
    file.flush()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--function", action="append", help="only this one; may be repeated")
    parser.add_argument("--method", help="only names of methods that hold this, such as svd or engine-fp32")
    parser.add_argument("--dtype", action="append", help="only this one; may be repeated")
    parser.add_argument("--name", action="append", help="only combinations whose names hold this; may be repeated")
    parser.add_argument("--extent", choices=tuple(_EXTENTS), default="full", help="how much is compared")
    parser.add_argument("--url", help="ask this server instead of computing here")
    parser.add_argument("--serve", action="store_true", help="ask servers started for it, with 1 to 4 BLAS threads")
    parser.add_argument("--workers", type=int, default=2, help="of such a server")
    parser.add_argument("--rounds", type=int, default=1, help="how often a server is asked beside other calls")
    parser.add_argument("--brief", action="store_true", help="only the combinations of the tests")
    parser.add_argument("--list", type=Path, help="file for every difference")
    parser.add_argument("--why", action="store_true", help="name the first operation whose result differs")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after these, at a random sample")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[Combination]:
    chosen = [
        combination
        for combination in combinations(brief=options.brief)
        if (options.function is None or combination.case.function in options.function)
        and (options.dtype is None or combination.case.dtype in options.dtype)
        and (options.method is None or options.method in combination.method)
        and (options.name is None or any(part in combination.name for part in options.name))
    ]
    random.Random(0).shuffle(chosen)  # noqa: S311 - so that what is known after a while is of all of them
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, prints and tells whether all was equal."""
    options = _options(arguments)
    started = time.monotonic()
    reports = list(_listed(_asked(options), options.list)) if options.url or options.serve else _computed(options)
    print(_table(reports))
    seconds, instructions = time.monotonic() - started, torch.backends.cpu.get_cpu_capability()
    print(f"\n{len(reports)} combinations, {seconds:.0f} s, {instructions}, torch {torch.__version__}")
    return int(any(report.found for report in reports))


def _computed(options: argparse.Namespace) -> list[Report]:
    """What this process finds, until its time is over."""
    chosen, started = _chosen(options), time.monotonic()
    reports: list[Report] = []
    for report in _listed(_reports(chosen, _EXTENTS[options.extent], options.jobs, why=options.why), options.list):
        reports.append(report)
        if time.monotonic() - started > 60 * options.minutes:
            break
    if options.extent != "threads":
        torch.set_num_threads(1)
        kinds = _EXTENTS[options.extent].kinds
        for combination, found, count in shared_differences(chosen, kinds):
            reports += _listed([Report(f"{combination.name}-shared", _group(combination), count, found)], options.list)
    return reports


def _asked(options: argparse.Namespace) -> Iterator[Report]:
    """What servers answer: the one at hand, or new ones whose answers must be those of the first as well."""
    chosen = [
        case
        for case in served(brief=options.brief)
        if (options.function is None or case.function in options.function)
        and (options.dtype is None or case.dtype in options.dtype)
        and (options.name is None or any(part in case.name for part in options.name))
    ]
    kinds = _EXTENTS[options.extent].kinds
    if options.url:
        with matfn.Client(options.url) as client:
            yield from _answered(client, alone(client, chosen, kinds), options.rounds, "")
        return
    expected: dict[tuple[Case, str], Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        for threads in map(str, range(1, 5)):
            with (
                mock.patch.dict(os.environ, dict.fromkeys(_THREADS, threads)),
                running_server(workers=str(options.workers), cache_dir=folder) as server,  # all have one profile
                matfn.Client(server.url) as client,
            ):
                expected = expected or alone(client, chosen, kinds)
                yield from _answered(client, expected, options.rounds, f"-{threads}-threads")


def _answered(
    client: matfn.Client, expected: Mapping[tuple[Case, str], Row], rounds: int, suffix: str
) -> Iterator[Report]:
    for found in compare(client, expected, rounds):
        group = found.case.function, found.method, found.case.dtype
        yield Report(found.case.name + suffix, group, found.count, found.found)


def _listed(reports: Iterable[Report], path: Path | None) -> Iterator[Report]:
    """The reports, those with differences written down as they come."""
    for report in reports:
        if report.found and path is not None:
            with path.open("a") as file:
                _write(report, file)
        yield report


if __name__ == "__main__":
    sys.exit(main())
