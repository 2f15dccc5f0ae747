"""Functions against their peers on the same work in the same run: time, error, and who wins.

Every round of a case runs each rival once, in turn, so that what the machine does meanwhile hits all alike; ratios are
taken within a round. Rivals are processes of their own (see teams.py) that all wait while one of them works. Short runs
are repeated for more rounds, since it is they that scatter.

    .venv-bench/bin/python benchmarks/bench_functions.py [--rounds 7] [--only inv_root]

writes benchmarks/results/functions.md and functions.png.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch

from function_cases import Case, distance, inputs, truth
from matfn_kernels import load_profile
from matfn_kernels.numbers.precision import Precision
from provenance import provenance
from rivals import MATFN, rivals_of
from teams import Team, cores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from matfn_kernels import Profile
    from rivals import Rival

_RESULTS: Final = Path(__file__).parent / "results"
_SLOW: Final = 0.25  # seconds of a run after which fewer rounds must do
_ENOUGH: Final = 0.5  # seconds of all rivals together until which more rounds are run
_EXACT: Final = 1e-7  # float32 answers cannot be told apart below
_BATCHES: Final = {32: 256, 64: 64, 128: 32, 256: 16, 512: 4, 1024: 2}
_PLOTTED_ORDER: Final = 64
_ENGINE_PRODUCTS: Final = 21  # of the iteration for inverse fourth roots to 1e-3
_GRID: Final = (
    *(
        Case("inv_root", n, n, batch, condition, r)
        for r in (2, 4)
        for n, batch in _BATCHES.items()
        for condition in (1e2, 1e4, 1e6)
    ),
    *(Case("inv_root", _PLOTTED_ORDER, _PLOTTED_ORDER, batch) for batch in (4, 16, 256)),
    *(Case("inv_root", n, n, 1) for n in (32, 64, 128, 256, 512)),
    *(Case("msign", n, n, batch) for n, batch in ((64, 64), (128, 32), (256, 16), (512, 4))),
    *(Case("msign", 4 * n, n, 16) for n in (64, 256)),
    *(Case("mclip", n, n, batch) for n, batch in ((64, 64), (256, 16))),
    Case("mclip", 1024, 256, 16),
    *(Case("tri_inv", n, n, batch) for n, batch in ((64, 64), (128, 64), (512, 16), (1024, 4))),
    *(Case("dplr_solve", n, 64, 2) for n in (1024, 4096, 8192)),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One rival at one case: seconds of each round, and the error of its answers."""

    rival: str
    seconds: tuple[float, ...]
    error: float

    @property
    def middle(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


class _Contest:
    """The teams of all rivals, each started when it is first needed; a context that ends them."""

    def __init__(self, rounds: int, profile: Profile) -> None:
        self._rounds = rounds
        self._profile = profile
        self._stack = ExitStack()
        self._teams: dict[str, Team] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def measured(self, case: Case) -> list[Measured]:
        """All that can do a case, each timed in every round."""
        given = inputs(case)
        rivals = rivals_of(case)
        teams = [self._team(rival) for rival in rivals]
        for team in teams:
            team.take(case, given, self._profile)
        first = [team.seconds() for team in teams]
        seconds = [[team.seconds() for team in teams] for _ in range(self._wanted(first))]
        exact = truth(case, given)
        errors = [distance(team.answers(), exact) for team in teams]
        return [Measured(rival.name, tuple(row[i] for row in seconds), errors[i]) for i, rival in enumerate(rivals)]

    def _team(self, rival: Rival) -> Team:
        if rival.name not in self._teams:
            self._teams[rival.name] = self._stack.enter_context(Team(rival))
        return self._teams[rival.name]

    def _wanted(self, first: Sequence[float]) -> int:
        if max(first) > _SLOW:
            return max(3, self._rounds // 2)
        return min(5 * self._rounds, max(self._rounds, round(_ENOUGH / sum(first))))


def _rows(case: Case, found: Sequence[Measured]) -> list[str]:
    ours = next(one for one in found if one.rival == MATFN.name)
    lines = []
    for one in found:
        each = [1e3 * s / case.batch for s in one.seconds]
        ratios = [theirs / mine for theirs, mine in zip(one.seconds, ours.seconds, strict=True)]
        middle = f"{statistics.median(each):.3g} ({min(each):.3g}..{max(each):.3g})"
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        lines.append(f"| {case.name} | {one.rival} | {middle} | {one.error:.0e} | {ratio} |")
    return lines


def _losses(found: Sequence[tuple[Case, list[Measured]]]) -> list[str]:
    """The cases in which somebody as accurate is more than 5% faster than the fastest of matfn's rows."""
    lines = []
    for case, rows in found:
        ours = min((one for one in rows if one.rival.startswith(MATFN.name)), key=lambda one: one.middle)
        for other in rows:
            equal = other.error <= max(ours.error, _EXACT)
            if not other.rival.startswith(MATFN.name) and equal and other.middle < ours.middle / 1.05:
                beaten = ours.middle / other.middle
                lines.append(f"| {case.name} | {other.rival} | {beaten:.2f} | {other.error:.0e} | {ours.error:.0e} |")
    return lines


def _plot(found: Sequence[tuple[Case, list[Measured]]], profile: Profile) -> None:
    mpl.use("Agg")
    chosen = [pair for pair in found if (pair[0].task, pair[0].r, pair[0].condition) == ("inv_root", 4, 1e4)]
    if not chosen:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), sharey=True)
    by_order = [pair for pair in chosen if pair[0].batch == _BATCHES[pair[0].rows]]
    _curves(left, by_order, [case.rows for case, _ in by_order])
    _against_order(left, by_order, profile)
    by_batch = sorted((pair for pair in chosen if pair[0].rows == _PLOTTED_ORDER), key=lambda pair: pair[0].batch)
    _curves(right, by_batch, [case.batch for case, _ in by_batch])
    left.set(xlabel="order", ylabel="ms a matrix", title="batches of 256 (n = 32) to 2 (n = 1024)")
    right.set(xlabel="batch", title=f"order {_PLOTTED_ORDER}")
    left.legend(fontsize=7)
    figure.suptitle("inverse fourth roots, condition 1e4; median and range of the rounds")
    figure.tight_layout()
    figure.savefig(_RESULTS / "functions.png", dpi=150)


