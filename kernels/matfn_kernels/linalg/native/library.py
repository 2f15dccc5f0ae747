"""The compiled library: found, checked and called."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.native.structures import (
    CALLS,
    MAX_STEPS,
    PROBES,
    LowRankPlan,
    PolarPlan,
    PowersPlan,
    TallPlan,
    TrianglesPlan,
)
from matfn_kernels.linalg.single_thread import in_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__all__ = ["is_built", "library", "run", "variant"]

_PATH: Final = Path(__file__).with_name("libmatfn_native.so")
_SUFFIXES: Final = {torch.float32: "f32", torch.float64: "f64"}
_PLANS: Final = (PowersPlan, TrianglesPlan, TallPlan, PolarPlan, LowRankPlan)


@cache
def library() -> ctypes.CDLL | None:
    """The library; None where there is none, and None with one warning where it does not fit this version."""
    if not _PATH.exists():
        return None
    try:
        found = ctypes.CDLL(str(_PATH))
        layout = _layout(found)
    except (OSError, AttributeError) as error:
        reason = str(error)
    else:
        if layout == (PROBES, MAX_STEPS, *map(ctypes.sizeof, _PLANS), *(call.size for call in CALLS.values()), 0):
            return found
        reason = "it is of another version"
    warnings.warn(f"{_PATH.name} is not used, torch computes instead: {reason}", RuntimeWarning, stacklevel=2)
    return None


def _layout(found: ctypes.CDLL) -> tuple[int, ...]:
    """Numbers of probes and steps and sizes of structures with which the library was compiled."""
    found.matfn_native_layout.restype = ctypes.c_int64
    return tuple(found.matfn_native_layout(which) for which in range(len(_PLANS) + len(CALLS) + 3))


def is_built() -> bool:
    """Whether the library is there and this machine can load it."""
    return library() is not None


@cache
def variant() -> str:
    """The instruction set in use: avx512, avx2 or baseline; none without the library."""
    found = library()
    if found is None:
        return "none"
    found.matfn_native_variant.restype = ctypes.c_char_p
    name: bytes = found.matfn_native_variant()
    return name.decode()


def run(name: str, plan: Callable[[int], ctypes.Structure], arrays: Sequence[Tensor | None]) -> None:
    """Calls an entry point on arrays (batch, ...) on the threads that the caller may use.

    Raises:
        MemoryError: if the library has none for its buffers.
    """
    first = arrays[0]
    assert first is not None
    entry = getattr(library(), f"matfn_{name}_{_SUFFIXES[first.dtype]}")

    def part(start: int, stop: int) -> None:
        pointers = [None if array is None else ctypes.c_void_p(array[start:].data_ptr()) for array in arrays]
        if entry(ctypes.byref(plan(stop - start)), *pointers):
            raise MemoryError(f"no memory for matrices of shape {tuple(first.shape[1:])}")

    in_parts(part, len(first))
