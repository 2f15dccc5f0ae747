"""Inverse fourth roots of Shampoo's factors: LocalClient, certificates included, beside what a user would write.

The factors are Gram matrices G G^T / m of float32 gradients of rank n / 4, rounded, so that their smallest eigenvalues
are rounding of either sign; and the shipped factors of a language model, cut into blocks. Beside it, on the same
matrices in the same rounds: torch.linalg.eigh in float64 with its two products (bare), and the coupled Newton iteration
in float32 as distributed Shampoo publishes it (Anil et al., 2020). All have the machine's cores.

    python benchmarks/bench_roots.py > benchmarks/results/roots.md
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

import matfn
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CELLS: Final = ((64, 4), (64, 16), (128, 4), (128, 16), (256, 8), (512, 4))
DAMPINGS: Final = (1e-4, 1e-6, None)
ROUNDS: Final = 9
NEWTON_STEPS: Final = 100
NEWTON_TOLERANCE: Final = 1e-6
_MODEL: Final = Path(__file__).parents[1] / "demo" / "matrices.npz"


def _synthetic(order: int, items: int) -> Tensor:
    generator = torch.Generator().manual_seed(order)
    g = torch.randn(items, order, order // 4, generator=generator)
    return g @ g.mT / order


def _real(order: int, items: int) -> Tensor:
    """Blocks on the diagonals of the shipped factors."""
    with np.load(_MODEL) as arrays:
        factors = [arrays[name] for name in ("shampoo_l_step1", "shampoo_l_step20", "shampoo_r_step20")]
    blocks = [f[i : i + order, i : i + order] for f in factors for i in range(0, len(f) - order + 1, order)]
    return torch.from_numpy(np.stack((blocks * items)[:items]).astype(np.float32))


def _bare(damping: float) -> Callable[[Tensor], Tensor]:
    """V f(w) V^T with eigh in float64."""

    def root(a: Tensor) -> Tensor:
        w, v = torch.linalg.eigh(a.double())
        f = (w + damping * w[..., -1:]).pow(-0.25)
        return ((v * f[..., None, :]) @ v.mT).float()

    return root


def _newton(damping: float) -> Callable[[Tensor], Tensor]:
    """The coupled Newton iteration for A^(-1/4) in float32."""

    def root(a: Tensor) -> Tensor:
        identity = torch.eye(len(a))
        top = torch.linalg.matrix_norm(a, 2)
        damped = a + damping * top * identity
        z = 5 / (2 * torch.linalg.matrix_norm(damped))
        x, m = identity * z**0.25, damped * z
        for _ in range(NEWTON_STEPS):
            step = (5 * identity - m) / 4
            square = step @ step
            x, m = x @ step, square @ square @ m
            if (m - identity).abs().max() <= NEWTON_TOLERANCE:
                break
        return x

    return root


def _each(root: Callable[[Tensor], Tensor], a: Tensor, pool: ThreadPoolExecutor) -> Tensor:
    """One matrix a core."""
    return torch.stack(list(pool.map(root, a)))


def _error(found: Tensor, a: Tensor, shifts: Any) -> float:
    """Largest relative error against eigh of A + shift I in float64."""
    w, v = np.linalg.eigh(a.double().numpy() + np.asarray(shifts)[:, None, None] * np.eye(a.shape[-1]))
    exact = (v * np.maximum(w, 1e-300)[:, None, :] ** -0.25) @ v.swapaxes(1, 2)
    return float(
        (np.linalg.norm(found.double().numpy() - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))).max()
    )


def _rounds(runs: list[Callable[[], Any]]) -> list[list[float]]:
    spent: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    for _ in range(ROUNDS):
        for run, times in zip(runs, spent, strict=True):
            began = time.perf_counter()
            run()
            times.append((time.perf_counter() - began) * 1e3)
    return spent


def _row(source: str, a: Tensor, damping: float | None, client: matfn.LocalClient, pool: ThreadPoolExecutor) -> str:
    ask = client.with_info.inv_root
    relative = 8 * float(torch.finfo(torch.float32).eps) if damping is None else damping
    bare, newton = _bare(relative), _newton(relative)
    answer = ask(a, r=4, damping=damping)
    ours, theirs, iterated = _rounds(
        [lambda: ask(a, r=4, damping=damping), lambda: _each(bare, a, pool), lambda: _each(newton, a, pool)]
    )
    ratios = sorted(y / x for x, y in zip(ours, theirs, strict=True))
    top = torch.linalg.eigvalsh(a.double())[:, -1].numpy()
    shifts = [certificate.shift or 0.0 for certificate in answer.certificates]
    errors = (
        _error(answer.value, a, shifts),
        _error(_each(bare, a, pool), a, relative * top),
        _error(_each(newton, a, pool), a, relative * top),
    )
    first = answer.certificates[0]
    return (
        f"| {source} | {len(a)} of {a.shape[-1]} | {'default' if damping is None else f'{damping:g}'} "
        f"| {first.method} {first.precision} | {statistics.median(ours):.2f} | {statistics.median(theirs):.2f} "
        f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {statistics.median(iterated):.2f} "
        f"| {' | '.join(f'{error:.1e}' for error in errors)} |"
    )


def main() -> None:
    """Prints the table."""
    cores = len(os.sched_getaffinity(0))
    print(f"{provenance()}\n")
    print(f"Milliseconds a batch, medians of {ROUNDS} rounds; bare and Newton one matrix a core.\n")
    print(
        "| factors | batch | damping | answered by | matfn | bare eigh | bare / matfn | Newton "
        "| error | bare | Newton |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    client = matfn.LocalClient()
    sources = (("synthetic", _synthetic, CELLS), ("a model's", _real, CELLS[:-1]))
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for source, made, cells in sources:
            for order, items in cells:
                for damping in DAMPINGS:
                    print(_row(source, made(order, items), damping, client, pool), flush=True)


if __name__ == "__main__":
    main()
