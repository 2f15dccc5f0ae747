"""Proved bounds of many claimed answers against their true errors, and what a proof costs beside its answer.

Answers of the kernels and answers planted wrong by known amounts; the truth in longdouble. CPU time of one thread.

    PYTHONPATH=tests/support python benchmarks/study_proofs.py --plot proofs.png > benchmarks/results/proofs.md
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import claims
from claims import Question
from evaluating import answer
from matfn_kernels import Limits, batch_of, evaluate, load_profile, make_plan, parse_call, screen
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

ITEMS = 16
"""Matrices of a batch."""
ORDERS = (1, 2, 5, 12, 24, 40)
DTYPES = ("float32", "float64")
KINDS = ("spread", "clustered", "half_small")
EXPONENTS = (2, 5, 8)
"""Conditions: ten to these powers, the largest halved for float32."""
COSTED = ((16, 64), (64, 64), (256, 4))
"""Orders and batches at which a proof is timed."""
ROUNDS = 5


@dataclass
class Row:
    """What was seen of one function in one dtype at one order."""

    answers: int = 0
    violations: int = 0
    unproved: int = 0
    asked: int = 0
    ratios: list[float] = field(default_factory=list)


def questions(dtype: str, n: int, kind: str, kappa: float, rng: np.random.Generator) -> Iterator[Question]:
    """One of each kind."""
    a = claims.definite(rng, ITEMS, n, kappa, dtype, kind)
    for function, r, s in (("inv_root", 2, 1), ("inv_root", 4, 1), ("inv_root", 3, 2), ("root", 2, 1), ("root", 3, 1)):
        yield claims.power(function, r, s, a, kappa)
    yield claims.pair(a, kappa, np.zeros(ITEMS))
    m = claims.rectangular(rng, (ITEMS, n + n // 3, n), min(kappa, 1e5), dtype, kind)
    yield from claims.polar_factors(m, kappa)
    yield claims.clip_of_values(m, 0.1)
    yield claims.clip_of_eigenvalues(a - np.asarray(0.25, dtype) * np.eye(n, dtype=dtype), 0.0, 0.5)
    t = np.tril(rng.standard_normal((ITEMS, n, n)), -1) / n**0.5
    t[:, range(n), range(n)] = rng.uniform(min(1.0, 30 / kappa), 1, (ITEMS, n))
    b = rng.standard_normal((ITEMS, n, 3)).astype(dtype)
    yield claims.triangle(t.astype(dtype), None, lower=True)
    yield claims.triangle(t.astype(dtype), b, lower=True, transpose=True)
    factors = (rng.uniform(0.3, 1, (ITEMS, n)).astype(dtype), b / np.asarray(n, dtype), b)
    yield claims.low_rank(factors, None)
    yield claims.low_rank(factors, b)


def name_of(question: Question) -> str:
    """The function, with the power where there are several."""
    given = question.parameters
    return f"{question.function} {given['s']}/{given['r']}" if "r" in given else question.function


def examine(question: Question, dtype: str, row: Row, rng: np.random.Generator) -> None:
    """The kernels' answers, then wrong ones."""
    settings = {"damping": 0.0} if "a" in question.inputs and "lo" not in question.parameters else {}
    outputs = answer(question.function, question.inputs, **question.parameters, **settings, on_failure="nan").outputs
    error, found = claims.errors(question, outputs), claims.proved(question, outputs).error.numpy()
    count(question, row, error, found)
    answered = np.isfinite(error)
    proved = answered & np.isfinite(found)
    row.asked += int(answered.sum())
    row.unproved += int((answered & ~proved).sum())
    known = proved & (error > 3 * question.uncertainty)
    row.ratios.extend((found[known] / error[known]).tolist())
    wrong = list(islice(claims.claims(question, dtype, rng), 1, None, 3))
    planted = tuple(np.concatenate(column) for column in zip(*wrong, strict=True))
    question = claims.repeated(question, len(wrong))
    count(question, row, claims.errors(question, planted), claims.proved(question, planted).error.numpy())


def count(question: Question, row: Row, error: Any, found: Any) -> None:
    """Adds a batch's answers, and those bounded below their errors."""
    row.answers += len(error)
    row.violations += int((error > found + question.uncertainty).sum())


def study(orders: Sequence[int]) -> dict[tuple[str, str, int], Row]:
    """All rows."""
    rows: dict[tuple[str, str, int], Row] = defaultdict(Row)
    for dtype in DTYPES:
        for n in orders:
            rng = np.random.default_rng([n, len(dtype), ord(dtype[-1])])
            for kind, exponent in zip(KINDS, EXPONENTS, strict=True):
                kappa = 10.0 ** (exponent if dtype == "float64" else min(exponent, 4)) if n > 1 else 1.0
                for question in questions(dtype, n, kind, kappa, rng):
                    examine(question, dtype, rows[name_of(question), dtype, n], rng)
    return rows


def cpu_ms(work: Callable[[], object]) -> float:
    """Least CPU time after one run to warm up."""
    work()
    spent = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        spent.append((time.process_time() - started) * 1e3)
    return min(spent)


def computing(question: Question) -> Callable[[], object]:
    """The answer's computation, its plan made before."""
    inputs = {name: torch.from_numpy(x) for name, x in question.inputs.items()}
    call = screen(parse_call(question.function, inputs, dict(question.parameters), {}, Limits()))
    batch, plan = batch_of(call), make_plan(call, load_profile())
    return lambda: evaluate(plan.program, batch)


