"""How much of the coupled and the plain iteration is spent in products, and how near these come to torch's bare bmm.

The products that an iteration calls (of `products` and `torch`) are timed where they are called, and again by
themselves, on operands of the same shapes in as large a batch. One thread, tiles as the kernels cut them. The kernels
in C are timed as they are called, proof and all.

    .venv-bench/bin/python benchmarks/bench_engine.py > benchmarks/results/engine.md
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import torch

from matfn_kernels.linalg import invariant, iteration
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.numbers.coefficients import safe, schedule
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

_BMM: Final = torch.bmm
_ORDERS: Final = (32, 64, 128, 256, 512)
_ROUNDS: Final = 15
_BOUND: Final = 1e-5
_STEPS: Final = 8
_CONTRACTION: Final = {2: 2, 4: 3}
"""Products of P <- W^r P."""


@dataclass(slots=True)
class _Clock:
    """Seconds spent in products, what they would take as bmm, and how many there were."""

    inside: float = 0.0
    bare: float = 0.0
    products: int = 0
    bmm: dict[tuple[object, ...], float] = field(default_factory=dict)

    def timed(self, work: Callable[..., Tensor], *operands: int) -> Callable[..., Tensor]:
        """The product with its two factors at these places of its arguments."""

        def run(*given: Any, **named: Any) -> Tensor:
            began = time.perf_counter()
            result = work(*given, **named)
            self.inside += time.perf_counter() - began
            self.products += 1
            self.bare += self._bare(*(given[place] for place in operands))
            return result

        return run

    def _bare(self, x: Tensor, y: Tensor) -> float:
        key = (x.shape, y.shape)
        if key not in self.bmm:
            left, right = torch.randn(x.shape), torch.randn(y.shape)
            out = _BMM(left, right)
            self.bmm[key] = _median(lambda: _BMM(left, right, out=out))
        return self.bmm[key]


def _median(run: Callable[[], object]) -> float:
    run()
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


@contextmanager
def _watched(clock: _Clock) -> Iterator[None]:
    with (
        patch.object(invariant, "product", clock.timed(invariant.product, 0, 1)),
    ):
        yield


def _row(name: str, batch: int, run: Callable[[], object]) -> str:
    clock = _Clock()
    with _watched(clock):
        run()  # finds what bmm takes
    whole, inside, bare = [], [], []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run()
        whole.append(time.perf_counter() - began)
        clock.inside = clock.bare = 0.0
        clock.products = 0
        with _watched(clock):
            run()
        inside.append(clock.inside)
        bare.append(clock.bare)
    total, products, alone = (1e6 * statistics.median(times) / batch for times in (whole, inside, bare))
    return (
        f"| {name} | {batch} | {clock.products} | {total:.1f} | {products:.1f} | {products / total:.0%} |"
        f" {alone:.1f} | {alone / products:.0%} | {alone / total:.0%} |"
    )


def _row_in_c(order: int, r: int) -> str:
    """An inverse root of condition 1e4 in C, from the matrix to what its certificate is made of."""
    q = torch.linalg.qr(torch.randn(max(1, 4096 // order), order, order))[0]
    a = (q * torch.logspace(0, -4, order)) @ q.mT
    a = (a + a.mT) / 2
    schedules = native.Schedules.down_to(
        1e-6, lambda bound: safe(schedule(r, bound ** (1 / r), target=_BOUND), r, 1.001)
    )
    wanted = native.Powers((0, 1, r), (1, r), pair=False, floor=1e-6, bound=1e-6, schedules=schedules)
    steps = int(native.powers(wanted, a)[1].steps[0])
    products = steps * 2 - 1 + (steps - 1) * _CONTRACTION[r]
    out = torch.empty_like(a)
    whole = 1e6 * _median(lambda: native.powers(wanted, a)) / len(a)
    alone = 1e6 * products * _median(lambda: _BMM(a, a, out=out)) / len(a)
    name = f"in C with its proof, r = {r}, n = {order}"
    return f"| {name} | 1 | {products} | {whole:.1f} | | | {alone:.1f} | | {alone / whole:.0%} |"


def _positive(order: int) -> Tensor:
    """A tile of symmetric matrices with eigenvalues in [0, 1]."""
    x = torch.randn(4096 // order, order, 2 * order)
    tile = next(iteration.tiles(x, order))
    p = x[tile] @ x[tile].mT
    return p / torch.linalg.matrix_norm(p, 2)[:, None, None]


def _polar_rows() -> tuple[tuple[float, float, float], ...]:
    return safe(schedule(2, 1e-3, target=1e-7), 2, 1.001)[:_STEPS]


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{provenance()}\n")
    print(f"torch {torch.__version__}, one thread, float32, medians of {_ROUNDS}. `bmm` is as many bare products.\n")
    print("| iteration | tile | products | us a matrix | in products | share | bmm | their rate | bmm / whole |")
    print("|---|---|---|---|---|---|---|---|---|")
    for order in _ORDERS:
        p = _positive(order)
        for r in (2, 4):
            rows = safe(schedule(r, _BOUND ** (1 / r), target=_BOUND), r, 1.001)
            print(_row(f"coupled, r = {r}, n = {order}", len(p), partial(iteration.coupled, None, p, rows, r, 1)))
        print(_row(f"plain, n = {order}", len(p), partial(iteration.plain, p, _polar_rows())))
        for r in (2, 4) if native.is_built() else ():
            print(_row_in_c(order, r))


if __name__ == "__main__":
    main()
