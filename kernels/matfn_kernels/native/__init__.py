"""The kernels in C for a CPU: whole methods for one real matrix after the other, where torch needs a call a product.

An answer depends on its own matrix alone, to the bit, whatever else is in the batch. The library is compiled when the
package is installed; without it torch's products serve, and `is_built` says so. Calls leave the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn_kernels import probes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["MAX_STEPS", "PowerFindings", "Powers", "is_built", "powers", "variant"]

MAX_STEPS: Final = 24
"""Longest schedule of an iteration."""

_PATH: Final = Path(__file__).with_name("libmatfn_native.so")
_SUFFIXES: Final = {torch.float32: "f32", torch.float64: "f64"}

Row = tuple[float, float, float]


@cache
def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(_PATH))
    except OSError:
        return None


def is_built() -> bool:
    """Whether the library is there and this machine can load it."""
    return _library() is not None


@cache
def variant() -> str:
    """The instruction set in use: avx512, avx2 or baseline; none without the library."""
    library = _library()
    if library is None:
        return "none"
    library.matfn_native_variant.restype = ctypes.c_char_p
    name: bytes = library.matfn_native_variant()
    return name.decode()


class _PowersPlan(ctypes.Structure):
    """`roots_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "order", "k", "s", "r", "whole_s", "whole_r")),
        *((name, ctypes.c_int64) for name in ("identity_too", "schedules")),
        *((name, ctypes.c_double) for name in ("floor", "bound", "reach")),
        *((name, ctypes.c_void_p) for name in ("probes", "bounds", "steps", "rows")),
    )


@dataclass(frozen=True)
class Powers:
    """Which powers are wanted: A^k A^(-s/r), and with `pair` A^(-s/r) beside it.

    Attributes:
        exponents: (k, s, r) in lowest terms.
        whole: (s, r) as they were asked for, whose equation is checked.
        pair: whether A^(-s/r) is wanted too.
        floor: smallest eigenvalue that may be answered for, relative to the largest.
        bound: the same relative to ||A^2||_F^(1/2).
        schedules: coefficients by the smallest eigenvalue that they resolve, the easiest first.
    """

    exponents: tuple[int, int, int]
    whole: tuple[int, int]
    pair: bool
    floor: float
    bound: float
    schedules: tuple[tuple[float, tuple[Row, ...]], ...]

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """The schedules' eigenvalues, (schedules,)."""
        return np.array([bound for bound, _ in self.schedules])

    @cached_property
    def steps(self) -> NDArray[np.int64]:
        """The schedules' lengths, (schedules,)."""
        return np.array([len(rows) for _, rows in self.schedules], dtype=np.int64)

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """The schedules' coefficients, (schedules, MAX_STEPS, 3)."""
        table = np.zeros((len(self.schedules), MAX_STEPS, 3))
        for part, (_, rows) in zip(table, self.schedules, strict=True):
            part[: len(rows)] = rows
        return table


@dataclass(frozen=True, slots=True)
class PowerFindings:
    """What was found of each matrix, (batch,) float64 each, NaN where it was not come to.

    Attributes:
        finite: whether all entries are.
        definite: whether A is proved to be positive definite.
        asymmetry: ||A - A^T|| / ||A||.
        smallest: the smallest eigenvalue relative to ||A^2||_F^(1/2).
        largest: the largest.
        residual: of the equation of the power, on columns.
        missing: the relative error that it stands for.
        steps: of the iteration.
        exponent: of the power of two that the first power lacks.
        other_exponent: that the other one lacks.
    """

    finite: Tensor
    definite: Tensor
    asymmetry: Tensor
    smallest: Tensor
    largest: Tensor
    residual: Tensor
    missing: Tensor
    steps: Tensor
    exponent: Tensor
    other_exponent: Tensor


_REACH: Final = 1.25
"""How far below its estimate by power iteration the smallest eigenvalue may lie: proved, or a lower one is taken."""


def powers(wanted: Powers, a: Tensor) -> tuple[tuple[Tensor, ...], PowerFindings]:
    """Powers of A (batch, n, n), float32 or float64 without gaps, NaN where A is not proved to be positive definite.

    Raises:
        MemoryError: if there is none for a dozen matrices.
    """
    items, order = len(a), a.shape[-1]
    outputs = tuple(torch.empty_like(a) for _ in range(1 + wanted.pair))
    found = torch.empty(items, len(PowerFindings.__slots__), dtype=torch.float64, device="cpu")
    columns = probes.columns(order)
    entry = getattr(_library(), f"matfn_roots_{_SUFFIXES[a.dtype]}")
    tables = (wanted.bounds, wanted.steps, wanted.rows)
    settings = (order, *wanted.exponents, *wanted.whole, wanted.pair, len(wanted.schedules))
    rest = (*settings, wanted.floor, wanted.bound, _REACH)

    def part(start: int, stop: int) -> None:
        plan = _PowersPlan(stop - start, *rest, columns.data_ptr(), *(table.ctypes.data for table in tables))
        pointers = [tensor[start:].data_ptr() for tensor in (a, *outputs)] + [0] * (not wanted.pair)
        arrays = [ctypes.c_void_p(pointer) for pointer in (*pointers, found[start:].data_ptr())]
        if entry(ctypes.byref(plan), *arrays):
            raise MemoryError(f"no memory for matrices of order {order}")

    _in_parts(part, items)
    return outputs, PowerFindings(*found.unbind(-1))


def _in_parts(work: Callable[[int, int], None], items: int) -> None:
    """Calls work(start, stop) for parts of a batch, on as many threads as torch would use."""
    parts = min(torch.get_num_threads(), items)
    if parts == 1:
        return work(0, items)
    bounds = [items * part // parts for part in range(parts + 1)]
    list(_threads(parts).map(work, bounds[:-1], bounds[1:]))
    return None


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "matfn-native")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of its parent's threads
