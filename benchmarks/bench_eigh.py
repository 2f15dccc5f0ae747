"""Batches of small symmetric eigendecompositions: the kernels in C beside torch.linalg.eigh, time and accuracy.

Both decompose the same Gaussian matrices on one thread, torch one matrix after the other in its own batch loop. Times
are medians over rounds in which the two take turns; residual and skewness ||V^T V - I||_F are the largest of the batch,
in units of eps ||A||_F and eps n^(1/2).

    python benchmarks/bench_eigh.py > benchmarks/results/eigh.md
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.native.library import variant
from matfn_kernels.linalg.single_thread import one_thread
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ORDERS: Final = (4, 8, 16, 24, 32, 48, 64)
ROUNDS: Final = 15
NUMBERS: Final = 1 << 17
"""Entries of a batch."""


def _gaussian(items: int, order: int, dtype: torch.dtype) -> Tensor:
    a = torch.randn(items, order, order, generator=torch.Generator().manual_seed(order), dtype=torch.float64)
    return (a + a.mT).to(dtype)


def _microseconds(runs: tuple[Callable[[], object], ...], items: int) -> list[list[float]]:
    """Times of each, a matrix, in rounds in which they take turns."""
    spent: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    for _ in range(ROUNDS):
        for run, times in zip(runs, spent, strict=True):
            began = time.perf_counter()
            run()
            times.append((time.perf_counter() - began) * 1e6 / items)
    return spent


def _errors(a: Tensor, found: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Largest residual and skewness, in extended precision."""
    eps = torch.finfo(a.dtype).eps
    wide, w, v = (np.asarray(x.numpy(), np.longdouble) for x in (a[:64], found[0][:64], found[1][:64]))
    residual = np.linalg.norm((wide @ v - v * w[:, None, :]).astype(float), axis=(1, 2))
    skew = np.linalg.norm((v.swapaxes(1, 2) @ v - np.eye(v.shape[-1])).astype(float), axis=(1, 2))
    size = np.linalg.norm(wide.astype(float), axis=(1, 2))
    return float((residual / size).max() / eps), float(skew.max() / eps / v.shape[-1] ** 0.5)


def _row(order: int, dtype: torch.dtype) -> str:
    items = max(16, NUMBERS // order**2 // 32 * 32)
    a = _gaussian(items, order, dtype)
    lone = a[:1].clone()
    ours, theirs, one, other = _microseconds(
        (
            lambda: invariant.eigh(a),
            lambda: torch.linalg.eigh(a),
            lambda: invariant.eigh(lone),
            lambda: torch.linalg.eigh(lone),
        ),
        1,
    )
    ratios = sorted(y / x for x, y in zip(ours, theirs, strict=True))
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    errors: list[Any] = [*_errors(a, invariant.eigh(a)), *_errors(a, tuple(torch.linalg.eigh(a)))]
    times = (statistics.median(x) for x in (ours, theirs))
    alone = (statistics.median(x) for x in (one, other))
    return (
        f"| {str(dtype).removeprefix('torch.')} | {order} | {items} | "
        + " | ".join(f"{x / items:.2f}" for x in times)
        + f" | {spread} | "
        + " | ".join(f"{x:.0f}" for x in alone)
        + " | "
        + " | ".join(f"{x:.1f}" for x in errors)
        + " |"
    )


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    print(f"{provenance()}\n")
    print(f"torch {torch.__version__}, {variant()}, one thread, microseconds a matrix, medians of {ROUNDS} rounds.\n")
    print(
        "| dtype | order | batch | matfn | torch | torch / matfn | one alone | torch | residual | skewness | torch's "
        "residual | skewness |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    )
    with one_thread():
        for dtype in (torch.float64, torch.float32):
            for order in ORDERS:
                print(_row(order, dtype), flush=True)


if __name__ == "__main__":
    main()
