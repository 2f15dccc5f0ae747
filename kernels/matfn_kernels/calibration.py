"""What this machine's products and decompositions cost, measured once in under two seconds and kept.

A profile is a table of seconds by operation, precision and order on one thread, the unit in which the service works.
The planner interpolates it; nothing else looks at it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import torch

from matfn_kernels.device_policy import Kernel
from matfn_kernels.native import kernels as native
from matfn_kernels.precision import Precision, working
from matfn_kernels.products import coupled_at_once, invert_leaf, product, quadratic, symmetric_product
from matfn_kernels.spectral import eigh

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

__all__ = ["Operation", "Profile", "load_profile", "measure"]

Operation: TypeAlias = Literal[
    "gemm", "eigh", "svd", "native", "native_triangle", "line", "symmetric_gemm", "small", "substitution", "leaf"
]
"""Of them only on a CPU a product of an iteration and the inverse of a triangle by the kernels in C; only on a GPU
lines of an iteration by torch and by half of their tiles, a product of an iteration in one launch, and the inverse of a
small triangle by torch and in one launch."""

_ORDERS: Final[dict[Operation, tuple[int, ...]]] = {
    "gemm": (16, 64, 256, 512),
    "eigh": (16, 64, 128, 256, 512),
    "svd": (16, 64, 128),
    **(dict.fromkeys(("native", "native_triangle"), (16, 32, 64, 128, 256, 512)) if native.is_built() else {}),
}
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
_IN_BF16: Final = {"gemm", "line", "symmetric_gemm", "small"}
_VERSION: Final = 5
_REPEATS: Final = 5
_PATIENCE: Final = 0.05
"""Seconds after which an operation is not repeated, so that a slow machine measures in two seconds as well."""
_BATCH_ELEMENTS: Final = 1 << 16
_GPU_BATCH_ELEMENTS: Final = 1 << 22
_ONE_BY_ONE: Final = 32
"""Order beyond which a GPU's decompositions take one matrix after the other: two of them tell what a batch costs."""
_QUEUED: Final = 4
"""Runs that are timed together on a GPU, so that the host is ahead of it."""
_SMALL_STEPS: Final = 8


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds a matrix of each operation on one thread, at a few orders.

    Attributes:
        device: what was measured.
        seconds: rows (operation, precision, order, seconds).
    """

    device: str
    seconds: tuple[tuple[str, str, int, float], ...]

    @classmethod
    def nominal(cls) -> Profile:
        """A made-up machine: 50 GFLOP/s in fp32, half that in fp64, twice that in bf16."""
        rates = {Precision.BF16: 1e11, Precision.FP32: 5e10, Precision.FP64: 2.5e10}
        weights: dict[Operation, float] = {"gemm": 2.0, "eigh": 18.0, "svd": 50.0}
        return cls(
            "nominal",
            tuple(
                (operation, str(precision), order, 5e-6 + weight * order**3 / rate)
                for operation, weight in weights.items()
                for precision, rate in rates.items()
                for order in _ORDERS[operation]
            ),
        )

    def cost(self, operation: Operation, precision: Precision, order: float) -> float:
        """Seconds a matrix of that order, by the cubic law between and beyond the measured orders."""
        points = sorted(
            (at, seconds) for name, kind, at, seconds in self.seconds if name == operation and kind == precision
        )
        if not points:
            return math.inf
        order = max(float(order), 1.0)
        below = [point for point in points if point[0] <= order] or points[:1]
        above = [point for point in points if point[0] >= order] or points[-1:]
        (low, first), (high, last) = below[-1], above[0]
        if low == high:
            return first * (order / low) ** 3 if order > low else first
        share = math.log(order / low) / math.log(high / low)
        return math.exp((1 - share) * math.log(first) + share * math.log(last))


def load_profile(cache_dir: Path | None, device: str = "cpu") -> Profile:
    """The profile of this machine, read from the cache or measured and kept; an unwritable cache is no error."""
    key = f"{device}-{platform.machine()}-{os.cpu_count()}-torch{torch.__version__}-{native.variant()}-v{_VERSION}"
    path = None if cache_dir is None else cache_dir / f"profile-{key}.json"
    if path is not None:
        try:
            return _parse(path.read_text())
        except (OSError, ValueError, TypeError, KeyError):
            pass
    profile = measure(device)
    if path is not None:
        _write(path, profile)
    return profile


def _parse(text: str) -> Profile:
    loaded = json.loads(text)
    rows = tuple((str(o), str(Precision(p)), int(n), float(s)) for o, p, n, s in loaded["seconds"])
    if not rows or any(not 0 < row[3] < math.inf for row in rows):
        raise ValueError("a profile needs positive times")
    return Profile(str(loaded["device"]), rows)


def _write(path: Path, profile: Profile) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps({"device": profile.device, "seconds": profile.seconds}))
        partial.replace(path)
    except OSError:
        return


def measure(device: str = "cpu") -> Profile:
    """Times the operations on the calling thread; use a thread of the kind that will compute."""
    rows = [
        (operation, str(precision), order, _time(operation, precision, order, device))
        for operation, orders in (_ORDERS if device == "cpu" else _GPU_ORDERS).items()
        for precision in (Precision.FP32, Precision.FP64, *((Precision.BF16,) if operation in _IN_BF16 else ()))
        for order in orders
    ]
    return Profile(device, tuple(rows))


def _time(operation: Operation, precision: Precision, order: int, device: str) -> float:
    """Least seconds a matrix over a few repeats; the least is what the machine can do undisturbed."""
    items = _items(operation, order, device)
    generator = torch.Generator(device).manual_seed(order)
    base = torch.randn(items, order, order, generator=generator, device=device)
    x = (base + base.mT).to(working(precision, torch.float32))
    run = partial(_OPERATIONS[operation], x)
    return min(_times(run) if device == "cpu" else _times_on_gpu(run)) / items / _MADE.get(operation, 1)


def _items(operation: Operation, order: int, device: str) -> int:
    """Matrices that are timed together."""
    if device != "cpu" and operation in {"eigh", "svd"} and order > _ONE_BY_ONE:
        return 2
    return max(1, (_BATCH_ELEMENTS if device == "cpu" else _GPU_BATCH_ELEMENTS) // (order * order))


def _times(run: Callable[[], object]) -> list[float]:
    times: list[float] = []
    while len(times) < _REPEATS and sum(times) < _PATIENCE:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def _times_on_gpu(run: Callable[[], object]) -> list[float]:
    """Of runs that are queued together, not counting the first, which loads or compiles kernels."""
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

    return [seconds / _QUEUED for seconds in _times(queued)]


def _iteration(x: Tensor) -> Tensor:
    """Steps of an iteration in one launch, with coefficients that neither freeze nor blow up."""
    return coupled_at_once(None, x, ((1.0, 0.0, 1e-6),) * _SMALL_STEPS, 2, 1)


_STEADY: Final = native.Powers(
    (0, 1, 2),
    (1, 2),
    pair=False,
    floor=0.0,
    bound=1e-12,
    schedules=native.Schedules(((0.0, ((1.0, 0.0, 0.0),) * _SMALL_STEPS),)),
)
"""Steps that change nothing."""


def _natively(x: Tensor) -> object:
    """Steps of an iteration in C, on matrices that are diagonally dominant."""
    return native.powers(_STEADY, x + 4 * x.shape[-1] * torch.eye(x.shape[-1], dtype=x.dtype))


def _lines(x: Tensor, kernel: Kernel) -> Tensor:
    """The two lines of which every step has one: a polynomial, and a product known to be symmetric."""
    return symmetric_product(quadratic(x, (1.0, 1.0, 1.0), torch.empty_like(x), kernel), x, kernel)


_OPERATIONS: Final[dict[Operation, Callable[[Tensor], object]]] = {
    "gemm": lambda x: product(x, x),
    "eigh": eigh,
    "svd": torch.linalg.svd,
    "native": _natively,
    "native_triangle": lambda x: native.triangular_inverses(x, lower=True, unit=True),
    "line": partial(_lines, kernel=Kernel.LIBRARY),
    "symmetric_gemm": partial(_lines, kernel=Kernel.SYMMETRIC),
    "small": _iteration,
    "substitution": invert_leaf,
    "leaf": lambda x: invert_leaf(x, Kernel.ONE_LAUNCH),
}
_MADE: Final[dict[Operation, int]] = {
    "line": 2,
    "symmetric_gemm": 2,
    "small": 4 * _SMALL_STEPS - 2,
    "native": 4 * _SMALL_STEPS - 3,
}
"""Products that an operation is made of, where it is more than one."""
