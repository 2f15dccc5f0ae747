"""Products, roots, polar factors and inverses on a GPU, by our kernels and by torch's.

Every contender of a row computes on the same matrices, one after the other in each round; a ratio is of the same round.
Beside each time is the error against float64 on the host. Times are of the device, by events. CuPy's and JAX's eigh,
which call cuSOLVER's batched routines, take part where they are installed.

    python benchmarks/bench_gpu.py [fp32 fp64 bf16] > benchmarks/results/gpu.md
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch

from matfn_kernels import record
from matfn_kernels.linalg.iteration import coupled, plain
from matfn_kernels.linalg.kernel_choice import Kernel, fitting
from matfn_kernels.linalg.products import gram, invert_leaf, quadratic
from matfn_kernels.linalg.scaling import rescale
from matfn_kernels.methods.polar.newton_schulz import IteratedPolar
from matfn_kernels.methods.polar.question import Polar
from matfn_kernels.methods.roots.bf16_power import Bf16Power
from matfn_kernels.methods.roots.coupled_power import IteratedPower
from matfn_kernels.methods.roots.power import Power
from matfn_kernels.numbers.precision import Precision, working
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from matfn_kernels import Findings

DEVICE: Final = "cuda"
ROUNDS: Final = 15
FEWEST_ROUNDS: Final = 3
PATIENCE: Final = 1500.0
"""Milliseconds after which a contest has had enough rounds."""
WARM_UP: Final = 3
SAMPLE: Final = 4
"""Matrices of a batch whose error is measured."""
ROW: Final = (2.0, -1.5, 0.5)
GRID: Final = ((32, 1024), (64, 256), (128, 128), (256, 32), (512, 16), (1024, 4), (2048, 1))
TALL: Final = 4

Work: TypeAlias = "Callable[[], Tensor]"


@dataclass(frozen=True, slots=True)
class Contest:
    """What is computed, by whom, and what is right; the first contender is the one that the others are measured by."""

    name: str
    contenders: dict[str, Work]
    truth: Tensor


def spectral(order: int, items: int, condition: float = 1e4) -> tuple[Tensor, Tensor, Tensor]:
    """Symmetric matrices (items, n, n) in float64 with a geometric spectrum below 1, with vectors and values."""
    generator = torch.Generator().manual_seed(order)
    vectors = torch.linalg.qr(torch.randn(items, order, order, generator=generator, dtype=torch.float64))[0]
    values = torch.logspace(0, -torch.tensor(condition).log10().item(), order, dtype=torch.float64) / 2
    a = (vectors * values) @ vectors.mT
    return (a + a.mT) / 2, vectors, values


def products(order: int, items: int, precision: Precision) -> Iterator[Contest]:
    """A line of an iteration and a Gram matrix, by all and by half of the tiles."""
    a, vectors, values = spectral(order, items)
    p = a.to(DEVICE, working(precision, torch.float32))
    out = torch.empty_like(p)
    polynomial = ROW[0] + ROW[1] * values + ROW[2] * values**2
    works = {str(kernel): partial(quadratic, p, ROW, out, kernel) for kernel in (Kernel.LIBRARY, Kernel.SYMMETRIC)}
    yield Contest("a I + b P + c P^2", works, ((vectors * polynomial) @ vectors.mT)[:SAMPLE])
    x = torch.cat([p] * TALL, -2)
    works = {str(kernel): partial(gram, x, out, kernel) for kernel in (Kernel.LIBRARY, Kernel.SYMMETRIC)}
    yield Contest(f"X^T X, {TALL}:1", works, TALL * (a @ a)[:SAMPLE])


def roots(order: int, items: int, precision: Precision) -> Iterator[Contest]:
    """Inverse square roots by eigh and by the iteration."""
    a, vectors, values = spectral(order, items)
    given = a.to(DEVICE, torch.float64 if precision is Precision.FP64 else torch.float32)
    p = given.to(working(precision, torch.float32))
    works: dict[str, Work] = {"eigh": partial(_by_eigh, given)} | _others(given)
    for kernel in fitting(p.dtype, order):
        program = _root_program(order, given.dtype, precision, kernel)
        rows = program.iteration.rows(program.iteration.bound)
        works[f"iteration, {kernel}"] = partial(coupled, None, p, rows, 2, 1, kernel)
        works[f"iteration, {kernel}, graph"] = replayed(works[f"iteration, {kernel}"])
        if precision is not Precision.BF16:  # whose damping is found by eigh
            works |= _certified(program, {"a": given})
    yield Contest("A^(-1/2)", works, ((vectors * values**-0.5) @ vectors.mT)[:SAMPLE])


def polar_factors(order: int, items: int, precision: Precision) -> Iterator[Contest]:
    """Polar factors by the SVD, by the iteration, and of the whole certified program as a graph."""
    generator = torch.Generator().manual_seed(order)
    m = torch.randn(items, order, order, generator=generator, dtype=torch.float64)
    m = m / torch.linalg.matrix_norm(m)[:, None, None]
    given = m.to(DEVICE, torch.float64 if precision is Precision.FP64 else torch.float32)
    x = given.to(working(precision, torch.float32))
    works: dict[str, Work] = {"svd": partial(_by_svd, given)}
    for kernel in fitting(x.dtype, order):
        program = IteratedPolar(Polar(order, order, None, given.dtype), precision, precision, kernel=kernel)
        works[f"iteration, {kernel}"] = partial(plain, x, program.shared.schedule, kernel)
        works[f"iteration, {kernel}, graph"] = replayed(works[f"iteration, {kernel}"])
        works |= _certified(program, {"m": given})
    u, _, vh = torch.linalg.svd(m[:SAMPLE])
    yield Contest("polar factor", works, u @ vh)


def leaves(order: int, items: int, precision: Precision) -> Iterator[Contest]:
    """Inverses of small triangles by substitution."""
    generator = torch.Generator().manual_seed(order)
    t = torch.randn(items, order, order, generator=generator, dtype=torch.float64).tril(-1) / order**0.5
    t = t + torch.eye(order, dtype=torch.float64)
    given = t.to(DEVICE, working(precision, torch.float32))
    works = {str(kernel): partial(invert_leaf, given, kernel) for kernel in (Kernel.LIBRARY, Kernel.ONE_LAUNCH)}
    yield Contest("T^-1", works, torch.linalg.inv(t[:SAMPLE]))


def _by_eigh(a: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(a)
    return (vectors * values.rsqrt()[:, None, :]) @ vectors.mT


def _others(a: Tensor) -> dict[str, Work]:
    """Inverse square roots by the eigh of other packages, by name, where they are installed."""
    makers = {"cupy": _by_cupy, "jax": _by_jax}
    return {f"{name} eigh": make(a) for name, make in makers.items() if importlib.util.find_spec(name) is not None}


def _by_cupy(a: Tensor) -> Work:
    import cupy

    given = cupy.from_dlpack(a)

    def run() -> Tensor:
        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            values, vectors = cupy.linalg.eigh(given)
            root = (vectors * values[:, None, :] ** -0.5) @ vectors.swapaxes(1, 2)
        return torch.from_dlpack(root)

    return run


def _by_jax(a: Tensor) -> Work:
    """JAX computes on a stream of its own: the host waits for it, and the events for the host."""
    import jax

    jax.config.update("jax_enable_x64", True)  # noqa: FBT003 - the signature is jax's

    def root(given: Any) -> Any:
        values, vectors = jax.numpy.linalg.eigh(given)
        with jax.default_matmul_precision("highest"):
            return (vectors * values[:, None, :] ** -0.5) @ vectors.swapaxes(1, 2)

    given, compiled = jax.dlpack.from_dlpack(a), jax.jit(root)
    return lambda: torch.from_dlpack(compiled(given).block_until_ready())


def _by_svd(m: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(m, full_matrices=False)
    return u @ vh


def _first_output(run: Callable[[], Findings]) -> Tensor:
    findings = run()
    exponent = findings.exponents[0] if findings.exponents else None
    return findings.outputs[0] if exponent is None else rescale(findings.outputs[0], exponent)


def _root_program(order: int, dtype: torch.dtype, precision: Precision, kernel: Kernel) -> IteratedPower | Bf16Power:
    """The inverse square root by the iteration."""
    power = Power(order=order, rows=None, r=2, s=1, inverse=True, pair=False, damping=None, dtype=dtype)
    if precision is Precision.BF16:
        return Bf16Power(power, pinned=False, kernel=kernel)
    return IteratedPower(power, pinned=False, precision=precision, ceiling=precision, kernel=kernel)


def _certified(program: IteratedPolar | IteratedPower | Bf16Power, inputs: dict[str, Tensor]) -> dict[str, Work]:
    """The whole program with its proof, launched and replayed from a graph, by name."""
    for _ in range(WARM_UP):
        program.run(inputs)
    return {
        f"certified, {program.kernel}": partial(_first_output, partial(program.run, inputs)),
        f"certified, {program.kernel}, graph": partial(_first_output, record(program, inputs)),
    }


def replayed(work: Work) -> Work:
    """The work from a graph."""
    for _ in range(WARM_UP):
        work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()

    def replay() -> Tensor:
        graph.replay()
        return found

    return replay


def milliseconds(work: Work) -> float:
    """Device time of one run."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    end.synchronize()
    elapsed: float = start.elapsed_time(end)
    return elapsed


