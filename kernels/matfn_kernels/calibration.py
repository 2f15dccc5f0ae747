"""Profiles: what products and decompositions cost on a kind of machine, and how that is measured.

A profile is a table of seconds by operation, precision and order on one thread, the unit in which the service works.
The planner interpolates it; nothing else looks at it. Profiles ship with the package (`shipped`), so that the same call
has the same plan in every process on one kind of machine; `matfn calibrate` measures another one.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import torch

from matfn_kernels.device_policy import Kernel
from matfn_kernels.native import kernels as native
from matfn_kernels.precision import Precision, working
from matfn_kernels.products import coupled_at_once, invert_leaf, product, quadratic, symmetric_product
from matfn_kernels.spectral import eigh

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["Operation", "Profile", "measure"]

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
_REPEATS: Final = 15
_PATIENCE: Final = 0.3
"""Seconds after which an operation is not repeated."""
_BATCH_ELEMENTS: Final = 1 << 16
_GPU_BATCH_ELEMENTS: Final = 1 << 22
_ONE_BY_ONE: Final = 32
"""Order beyond which a GPU's decompositions take one matrix after the other: two of them tell what a batch costs."""
_QUEUED: Final = 4
"""Runs that are timed together on a GPU, so that the host is ahead of it."""
_SMALL_STEPS: Final = 8
_NEEDED: Final = {(name, kind) for name in ("gemm", "eigh", "svd") for kind in (Precision.FP32, Precision.FP64)}
"""Without them there are calls that no plan has a price for."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGITS: Final = 12

Row: TypeAlias = tuple[str, str, int, float]


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds a matrix of each operation on one thread, at a few orders.

    Attributes:
        device: cpu or cuda.
        seconds: rows (operation, precision, order, seconds).
        name: letters, digits, dots, dashes and underscores.
        measured: where and how the seconds were found, in words.
    """

    device: str
    seconds: tuple[Row, ...]
    name: str = "unnamed"
    measured: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of letters, digits, dots, dashes and underscores, at most 64")

    @property
    def hash(self) -> str:
        """The first digits of the SHA-256 of all that plans depend on: the device and the rows in their order."""
        content = json.dumps([self.device, sorted(self.seconds)], separators=(",", ":"))
        return sha256(content.encode()).hexdigest()[:_DIGITS]

    @property
    def label(self) -> str:
        """The name and the hash, name@hash."""
        return f"{self.name}@{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Profile:
        """The profile that `text` wrote.

        Raises:
            ValueError: if it is none, with the reason in words.
        """
        try:
            loaded = json.loads(text)
            names = {key: str(loaded[key]) for key in ("device", "name", "measured")}
            rows = tuple(_row(*row) for row in loaded["seconds"])
        except json.JSONDecodeError as error:
            raise ValueError(f"it is not JSON: {error}") from None
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except KeyError as error:
            raise ValueError(f"it has no {error}") from None
        except TypeError:
            raise ValueError("it must be a map whose seconds are rows [operation, precision, order, seconds]") from None
        _check(rows)
        return cls(seconds=rows, **names)

    def text(self) -> str:
        """The profile as JSON, a line for each row."""
        heads = [f'  "{key}": {json.dumps(getattr(self, key))},' for key in ("name", "device", "measured")]
        rows = ",\n".join(f"    {json.dumps(row)}" for row in self.seconds)
        return "\n".join(["{", *heads, '  "seconds": [', rows, "  ]", "}", ""])

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
            "nominal",
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


def _row(operation: str, precision: str, order: int, seconds: float) -> Row:
    """A row of a profile, checked.

    Raises:
        ValueError: if it prices nothing.
    """
    known = operation in get_args(Operation) and precision in set(Precision)
    whole = type(order) is int and 0 < order < 1 << 31
    if not (known and whole and type(seconds) in {int, float} and 0 < seconds <= sys.float_info.max):
        raise ValueError(f"the row {json.dumps([operation, precision, order, seconds])} prices no operation")
    return operation, precision, order, float(seconds)


def _check(rows: tuple[Row, ...]) -> None:
    """Insists on one price for whatever every plan needs.

    Raises:
        ValueError: if something is missing or given twice.
    """
    missing = _NEEDED - {(operation, precision) for operation, precision, _, _ in rows}
    if missing:
        operation, precision = min(missing)
        raise ValueError(f"it has no row of {operation} in {precision}")
    if len({row[:3] for row in rows}) < len(rows):
        raise ValueError("it prices an operation twice")


def measure(device: str = "cpu") -> Profile:
    """Times the operations on the calling thread, to four digits; use a thread of the kind that will compute."""
    rows = [
        (operation, str(precision), order, float(f"{_time(operation, precision, order, device):.4g}"))
        for operation, orders in (_ORDERS if device == "cpu" else _GPU_ORDERS).items()
        for precision in (Precision.FP32, Precision.FP64, *((Precision.BF16,) if operation in _IN_BF16 else ()))
        for order in orders
    ]
    return Profile(device.partition(":")[0], tuple(rows), "measured")


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
    return max(1, (_BATCH_ELEMENTS if device == "cpu" else _GPU_BATCH_ELEMENTS) // (order * order))


def _times(run: Callable[[], object], clock: Callable[[], float]) -> list[float]:
    times: list[float] = []
    while len(times) < _REPEATS and sum(times) < _PATIENCE:
        start = clock()
        run()
        times.append(clock() - start)
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

    return [seconds / _QUEUED for seconds in _times(queued, time.perf_counter)]


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
