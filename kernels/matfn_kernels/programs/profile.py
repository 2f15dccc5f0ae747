"""Profiles: the costs of products and decompositions on a kind of machine, and the libraries that compute them.

A profile is a table of seconds by operation, precision and order on one thread, the unit in which the service works.
Only the planner reads it, by interpolation. A profile also names its backends, with which its seconds were measured
and its plans are computed. Profiles ship with the package (`profile_loading`), so that a call has the same plan in
every process on one kind of machine; `matfn calibrate` measures another one.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal, TypeAlias, get_args

from matfn_kernels.linalg.backends import TORCHS_OWN, Backends
from matfn_kernels.numbers.precision import Precision

__all__ = ["Operation", "Profile"]

Operation: TypeAlias = Literal[
    "gemm",
    "eigh",
    "svd",
    "native",
    "native_triangle",
    "native_half",
    "spectral",
    "line",
    "symmetric_gemm",
    "small",
    "substitution",
    "leaf",
]
"""The operations that have a price.

By the kernels in C, on a CPU only: a product of an iteration (native), the inverse of a triangle (native_triangle), a
product of an iteration in bf16 (native_half), a power by eigh (spectral). On
a GPU only: a fused update of an iteration by torch (line) and by half of its tiles (symmetric_gemm), a product of an
iteration in one launch (small), the inverse of a small triangle by torch (substitution) and in one launch (leaf)."""

_NEEDED: Final = {(name, kind) for name in ("gemm", "eigh", "svd") for kind in (Precision.FP32, Precision.FP64)}
"""Prices that every profile has: without one of them some call would have no plan."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGITS: Final = 12
"""Hexadecimal digits of a hash: 48 bits, by which two of a million profiles coincide with probability 0.002."""

Row: TypeAlias = tuple[str, str, int, float]


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds a matrix of each operation on one thread, at a few orders.

    Attributes:
        device: cpu or cuda.
        seconds: rows (operation, precision, order, seconds).
        name: letters, digits, dots, dashes and underscores.
        measured: where and how the seconds were found, in words.
        backends: the libraries with which they were measured, and with which its plans compute.
    """

    device: str
    seconds: tuple[Row, ...]
    name: str = "unnamed"
    measured: str = field(default="", compare=False)
    backends: Backends = TORCHS_OWN

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of letters, digits, dots, dashes and underscores, at most 64")

    @property
    def hash(self) -> str:
        """The first digits of the SHA-256 of all that plans depend on: the device, the backends and the sorted rows."""
        content = json.dumps([self.device, sorted(self.backends.rows), sorted(self.seconds)], separators=(",", ":"))
        return sha256(content.encode()).hexdigest()[:_DIGITS]

    @property
    def label(self) -> str:
        """The name and the hash, name@hash."""
        return f"{self.name}@{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Profile:
        """The profile in a JSON text, as `text` writes it.

        Raises:
            ValueError: if the text is not a profile, with the reason in words.
        """
        try:
            loaded = json.loads(text)
            names = {key: str(loaded[key]) for key in ("device", "name", "measured")}
            backends = Backends(tuple(tuple(row) for row in loaded.get("backends", [])))
            rows = tuple(_row(*row) for row in loaded["seconds"])
        except json.JSONDecodeError as error:
            raise ValueError(f"it is not JSON: {error}") from None
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except KeyError as error:
            raise ValueError(f"it has no {error}") from None
        except TypeError:
            raise ValueError(
                "it must be a map whose seconds are rows [operation, precision, order, seconds]"
                " and whose backends are rows [library, routine, dtype, order]"
            ) from None
        _check(rows)
        return cls(seconds=rows, backends=backends, **names)

    def content(self) -> dict[str, object]:
        """The profile as a map of JSON values."""
        named = {key: getattr(self, key) for key in ("name", "device", "measured")}
        return {**named, "backends": list(map(list, self.backends.rows)), "seconds": list(map(list, self.seconds))}

    def text(self) -> str:
        """The profile as JSON, a line for each row."""
        heads = [f'  "{key}": {json.dumps(getattr(self, key))},' for key in ("name", "device", "measured")]
        lists = ('  "backends": ' + _rows(self.backends.rows) + ",", '  "seconds": ' + _rows(self.seconds))
        return "\n".join(["{", *heads, *lists, "}", ""])

    @classmethod
    def nominal(cls) -> Profile:
        """A made-up machine: 50 GFLOP/s in fp32, half that in fp64, twice that in bf16."""
        rates = {Precision.BF16: 1e11, Precision.FP32: 5e10, Precision.FP64: 2.5e10}
        flops: dict[Operation, tuple[float, tuple[int, ...]]] = {
            "gemm": (2.0, (16, 64, 256, 512)),
            "eigh": (18.0, (16, 64, 128, 256, 512)),
            "svd": (50.0, (16, 64, 128)),
        }
        return cls(
            "nominal",
            tuple(
                (operation, str(precision), order, 5e-6 + cubes * order**3 / rate)
                for operation, (cubes, orders) in flops.items()
                for precision, rate in rates.items()
                for order in orders
            ),
            "nominal",
        )

    def cost(self, operation: Operation, precision: Precision, order: float) -> float:
        """Seconds a matrix of that order, by power laws between the measured orders; cubic above, constant below."""
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


def _rows(rows: tuple[object, ...]) -> str:
    """A list in JSON, a line for each of its rows."""
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    return f"[\n{lines}\n  ]" if rows else "[]"


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
    """Checks that there is one price for every operation that plans need.

    Raises:
        ValueError: if one is missing or given twice.
    """
    missing = _NEEDED - {(operation, precision) for operation, precision, _, _ in rows}
    if missing:
        operation, precision = min(missing)
        raise ValueError(f"it has no row of {operation} in {precision}")
    if len({row[:3] for row in rows}) < len(rows):
        raise ValueError("it prices an operation twice")