def timed(contenders: dict[str, Work]) -> list[dict[str, float]]:
    """Device times of each round, fewer of them where one takes long; what warms up is not counted."""
    first = sum(milliseconds(work) for work in contenders.values())
    for work in list(contenders.values()) * (WARM_UP if first < PATIENCE else 0):
        work()
    rounds: list[dict[str, float]] = []
    while len(rounds) < FEWEST_ROUNDS or (len(rounds) < ROUNDS and sum(sum(r.values()) for r in rounds) < PATIENCE):
        rounds.append({name: milliseconds(work) for name, work in contenders.items()})
    return rounds


def relative_error(found: Tensor, truth: Tensor) -> float:
    """The largest of the sample."""
    difference = found[:SAMPLE].to("cpu", torch.float64) - truth
    return float((torch.linalg.matrix_norm(difference) / torch.linalg.matrix_norm(truth)).max())


def rows(contest: Contest, order: int, items: int, precision: Precision) -> Iterator[str]:
    """One row a contender: medians and quartiles of the rounds, and the error."""
    errors = {name: relative_error(work(), contest.truth) for name, work in contest.contenders.items()}
    rounds = timed(contest.contenders)
    first = next(iter(contest.contenders))
    for name in contest.contenders:
        times = [one[name] for one in rounds]
        low, ratio, high = statistics.quantiles([one[first] / one[name] for one in rounds], n=4)
        yield (
            f"| {contest.name} | {order} x {items} | {precision} | {name} | {statistics.median(times):.4g} "
            f"| {ratio:.3g} ({low:.3g} .. {high:.3g}) | {errors[name]:.1e} |"
        )


def main() -> None:
    """Prints the table, or says that there is nothing to measure on."""
    if not torch.cuda.is_available():
        print("No GPU that PyTorch can use: nothing was measured.")
        return
    machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    print(f"{provenance(machine)}\n")
    print(f"Up to {ROUNDS} rounds, medians; quartiles of ratios\n")
    print("| what | order x batch | arithmetic | by | ms | times as fast as the first | error |")
    print("|---|---|---|---|---|---|---|")
    for precision in [Precision(name) for name in sys.argv[1:]] or Precision:
        for order, items in GRID:
            contests = [products, roots, polar_factors]
            if order <= 64 and precision is not Precision.BF16:  # noqa: PLR2004 - the largest leaf
                contests.append(leaves)
            for contest in contests:
                for each in contest(order, items, precision):
                    for line in rows(each, order, items, precision):
                        print(line, flush=True)


if __name__ == "__main__":
    main()
