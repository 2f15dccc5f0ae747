"""BLAS and LAPACK of the libraries in this process, called from C for one matrix after the other (lapack.c).

torch brings MKL, whose routines its library exports; scipy brings OpenBLAS and hands its routines out for callers in C.
Which of the two computes is chosen by the plan's backends (`linalg.backends`): MKL gives other makers' processors the
kernels of an older instruction set, and on one thread of an AMD EPYC with AVX-512 OpenBLAS takes a fifth to a half of
its time for Cholesky factorisations, 0.9 of it for products and 0.8 to 0.9 for large eigendecompositions.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch

from matfn_kernels.linalg import backends
from matfn_kernels.linalg.native.library import in_parts, library
from matfn_kernels.linalg.native.structures import CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matfn_kernels.linalg.backends import Backends, Routine

__all__ = ["KINDS", "Blas", "blas_for", "call", "is_ready", "libraries"]


class Blas(IntEnum):
    """A library, by its number in lapack.c."""

    MKL = 0
    OPENBLAS = 1


KINDS: Final = {torch.float32: 0, torch.float64: 1, torch.complex64: 2, torch.complex128: 3}
"""Number of each dtype in lapack.c."""
_ROUTINES: Final = (
    ("sgemm", "dgemm", "cgemm", "zgemm"),
    ("strsm", "dtrsm", "ctrsm", "ztrsm"),
    ("spotrf", "dpotrf", "cpotrf", "zpotrf"),
    ("ssyevd", "dsyevd", "cheevd", "zheevd"),
    ("sgesdd", "dgesdd", "cgesdd", "zgesdd"),
    ("sgetrf", "dgetrf", "cgetrf", "zgetrf"),
    ("sgetrs", "dgetrs", "cgetrs", "zgetrs"),
)
_SCIPYS: Final = (("sgees", "dgees", "cgees", "zgees"),)
"""Routines that torch's library does not export."""
_ROUTED: Final[Mapping[str, Routine]] = MappingProxyType(
    {"products": "products", "cholesky": "cholesky", "eigh": "eigh"}
)
"""Functions of lapack.c whose library is chosen by a routine of their own."""
_OF_SCIPY: Final = {"schur", "real_schur"}
"""Functions of lapack.c that call one of those: of scipy's library, the last in number, which is always there."""
_PARALLEL: Final = 1 << 20
"""Multiplications that are worth a thread: some 20 us of a core."""


@lru_cache(maxsize=1024)
def blas_for(chosen: Backends, routine: Routine, dtype: torch.dtype, order: int) -> Blas:
    """The library that computes a routine of that order."""
    openblas = Blas.MKL not in libraries() or order >= chosen.least("openblas", routine, dtype)
    return Blas.OPENBLAS if openblas else Blas.MKL


def is_ready() -> bool:
    """Whether the kernels in C are built and have routines to call."""
    return bool(libraries())


@cache
def libraries() -> frozenset[Blas]:
    """The libraries in this process whose routines C can call."""
    found = library()
    if found is None:
        return frozenset()
    addresses = {Blas.MKL: _of_mkl(), Blas.OPENBLAS: _of_openblas()}
    for blas, (routines, set_threads) in addresses.items():
        if routines:
            found.matfn_lapack_take(blas, (ctypes.c_void_p * len(routines))(*routines), set_threads)
    return frozenset(blas for blas, (routines, _) in addresses.items() if routines)


def _of_mkl() -> tuple[list[int], ctypes.c_void_p]:
    """Addresses of MKL's routines in torch's library, none where it has not all of them."""
    try:
        torchs = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"))
        routines = [_address(getattr(torchs, f"{name}_")) for row in _ROUTINES for name in row]
        missing = [0 for row in _SCIPYS for _ in row]
        return routines + missing, ctypes.c_void_p(_address(torchs.MKL_Set_Num_Threads_Local))
    except (OSError, AttributeError):
        return [], ctypes.c_void_p()


def _of_openblas() -> tuple[list[int], ctypes.c_void_p]:
    """Addresses of the routines that scipy offers; their threads are set for the whole process, elsewhere."""
    from scipy.linalg import cython_blas, cython_lapack

    offered = {**cython_blas.__pyx_capi__, **cython_lapack.__pyx_capi__}
    return [_pointer(offered[name]) for row in (*_ROUTINES, *_SCIPYS) for name in row], ctypes.c_void_p()


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def _pointer(capsule: object) -> int:
    """The address that a capsule holds."""
    python = ctypes.pythonapi
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", python))
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", python))
    found: int = pointer(capsule, name(capsule))
    return found


@lru_cache(maxsize=4096)
def _settings(
    chosen: Backends, name: str, dtype: torch.dtype, order: int
) -> tuple[str, Callable[..., bytes], Blas, int]:
    """Entry point's name of a function of lapack.c, packer of its plan, library and number of the dtype."""
    blas = max(libraries()) if name in _OF_SCIPY else blas_for(chosen, _ROUTED.get(name, "others"), dtype, order)
    return f"matfn_lapack_{name}", CALLS[name].pack, blas, KINDS[dtype]


def call(
    name: str, dtype: torch.dtype, order: int, units: int, products: int, arguments: tuple[int | float, ...]
) -> None:
    """Calls a function of lapack.c on units of work, out of the interpreter's lock.

    Args:
        name: of the function.
        dtype: of the numbers.
        order: by which the library is chosen.
        units: matrices, or panels of them.
        products: multiplications of a unit.
        arguments: the rest of its plan in native.h.

    Raises:
        MemoryError: if there is none for its buffers.
    """
    entry, pack, blas, kind = _settings(backends.chosen(), name, dtype, order)
    least = units if units * products < 2 * _PARALLEL else -(-_PARALLEL // products)
    in_parts(entry, pack(blas, kind, *arguments), units, least, f"{name} of order {order}")
