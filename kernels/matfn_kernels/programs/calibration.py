"""Timings of the operations that a profile prices, as `matfn calibrate` takes them."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg import onednn
from matfn_kernels.linalg.backends import ALL_OPENBLAS, ONEDNN, TORCHS_OWN, Backends, Library, Routine, using
from matfn_kernels.linalg.invariant import cholesky, eigh
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.products import (
    coupled_at_once,
    invert_leaf,
    large_product,
    product,
    quadratic,
    symmetric_product,
)
from matfn_kernels.linalg.single_thread import one_thread
from matfn_kernels.numbers.coefficients import safe, schedule
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.profile import Operation, Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["measure"]

_GPU_ORDERS: Final[dict[Operation, tuple[int, ...]]] = {
    "gemm": (16, 32, 64, 128, 256, 512, 1024, 2048),
    "eigh": (16, 32, 33, 64, 128, 256, 512, 1024, 2048),
    "svd": (16, 32, 33, 64, 128, 256, 512, 1024),
    "line": (16, 32, 64, 128, 256, 512, 1024, 2048),
    "symmetric_gemm": (16, 32, 64, 128, 256, 512, 1024, 2048),
    "small": (16, 32, 64, 128),
    "substitution": (32,),
    "leaf": (32,),
}
"""Orders at which operations are timed on a GPU; 33 is the first whose decompositions are taken one by one."""
_IN_C: Final = {"native", "native_triangle", "native_half", "spectral"}
_IN_BF16: Final = {"gemm", "line", "symmetric_gemm", "small"}
_REPEATS: Final = 15
"""Most runs of an operation, of which the fastest counts: more find quieter moments, and take longer."""
_PATIENCE: Final = 0.3
"""Seconds after which an operation is not repeated."""
_BATCH_ELEMENTS: Final = 1 << 16
"""Numbers of a batch that is timed on a CPU, 256 KiB in float32, which stay in a core's cache."""
_SHARES_OF_CALLS: Final[dict[Operation, int]] = {"spectral": 4}
"""Batches that are so many times as large, of operations whose Python would be a tenth of a smaller one's time."""
_GPU_BATCH_ELEMENTS: Final = 1 << 22
"""Numbers of a batch that is timed on a GPU, 16 MiB in float32: 1024 matrices of order 64, one of order 2048."""
_ONE_BY_ONE: Final = 32
"""Order beyond which a GPU's decompositions take one matrix after the other: two of them tell what a batch costs."""
_QUEUED: Final = 4
"""Runs that are timed together on a GPU, so that the host is ahead of it."""
_SMALL_STEPS: Final = 8
"""Steps of the iterations that are timed, about as many as schedules have; the price is that of one product."""
_ORDERS: Final[dict[Operation, tuple[int, ...]]] = {
    "gemm": (16, 64, 256, 512),
    "eigh": (8, 16, 32, 64, 65, 128, 256, 512),
    "svd": (16, 64, 128),
    "spectral": (8, 16, 32, 64),
    **dict.fromkeys(("native", "native_triangle"), (16, 32, 64, 128, 256, 512)),
    "native_half": (32, 64, 128, 256, 512, 1024),
}
"""Orders at which operations are timed on a CPU: `Profile.cost` interpolates between them, and is cubic above them.

65 is the first order of eigendecompositions that LAPACK computes (`native.lockstep`)."""


_ROUTINES: Final[tuple[tuple[Library, Routine, str], ...]] = (
    ("onednn", "products", "float32"),
    *(("openblas", routine, dtype) for routine in ("products", "cholesky", "eigh") for dtype in ("float32", "float64")),
)
"""Routines whose library is chosen by measurement; complex ones stay with torch's own."""
_BACKEND_ORDERS: Final = (32, 64, 128, 256, 512)
_GAIN: Final = 0.95
"""Share of its seconds in which another library must be done: less would not repay the noise of the measurement."""


