"""A test process that computes as on another machine: with other kernels in C, or another BLAS."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
import scipy
import torch

from matfn_kernels.linalg import backends
from matfn_kernels.linalg.native import library as module
from matfn_kernels.linalg.native.library import is_built, library, variant
from variants import use

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["BLAS", "described", "force_blas", "force_kernels", "force_library"]

_FORCED: Final = {"mkl": backends.TORCHS_OWN, "openblas": backends.ALL_OPENBLAS, "onednn": backends.ONEDNN}
BLAS: Final = tuple(_FORCED)


def force_kernels(patch: pytest.MonkeyPatch, name: str) -> None:
    """Makes the process use one variant of the kernels in C, or none as if nothing had been compiled.

    Call it before a module is imported that asks for the library.

    Raises:
        pytest.UsageError: if there is no library, or this processor has not these instructions.
    """
    if name == "own":
        return
    if name == "none":
        patch.setattr(module, "_PATH", module._PATH.with_name("not_compiled.so"))
        library.cache_clear()
    elif not is_built():
        raise pytest.UsageError(f"--kernels={name}: the kernels are not compiled here (make native)")
    elif not use(name):
        raise pytest.UsageError(f"--kernels={name}: this processor has not these instructions")
    variant.cache_clear()


def force_library(patch: pytest.MonkeyPatch, path: str) -> None:
    """Makes the process use a library compiled elsewhere.

    Call it before a module is imported that asks for the library.

    Raises:
        pytest.UsageError: if it is not used.
    """
    patch.setattr(module, "_PATH", Path(path))
    library.cache_clear()
    if not is_built():
        raise pytest.UsageError(f"--library={path}: not used")


def force_blas(patch: pytest.MonkeyPatch, name: str) -> None:
    """Makes one BLAS compute whatever it can, at any order and for any plan; mkl is the one that torch brings."""
    patch.setattr(backends, "chosen", lambda: _FORCED[name])


def described() -> str:
    """The instruction sets and threads that this process computes with, in one line."""
    parts = [
        f"kernels {variant()}",
        f"torch {torch.backends.cpu.get_cpu_capability()}",
        *(f"{module.__name__}'s OpenBLAS {_core(module)}" for module in (np, scipy)),
        f"{torch.get_num_threads()} of {os.cpu_count()} threads",
    ]
    return ", ".join(parts)


def _core(module: ModuleType) -> str:
    """The processor whose kernels a wheel's OpenBLAS uses, by its own name."""
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - a file of the kernel's
        loaded = {line.split()[-1] for line in maps if f"/{module.__name__}.libs/" in line and "openblas" in line}
    for path in loaded:
        names = (f"scipy_openblas_get_corename{suffix}" for suffix in ("64_", ""))
        if entry := next(filter(None, (getattr(ctypes.CDLL(path), name, None) for name in names)), None):
            entry.restype = ctypes.c_char_p
            return str(entry().decode())
    return "unknown"
