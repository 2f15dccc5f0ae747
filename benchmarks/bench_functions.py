"""Functions against their peers on the same work in the same run: time, error, and who wins.

Every round of a case runs each rival once, in turn, so that what the machine does meanwhile hits all alike; ratios are
taken within a round. Rivals are processes of their own (see teams.py) that all wait while one of them works. Short runs
are repeated for more rounds, since it is they that scatter.

    .venv-bench/bin/python benchmarks/bench_functions.py [--rounds 7] [--only inv_root]

writes benchmarks/results/functions.md and functions.png.
"""

from __future__ import annotations

import argparse
import platform
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
from matfn_kernels.calibration import measure
from rivals import MATFN, rivals_of
from teams import Team, cores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn_kernels.calibration import Profile
    from rivals import Rival

_RESULTS: Final = Path(__file__).parent / "results"
_SLOW: Final = 0.25  # seconds of a run after which fewer rounds must do
_ENOUGH: Final = 0.5  # seconds of all rivals together until which more rounds are run
_GRID: Final = (
    *(
        Case("inv_root", n, n, batch, condition, r)
        for r in (2, 4)
        for n, batch in ((32, 256), (64, 64), (128, 32), (256, 16), (512, 4), (1024, 2))
        for condition in (1e2, 1e4, 1e6)
    ),
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
    """The cases in which somebody of equal or better accuracy is more than 5% faster than all of matfn's rows."""
    lines = []
    for case, rows in found:
        ours = [one for one in rows if one.rival.startswith(MATFN.name)]
        for other in rows:
            if other in ours:
                continue
            equals = [one for one in ours if one.error <= max(other.error, 1e-7)] or ours[:1]
            best = min(statistics.median(one.seconds) for one in equals)
            if statistics.median(other.seconds) < best / 1.05:
                beaten = best / statistics.median(other.seconds)
                lines.append(f"| {case.name} | {other.rival} | {beaten:.2f} | {other.error:.0e} |")
    return lines


def _plot(found: Sequence[tuple[Case, list[Measured]]]) -> None:
    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(8, 5))
    chosen = [(case, rows) for case, rows in found if case.task == "inv_root" and case.r == 4 and case.batch > 1]  # noqa: PLR2004
    chosen = [(case, rows) for case, rows in chosen if case.condition == 1e4]  # noqa: PLR2004
    for name in [one.rival for one in chosen[0][1]] if chosen else []:
        points = [(case.rows, case.batch, one) for case, rows in chosen for one in rows if one.rival == name]
        axes.errorbar(
            [n for n, _, _ in points],
            [1e3 * statistics.median(one.seconds) / batch for _, batch, one in points],
            [
                [1e3 * (statistics.median(one.seconds) - min(one.seconds)) / batch for _, batch, one in points],
                [1e3 * (max(one.seconds) - statistics.median(one.seconds)) / batch for _, batch, one in points],
            ],
            marker="o",
            capsize=2,
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("order")
    axes.set_ylabel("ms a matrix")
    axes.set_title("inverse fourth roots in batches, condition 1e4; median and range of the rounds")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(_RESULTS / "functions.png", dpi=150)


def _machine(rounds: int) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return (
        f"{name or platform.machine()}, {cores()} cores, torch {torch.__version__}; {rounds} rounds."
        f" Command: `python {' '.join(sys.argv)}`"
    )


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    profile = measure()
    found = []
    with _Contest(asked.rounds, profile) as contest:
        for case in _GRID:
            if asked.only in case.name:
                found.append((case, contest.measured(case)))
                print("\n".join(_rows(*found[-1])), file=sys.stderr, flush=True)
    head = ["| work | who | ms a matrix, median (range) | error | time over matfn's |", "|---|---|---|---|---|"]
    rows = [line for case, measured in found for line in _rows(case, measured)]
    losses = ["| work | faster at equal or better accuracy | by | its error |", "|---|---|---|---|", *_losses(found)]
    text = "\n\n".join([_machine(asked.rounds), "\n".join(losses), "\n".join([*head, *rows])]) + "\n"
    (_RESULTS / "functions.md").write_text(text)
    _plot(found)


if __name__ == "__main__":
    main()