def measure(device: str = "cpu") -> Profile:
    """A profile of the operations as timed on one thread, to four digits, with the backends that are the fastest."""
    with one_thread():
        backends = _fastest_backends() if device == "cpu" else TORCHS_OWN
        with using(backends):
            rows = _rows(device)
    return Profile(device.partition(":")[0], tuple(rows), "measured", backends=backends)


def _rows(device: str) -> list[tuple[str, str, int, float]]:
    return [
        (operation, str(precision), order, float(f"{_time(operation, precision, order, device):.4g}"))
        for operation, orders in (_ORDERS if device == "cpu" else _GPU_ORDERS).items()
        if native.is_built() or operation not in _IN_C
        for precision in _precisions(operation)
        for order in orders
    ]


def _precisions(operation: Operation) -> tuple[Precision, ...]:
    """The arithmetics in which an operation is timed here."""
    if operation == "native_half":
        return (Precision.BF16,) if native.multiplies_bf16() else ()
    return (Precision.FP32, Precision.FP64, *((Precision.BF16,) if operation in _IN_BF16 else ()))


def _fastest_backends() -> Backends:
    """The least orders from which another library than torch's own is faster at all greater ones that are timed."""
    return Backends(tuple(filter(None, (_backend(*routine) for routine in _ROUTINES))))


def _backend(library: Library, routine: Routine, dtype: str) -> tuple[str, str, str, int] | None:
    """A row of backends, or None where the library is absent or not faster at the largest order."""
    if not (onednn.is_built() if library == "onednn" else lapack.is_ready()):
        return None
    least = None
    for order in reversed(_BACKEND_ORDERS):
        own, other = (_routine_seconds(routine, dtype, order, tried) for tried in (TORCHS_OWN, _only(library)))
        if other > _GAIN * own:
            break
        least = (library, routine, dtype, order)
    return least


def _only(library: Library) -> Backends:
    """Backends that take one library wherever it can compute."""
    return ALL_OPENBLAS if library == "openblas" else ONEDNN


def _routine_seconds(routine: Routine, dtype: str, order: int, backends: Backends) -> float:
    """Least seconds of a routine on a positive definite matrix."""
    generator = torch.Generator().manual_seed(order)
    base = torch.randn(1, order, order, generator=generator, device="cpu")
    x = (product(base, base.mT) / order + torch.eye(order)).to(getattr(torch, dtype))
    with using(backends):
        return min(_times(partial(_ROUTINE_RUNS[routine], x), time.thread_time))


def _time(operation: Operation, precision: Precision, order: int, device: str) -> float:
    """Least seconds a matrix over a few repeats; the least is what the machine can do undisturbed."""
    items = _items(operation, order, device)
    generator = torch.Generator(device).manual_seed(order)
    base = torch.randn(items, order, order, generator=generator, device=device)
    x = (base + base.mT).to(working(precision, torch.float32))
    run = partial(_OPERATIONS[operation], x)
    times = _times(run, time.thread_time) if device == "cpu" else _times_on_gpu(run)  # without other processes' turns
    return min(times) / items / _MADE.get(operation, 1)


