"""Functions bound by memory against one pass of torch or numpy over the same numbers, with their certificates.

Every round of a case runs the function, in this process through `LocalClient`, and its peer in turn; ratios are taken
within a round. CPU time of one thread.

    python benchmarks/bench_cheap.py > benchmarks/results/cheap.md
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn import LocalClient
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

ROUNDS: Final = 15
"""Rounds of a case, after one to warm up."""
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Case:
    """A function and its peer at the same work.

    Attributes:
        name: of the function with its sizes.
        peer: the peer, in words.
        most: the largest ratio that is aimed at.
        work: one call of the function.
        same: the same work by the peer.
    """

    name: str
    peer: str
    most: float
    work: Callable[[], object]
    same: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Random inputs."""

    generator: torch.Generator

    def gaussian(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Gaussian numbers."""
        return torch.randn(*shape, generator=self.generator, dtype=dtype)

    def triangle(self, items: int, order: int, dtype: torch.dtype) -> Tensor:
        """Well-conditioned lower triangles (items, n, n)."""
        t = self.gaussian(items, order, order, dtype=dtype).tril() / order**0.5
        t.diagonal(dim1=-2, dim2=-1).copy_(1 + torch.rand(items, order, generator=self.generator, dtype=dtype))
        return t


def cases(client: LocalClient, numbers: Numbers) -> Iterator[Case]:
    """All cases."""
    yield from _clips(client, numbers)
    yield from _solutions(client, numbers)
    yield _logits(client, numbers)
    yield from _inverses(client, numbers)


def _clips(client: LocalClient, numbers: Numbers) -> Iterator[Case]:
    w_q, w_k = (numbers.gaussian(32, 128, 4096, dtype=torch.float32) for _ in range(2))
    logit = 200 * torch.rand(32, generator=numbers.generator)
    arrays, one = [w.numpy().copy() for w in (w_q, w_k)], np.float32(1)

    def clip() -> object:
        return client.qk_clip(w_q, w_k, logit, tau=100.0)

    name = "qk_clip, two weights of 64 MiB"
    yield Case(name, "numpy x *= scale", 3, clip, lambda: [np.multiply(x, one, out=x) for x in arrays])
    yield Case(name, "numpy y = x * scale", 3, clip, lambda: [x * one for x in arrays])


def _solutions(client: LocalClient, numbers: Numbers) -> Iterator[Case]:
    for items, order in ((1, 2896), (64, 256)):
        for dtype in (torch.float64, torch.float32):
            t, b = numbers.triangle(items, order, dtype), numbers.gaussian(items, order, 1, dtype=dtype)
            yield Case(
                f"tri_solve, {items} of order {order}, one column, {_short(dtype)}",
                "torch.linalg.solve_triangular",
                10,
                lambda t=t, b=b: client.tri_solve(t, b),
                lambda t=t, b=b: torch.linalg.solve_triangular(t, b, upper=False),
            )


def _logits(client: LocalClient, numbers: Numbers) -> Case:
    q, k = (numbers.gaussian(32, 1024, 64, dtype=torch.float32) for _ in range(2))
    return Case(
        "max_logit, 32 heads of 1024 queries and keys of width 64",
        "torch matmul, abs, amax",
        2,
        lambda: client.max_logit(q, k),
        lambda: torch.matmul(q, k.mT).abs().amax((-2, -1)),
    )


def _inverses(client: LocalClient, numbers: Numbers) -> Iterator[Case]:
    for order in (64, 128):
        for items in (16, 64):
            for dtype in (torch.float32, torch.float64):
                t, eye = numbers.triangle(items, order, dtype), torch.eye(order, dtype=dtype)
                yield Case(
                    f"tri_inv, {items} of order {order}, {_short(dtype)}",
                    "torch.linalg.solve_triangular(t, eye)",
                    1,
                    lambda t=t: client.tri_inv(t),
                    lambda t=t, eye=eye: torch.linalg.solve_triangular(t, eye, upper=False),
                )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU time of one run in this thread."""
    started = time.thread_time()
    work()
    return (time.thread_time() - started) * 1e3


def row(case: Case) -> str:
    """The case's row of the table."""
    case.work(), case.same()
    rounds = [(cpu_ms(case.work), cpu_ms(case.same)) for _ in range(ROUNDS)]
    ratios = sorted(ours / theirs for ours, theirs in rounds)
    ours, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
    low, middle, high = ratios[len(ratios) // 4], statistics.median(ratios), ratios[-1 - len(ratios) // 4]
    times = f"{ours:.3g} | {theirs:.3g} | {middle:.2f} | {low:.2f} to {high:.2f}"
    return f"| {case.name} | {case.peer} | {times} | {case.most:g} |"


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    print(f"{provenance()}\n")
    print(f"CPU ms of one thread, medians of {ROUNDS} rounds; the spread is from the first to the third quartile\n")
    print("| function | peer | matfn ms | peer ms | ratio | spread | at most |\n|---|---|---|---|---|---|---|")
    with LocalClient() as client:
        for case in cases(client, Numbers(torch.Generator().manual_seed(_SEED))):
            print(row(case), flush=True)


if __name__ == "__main__":
    main()
