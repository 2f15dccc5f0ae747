"""Matrix equations of control in batches, certificates included, beside a loop over scipy.

In one process on one core, both on the same float64 matrices in the same rounds. Times are those of the processor. Of
the certificates the worst outcome counts; scipy states no error.

    OMP_NUM_THREADS=1 python benchmarks/bench_equations.py > benchmarks/results/equations.md
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import scipy.linalg
import torch

import matfn
from provenance import provenance
from turns import quotients, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.float64]"

ORDERS: Final = (2, 6, 20, 50)
ITEMS: Final = 200
SHIFT: Final = 1.2
"""Times the square root of the order: how far eigenvalues of A are moved to the left of a disc of that radius."""
RADIUS: Final = 0.95
"""Largest magnitude of an eigenvalue of A in discrete time."""


@dataclass(frozen=True, slots=True)
class Case:
    """One function on one batch.

    Attributes:
        name: in words.
        ours: matfn's call, with certificates.
        theirs: scipy's loop.
    """

    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


def one_by_one(function: Callable[..., Any], *batches: Array) -> list[Any]:
    """The function of each item in turn."""
    return [function(*items) for items in zip(*batches, strict=True)]


def with_gain(a: Array, b: Array, q: Array, r: Array) -> tuple[Array, Array]:
    """X of the Riccati equation in continuous time and K = R^-1 B^T X."""
    x = scipy.linalg.solve_continuous_are(a, b, q, r)
    return x, scipy.linalg.solve(r, b.T @ x, assume_a="pos")


def with_discrete_gain(a: Array, b: Array, q: Array, r: Array) -> tuple[Array, Array]:
    """X of that in discrete time and K = (R + B^T X B)^-1 B^T X A."""
    x = scipy.linalg.solve_discrete_are(a, b, q, r)
    return x, scipy.linalg.solve(r + b.T @ x @ b, b.T @ x @ a, assume_a="pos")


def cases(client: matfn.LocalClient, order: int, items: int) -> Iterator[Case]:
    """All functions on systems with a third as many inputs as states."""
    rng = np.random.default_rng(order)
    inputs = max(1, order // 3)
    a = rng.standard_normal((items, order, order)) - SHIFT * order**0.5 * np.eye(order)
    other = rng.standard_normal((items, order, order)) - SHIFT * order**0.5 * np.eye(order)
    discrete = a * (RADIUS / np.abs(np.linalg.eigvals(a)).max(axis=1))[:, None, None]
    b, right = rng.standard_normal((items, order, inputs)), rng.standard_normal((items, order, order))
    q, r = (np.broadcast_to(np.eye(n), (items, n, n)).copy() for n in (order, inputs))
    ask = client.with_info
    works: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Array, ...]]] = {
        "solve_lyapunov": (ask.solve_lyapunov, scipy.linalg.solve_continuous_lyapunov, (a, q)),
        "solve_sylvester": (ask.solve_sylvester, scipy.linalg.solve_sylvester, (a, other, right)),
        "solve_discrete_lyapunov": (ask.solve_discrete_lyapunov, scipy.linalg.solve_discrete_lyapunov, (discrete, q)),
        "solve_care": (ask.solve_care, scipy.linalg.solve_continuous_are, (a, b, q, r)),
        "solve_care, gain=True": (partial(ask.solve_care, gain=True), with_gain, (a, b, q, r)),
        "solve_dare": (ask.solve_dare, scipy.linalg.solve_discrete_are, (discrete, b, q, r)),
        "solve_dare, gain=True": (partial(ask.solve_dare, gain=True), with_discrete_gain, (discrete, b, q, r)),
    }
    for name, (ours, theirs, given) in works.items():
        yield Case(name, partial(ours, *given), partial(one_by_one, theirs, *given))


def row(case: Case, order: int, items: int, rounds: int) -> str:
    """Times of both, in how many times matfn's scipy's is, and what the certificates say."""
    spent = timed({"matfn": case.ours, "scipy": case.theirs}, rounds, time.process_time)
    outcomes = Counter(str(one.outcome) for one in case.ours().certificates)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    times = (spread([x / items for x in spent[name]]) for name in ("matfn", "scipy"))
    return f"| `{case.name}` | {order} | {' | '.join((*times, quotients(spent['scipy'], spent['matfn']), said))} |"


def spread(times: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(times):.3g} ({min(times):.3g}..{max(times):.3g})"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--only", default="", help="part of a function's name")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{provenance()}\n")
    print(
        f"Milliseconds of one core for a matrix of a batch of {asked.items}, medians of {asked.rounds} rounds with "
        f"their range; quotients within rounds. scipy {scipy.__version__}.\n"
    )
    print("| function | order | matfn | scipy | scipy's time over matfn's | certificates |\n|---|---|---|---|---|---|")
    with matfn.LocalClient() as client:
        for order in ORDERS:
            for case in cases(client, order, asked.items):
                if asked.only in case.name:
                    print(row(case, order, asked.items, asked.rounds), flush=True)


if __name__ == "__main__":
    main()
