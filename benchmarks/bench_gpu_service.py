"""Preconditioner blocks through a service on a GPU, against what their owner could do without it.

Each call is a stack of fp32 matrices of condition 1e4, sent and answered over loopback with certificates. Beside it in
every round: torch's eigh on the same GPU, the matrices coming from and going to the host as well, and torch's eigh on
the host's own cores. Errors are against float64.

    python benchmarks/bench_gpu_service.py > benchmarks/results/gpu_service.md
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

import matfn

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

from demo import service, wait_until_ready
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ROUNDS: Final = 5
SAMPLE: Final = 2
STACKS: Final = ((256, 32), (64, 128), (64, 256), (32, 512), (16, 1024), (4, 2048))


def stack(items: int, order: int) -> Tensor:
    """Symmetric positive definite (items, n, n), fp32, on the host."""
    generator = torch.Generator().manual_seed(order)
    vectors = torch.linalg.qr(torch.randn(items, order, order, generator=generator, dtype=torch.float64))[0]
    a = (vectors * torch.logspace(0, -4, order, dtype=torch.float64)) @ vectors.mT
    return ((a + a.mT) / 2).to(torch.float32)


def fourth_root(a: Tensor) -> Tensor:
    """A^(-1/4) by eigh."""
    values, vectors = torch.linalg.eigh(a)
    root: Tensor = (vectors * values.clamp_min(1e-12).pow(-0.25)[:, None, :]) @ vectors.mT
    return root


def there_and_back(a: Tensor) -> Tensor:
    """The same on the GPU."""
    return fourth_root(a.to("cuda")).cpu()


def milliseconds(work: Callable[[], Tensor]) -> float:
    """Of one run."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def error(found: Tensor, a: Tensor) -> float:
    """Largest relative error of a sample."""
    truth = fourth_root(a[:SAMPLE].double())
    missing = torch.linalg.matrix_norm(found[:SAMPLE].double() - truth) / torch.linalg.matrix_norm(truth)
    return float(missing.max())


def main() -> None:
    """Prints the table, or says that there is nothing to measure on."""
    if not torch.cuda.is_available():
        print("No GPU that PyTorch can use: nothing was measured.")
        return
    print(f"{provenance(f'{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}')}\n")
    print(f"`inv_root(a, r=4)`, fp32, condition 1e4; {ROUNDS} rounds, medians (range), ratios within a round\n")
    print("| matrices | who | ms | times as long as the service | error |")
    print("|---|---|---|---|---|")
    with service() as (url, process), matfn.Client(url) as client:
        wait_until_ready(client, process)
        for items, order in STACKS:
            a = stack(items, order)
            works = {
                "service": partial(client.inv_root, a, 4),
                "eigh on the GPU": partial(there_and_back, a),
                "eigh on the host": partial(fourth_root, a),
            }
            errors = {name: error(work(), a) for name, work in works.items()}
            for _ in range(3):  # until the service has recorded the program
                works["service"]()
            rounds = [{name: milliseconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
            for name in works:
                times, ratios = [r[name] for r in rounds], [r[name] / r["service"] for r in rounds]
                middle = f"{statistics.median(times):.3g} ({min(times):.3g} .. {max(times):.3g})"
                ratio = f"{statistics.median(ratios):.3g} ({min(ratios):.3g} .. {max(ratios):.3g})"
                print(f"| {items} x {order} x {order} | {name} | {middle} | {ratio} | {errors[name]:.0e} |", flush=True)


if __name__ == "__main__":
    main()