def _curves(axes: Axes, chosen: Sequence[tuple[Case, list[Measured]]], along: Sequence[int]) -> None:
    """One line a rival."""
    for index in range(len(chosen[0][1]) if chosen else 0):
        ones = [(case.batch, rows[index]) for case, rows in chosen]
        middle = [1e3 * one.middle / batch for batch, one in ones]
        low = [1e3 * (one.middle - min(one.seconds)) / batch for batch, one in ones]
        high = [1e3 * (max(one.seconds) - one.middle) / batch for batch, one in ones]
        axes.errorbar(along, middle, [low, high], marker="o", capsize=2, label=ones[0][1].rival)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")


def _against_order(axes: Axes, chosen: Sequence[tuple[Case, list[Measured]]], profile: Profile) -> None:
    """The cubic law through matfn's points, and what the iteration's products would take at the rate of bmm."""
    orders = [case.rows for case, _ in chosen]
    each = [1e3 * rows[0].middle / case.batch for case, rows in chosen]
    constant = statistics.geometric_mean(ms / n**3 for ms, n in zip(each, orders, strict=True))
    axes.plot(orders, [constant * n**3 for n in orders], "k:", label=f"{constant:.2g} n^3, fitted to matfn")
    products = [1e3 * _ENGINE_PRODUCTS * profile.cost("gemm", Precision.FP32, n) / cores() for n in orders]
    axes.plot(orders, products, "k--", label=f"{_ENGINE_PRODUCTS} fp32 products on all cores")


def _machine(rounds: int) -> str:
    return f"{provenance()}\n\ntorch {torch.__version__}; {rounds} rounds."


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    profile = load_profile()
    found = []
    with _Contest(asked.rounds, profile) as contest:
        for case in _GRID:
            if asked.only in case.name:
                found.append((case, contest.measured(case)))
                print("\n".join(_rows(*found[-1])), file=sys.stderr, flush=True)
    head = ["| work | who | ms a matrix, median (range) | error | time over matfn's |", "|---|---|---|---|---|"]
    rows = [line for case, measured in found for line in _rows(case, measured)]
    losses = [
        "| work | faster at equal or better accuracy | by | its error | matfn's |",
        "|---|---|---|---|---|",
        *_losses(found),
    ]
    text = "\n\n".join([_machine(asked.rounds), "\n".join(losses), "\n".join([*head, *rows])]) + "\n"
    (_RESULTS / "functions.md").write_text(text)
    _plot(found, profile)


if __name__ == "__main__":
    main()