def _items(operation: Operation, order: int, device: str) -> int:
    """Matrices that are timed together."""
    if device != "cpu" and operation in {"eigh", "svd"} and order > _ONE_BY_ONE:
        return 2
    elements = _BATCH_ELEMENTS if device == "cpu" else _GPU_BATCH_ELEMENTS
    return max(1, (_SHARES_OF_CALLS.get(operation, 1) * elements) // (order * order))


def _times(run: Callable[[], object], clock: Callable[[], float]) -> list[float]:
    times: list[float] = []
    while len(times) < _REPEATS and sum(times) < _PATIENCE:
        start = clock()
        run()
        times.append(clock() - start)
    return times


def _times_on_gpu(run: Callable[[], object]) -> list[float]:
    """Seconds a run, of runs that are queued together; the first, which loads or compiles kernels, does not count."""
    run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    alone = time.perf_counter() - start
    if alone > _PATIENCE / _QUEUED:
        return [alone]

    def queued() -> None:
        for _ in range(_QUEUED):
            run()
        torch.cuda.synchronize()

    return [seconds / _QUEUED for seconds in _times(queued, time.perf_counter)]


def _iteration(x: Tensor) -> Tensor:
    """Steps of an iteration in one launch, with coefficients that neither freeze nor blow up."""
    return coupled_at_once(None, x, ((1.0, 0.0, 1e-6),) * _SMALL_STEPS, 2, 1)


_ROUTINE_RUNS: Final[dict[str, Callable[[Tensor], object]]] = {
    "products": lambda x: large_product(x, x),
    "cholesky": cholesky,
    "eigh": eigh,
}


_STEADY: Final = native.Powers(
    (0, 1, 2),
    (1, 2),
    pair=False,
    floor=0.0,
    bound=1e-12,
    schedules=native.Schedules(((0.0, ((1.0, 0.0, 0.0),) * _SMALL_STEPS),)),
)
"""An iteration whose steps leave the state as it is."""


def _natively(x: Tensor) -> object:
    """Steps of an iteration in C, on matrices that are diagonally dominant."""
    return native.powers(_STEADY, x + 4 * x.shape[-1] * torch.eye(x.shape[-1], dtype=x.dtype))


_IN_HALVES: Final = native.Schedules(((0.0, safe(schedule(2, 1e-4, cushion=0.2, target=1e-3), 2, 1.01)),))
"""A schedule like those of polar factors in bf16."""


def _in_halves(x: Tensor) -> object:
    """A polar iteration by products in bf16, with a certificate that takes any matrix."""
    return native.half_polar_factors(x.float(), -2.0, _IN_HALVES)


_INVERSE_ROOT: Final = native.SpectralPowers(
    order=0,
    exponent=(1, 4),
    inverse=True,
    pair=False,
    rule=native.Rule.LEAST_ADDED,
    refine=False,
    added=0.0,
    floor=1e-6,
    negative=2.0,
    noise=1e-14,
    skew=1e-15,
    laws=(1e-13, 1e-13),
    near=0.0,
    least=0.1,
    negligible=1e-9,
)
"""An inverse fourth root with a shift that makes any matrix with a positive eigenvalue positive definite."""


def _spectrally(x: Tensor) -> object:
    """A power by eigh in C."""
    return native.spectral_powers(replace(_INVERSE_ROOT, order=x.shape[-1]), x)


def _fused_updates(x: Tensor, kernel: Kernel) -> Tensor:
    """The two fused updates of a step: a polynomial, and a product known to be symmetric."""
    return symmetric_product(quadratic(x, (1.0, 1.0, 1.0), torch.empty_like(x), kernel), x, kernel)


_OPERATIONS: Final[dict[Operation, Callable[[Tensor], object]]] = {
    "gemm": lambda x: product(x, x),
    "eigh": eigh,
    "svd": torch.linalg.svd,
    "native": _natively,
    "spectral": _spectrally,
    "native_half": _in_halves,
    "native_triangle": lambda x: native.triangular_inverses(x, lower=True, unit=True),
    "line": partial(_fused_updates, kernel=Kernel.LIBRARY),
    "symmetric_gemm": partial(_fused_updates, kernel=Kernel.SYMMETRIC),
    "small": _iteration,
    "substitution": invert_leaf,
    "leaf": lambda x: invert_leaf(x, Kernel.ONE_LAUNCH),
}


_MADE: Final[dict[Operation, int]] = {
    "line": 2,
    "symmetric_gemm": 2,
    "small": 4 * _SMALL_STEPS - 2,
    "native": 4 * _SMALL_STEPS - 3,
    "native_half": 3 * len(_IN_HALVES.entries[0][1]) + 3,
}
"""Products that an operation consists of, where it is more than one."""
