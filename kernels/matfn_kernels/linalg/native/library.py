"""The compiled library: found, checked and called."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from itertools import count, takewhile
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from matfn_kernels.linalg.native.structures import OUT_OF_MEMORY, Term, contract
from matfn_kernels.linalg.single_thread import part_of, threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["check", "in_parts", "is_built", "library", "multiplies_bf16", "run", "variant"]

_PATH: Final = Path(__file__).with_name("libmatfn_native.so")
_ALONE: Final = 1 << 20  # multiplications, in one product of each, that a thread does by itself; fewer beside many
_LEAST: Final = 1 << 19  # multiplications of a part, for each of some dozen products
_SUFFIXES: Final = {torch.float32: "f32", torch.float64: "f64", torch.complex64: "c64", torch.complex128: "c128"}


@cache
def library() -> ctypes.CDLL | None:
    """The library; None where there is none, and None with one warning where it does not fit this version."""
    if not _PATH.exists():
        return None
    try:
        found = ctypes.CDLL(str(_PATH))
        difference = _difference(found)
    except (OSError, AttributeError) as error:
        reason = str(error)
    else:
        if difference is None:
            return found
        reason = f"it is of another version, by {difference}"
    warnings.warn(f"{_PATH.name} is not used, torch computes instead: {reason}", RuntimeWarning, stacklevel=2)
    return None


def _difference(found: ctypes.CDLL) -> str | None:
    """A term of the contract by which the library differs from what calls it, None if it fits."""
    entry = found.matfn_native_contract
    entry.argtypes, entry.restype = [ctypes.c_int64], ctypes.POINTER(Term)
    terms = (pointer.contents for pointer in takewhile(bool, map(entry, count())))
    compiled = {term.name.decode(): (term.kind.decode(), term.value) for term in terms}
    return min((name for name, _ in compiled.items() ^ contract().items()), default=None)


def is_built() -> bool:
    """Whether the library is there and this machine can load it."""
    return library() is not None


@cache
def variant() -> str:
    """The instruction set in use: amx, avx512, avx2 or baseline; none without the library."""
    found = library()
    if found is None:
        return "none"
    found.matfn_native_variant.restype = ctypes.c_char_p
    name: bytes = found.matfn_native_variant()
    return name.decode()


def multiplies_bf16() -> bool:
    """Whether the instruction set in use multiplies bf16 numbers."""
    return variant() == "amx"


def check(status: int, work: str) -> None:
    """Raises what a function of the library returns.

    Raises:
        MemoryError: if the library has no memory for its buffers.
        RuntimeError: if LAPACK refuses its arguments.
    """
    if status == OUT_OF_MEMORY:
        raise MemoryError(f"no memory for {work}")
    if status:
        raise RuntimeError(f"LAPACK refuses {work}")


def run(name: str, plan: ctypes.Structure, arrays: Sequence[Tensor | None], together: int = 1) -> None:
    """Calls an entry point on arrays (batch, ...) on the threads that the caller may use.

    Args:
        name: of the entry point, without the dtype.
        plan: the plan, whose first number is that of the matrices.
        arrays: the inputs and outputs without gaps, of which the first one says how much work a matrix is.
        together: matrices that are computed at a time.

    Raises:
        MemoryError: if the library has none for its buffers.
    """
    first = arrays[0]
    assert first is not None
    shape, count = first.shape[1:], len(arrays)
    products = prod(shape) * min(shape)
    size = part_of(len(first), max(together, -(-_LEAST // max(products, 1))))
    status = _batch_in_parts()(
        _entry(f"matfn_{name}_{_SUFFIXES[first.dtype]}"),
        ctypes.byref(plan),
        ctypes.sizeof(plan),
        count,
        (ctypes.c_void_p * count)(*(None if array is None else array.data_ptr() for array in arrays)),
        (ctypes.c_int64 * count)(*(0 if array is None else array.stride(0) * array.itemsize for array in arrays)),
        len(first),
        size,
        1 if len(first) * products * (threads() - 1) <= _ALONE else threads(),
    )
    check(status, f"matrices of shape {tuple(shape)}")


def in_parts(name: str, plan: ctypes.Structure | bytes, units: int, least: int, work: str) -> None:
    """Calls an entry point that does the units first..last of a plan on the threads that the caller may use.

    Args:
        name: of the entry point.
        plan: the plan.
        units: how many there are.
        least: each part but the last is a multiple of so many.
        work: what it does, in words.

    Raises:
        MemoryError: if the library has none for its buffers.
    """
    at = plan if isinstance(plan, bytes) else ctypes.byref(plan)
    check(_in_parts()(_entry(name), at, units, part_of(units, least), threads()), work)


@cache
def _entry(name: str) -> ctypes.c_void_p:
    """The address of an entry point."""
    return ctypes.cast(getattr(library(), name), ctypes.c_void_p)


@cache
def _in_parts() -> Any:
    found = library().matfn_in_parts  # type: ignore[union-attr]
    found.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3]
    return found


@cache
def _batch_in_parts() -> Any:
    found = library().matfn_batch_in_parts  # type: ignore[union-attr]
    pointers = [ctypes.c_void_p] * 2
    found.argtypes = [*pointers, *[ctypes.c_int64] * 2, *pointers, *[ctypes.c_int64] * 3]
    return found