def timed(dtype: str, n: int, items: int) -> Iterator[tuple[str, float, float]]:
    """Function, milliseconds of a batch's answers and of their proofs."""
    rng = np.random.default_rng(0)
    a = claims.definite(rng, items, n, 1e3, dtype)
    m = claims.rectangular(rng, (items, n + n // 3, n), 1e3, dtype, "spread")
    t = (np.tril(rng.standard_normal((items, n, n)), -1) / n**0.5 + np.eye(n)).astype(dtype)
    b = rng.standard_normal((items, n, 8)).astype(dtype)
    factors = {"diag": np.ones((items, n), dtype), "q": b / np.asarray(n, dtype), "k": b}
    for function, inputs, parameters in (
        ("inv_root", {"a": a}, {"r": 2, "s": 1}),
        ("inv_root", {"a": a}, {"r": 4, "s": 1}),
        ("root", {"a": a}, {"r": 2, "s": 1}),
        ("sqrt_pair", {"a": a}, {}),
        ("msign", {"m": m}, {}),
        ("polar", {"m": m}, {}),
        ("mclip", {"m": m}, {"hi": 0.1}),
        ("eig_clip", {"a": a}, {"lo": 0.1}),
        ("tri_inv", {"t": t}, {}),
        ("tri_solve", {"t": t, "b": b}, {}),
        ("dplr_inv", factors, {}),
        ("dplr_solve", {**factors, "b": b}, {}),
    ):
        question = Question(function, inputs, (), parameters)
        outputs = answer(function, inputs, **parameters).outputs
        made = computing(question)
        yield name_of(question), cpu_ms(made), cpu_ms(lambda: claims.proved(question, outputs))  # noqa: B023


def table(heads: str, rows: Iterable[Iterable[object]]) -> None:
    """Prints a table in Markdown, its heads separated by commas."""
    names = heads.split(", ")
    print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


def seen(rows: Mapping[tuple[str, str, int], Row]) -> Iterator[tuple[object, ...]]:
    """The rows as they are printed."""
    for (function, dtype, n), row in sorted(rows.items(), key=lambda pair: (pair[0][1], pair[0][0], pair[0][2])):
        middle, high = np.quantile(row.ratios, [0.5, 0.99]) if row.ratios else (np.nan, np.nan)
        without = f"{row.unproved / max(row.asked, 1):.0%}"
        yield function, dtype, n, row.answers, row.violations, without, f"{middle:.3g}", f"{high:.3g}"


@dataclass(frozen=True)
class Cost:
    """What a batch's answers and their proofs take, in milliseconds."""

    function: str
    dtype: str
    order: int
    items: int
    answers: float
    proofs: float

    def printed(self) -> tuple[object, ...]:
        """A row of the second table."""
        size, ratio = f"{self.items} of order {self.order}", f"{self.proofs / self.answers:.1f}"
        return self.function, self.dtype, size, f"{self.answers:.2f}", f"{self.proofs:.2f}", ratio


def costs() -> Iterator[Cost]:
    """The costs of all functions."""
    for dtype in DTYPES:
        for n, items in COSTED:
            for function, made, proved in timed(dtype, n, items):
                yield Cost(function, dtype, n, items, made, proved)


def plot(rows: Mapping[tuple[str, str, int], Row], found: Sequence[Cost], path: Path) -> None:
    """Cost over the answer's, and bound over true error, by function and order; one line of points for each dtype."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(12, 8), sharey="row", sharex="row")
    for (cost, sharpness), dtype in zip(axes.T, DTYPES, strict=True):
        names = list(dict.fromkeys(one.function for one in found))
        for n, _ in COSTED:
            ratios = [one.proofs / one.answers for one in found if (one.dtype, one.order) == (dtype, n)]
            cost.semilogx(ratios, range(len(ratios)), "o", label=f"order {n}")
        cost.set(title=f"proof over answer, {dtype}", yticks=range(len(names)), yticklabels=names)
        names = sorted({function for function, _, _ in rows})
        for n in sorted({n for _, _, n in rows}):
            medians = [np.median(rows[name, dtype, n].ratios or [np.nan]) for name in names]
            sharpness.semilogx(medians, range(len(names)), "o", label=f"order {n}")
        sharpness.set(title=f"bound over true error, median, {dtype}", yticks=range(len(names)), yticklabels=names)
        for axis in (cost, sharpness):
            axis.axvline(1, color="black", linewidth=0.8)
            axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--orders", type=int, nargs="*", default=ORDERS, help="of the matrices whose bounds are studied"
    )
    parser.add_argument("--plot", type=Path, help="file for a plot of costs and of bounds over true errors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{provenance()}\n")
    rows, found = study(arguments.orders), list(costs())
    total, wrong = sum(row.answers for row in rows.values()), sum(row.violations for row in rows.values())
    if arguments.plot:
        plot(rows, found, arguments.plot)
    print(f"{total} claimed answers; {wrong} bounded below their true errors.\n")
    print(
        "Bound over true error of the kernels' answers that are not exact: median and 99 %; "
        "without: the share of answers that has no bound.\n"
    )
    table("function, dtype, order, claimed, violations, without, median, 99 %", seen(rows))
    print("\nCPU ms of a batch's answers and of their proofs, condition 1e3\n")
    table("function, dtype, matrices, answers, proofs, ratio", (one.printed() for one in found))


if __name__ == "__main__":
    main()
