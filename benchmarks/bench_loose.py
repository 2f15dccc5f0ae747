"""Polar factors to 1e-2 with their certificates, against Muon's five steps in bf16 by torch and against torch's SVD.

Every round of a case runs all of them in turn, matfn in this process through `LocalClient`. CPU time of one thread.
Muon's steps leave singular values between 0.7 and 1.2, so their error is no answer to 1e-2: it stands beside the time.

    python benchmarks/bench_loose.py > benchmarks/results/loose.md
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

import torch

from matfn import LocalClient
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SHAPES: Final = ((1, 1024, 1024), (1, 1024, 4096), (4, 512, 512), (4, 512, 2048), (16, 256, 256), (64, 128, 128))
ROUNDS: Final = 5
"""Rounds of a case, after one to warm up."""
_TOL: Final = 1e-2
_MUON: Final = (3.4445, -4.7750, 2.0315)


def muon(m: Tensor) -> Tensor:
    """Five steps of Newton-Schulz in bf16, as Muon takes them."""
    a, b, c = _MUON
    x = m.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def svd(m: Tensor) -> Tensor:
    """The polar factor by torch's SVD."""
    u, _, v = torch.linalg.svd(m, full_matrices=False)
    return u @ v


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU time of one run in this thread."""
    started = time.thread_time()
    work()
    return (time.thread_time() - started) * 1e3


def row(client: LocalClient, shape: tuple[int, ...]) -> str:
    """The shape's row of the table."""
    m = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    half, truth = m.bfloat16(), svd(m.double())
    contenders: tuple[Callable[[], Tensor], ...] = (
        lambda: client.msign(m, tol=_TOL),
        lambda: client.msign(half, tol=_TOL),
        lambda: muon(m),
        lambda: svd(m),
    )
    errors = [_error(one(), truth if i != 1 else svd(half.double())) for i, one in enumerate(contenders)]
    rounds = [[cpu_ms(one) for one in contenders] for _ in range(ROUNDS)]
    cells = [
        f"{statistics.median(times):.3g} ({error:.1g})"
        for times, error in zip(zip(*rounds, strict=True), errors, strict=True)
    ]
    method = client.with_info.msign(m, tol=_TOL).certificates[0]
    return f"| {'x'.join(map(str, shape))} | {method.method}, {method.precision} | {' | '.join(cells)} |"


def _error(found: Tensor, truth: Tensor) -> float:
    """The largest relative error of a batch."""
    wrong = torch.linalg.matrix_norm(found.double() - truth) / torch.linalg.matrix_norm(truth)
    return float(wrong.max())


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    print(f"{provenance()}\n")
    print(f"CPU ms of one thread, medians of {ROUNDS} rounds, and in brackets the largest relative error\n")
    print("| Gaussian | matfn's method | float32 | bfloat16 | Muon | torch's SVD |\n|---|---|---|---|---|---|")
    with LocalClient() as client:
        for shape in SHAPES:
            print(row(client, shape), flush=True)


if __name__ == "__main__":
    main()
