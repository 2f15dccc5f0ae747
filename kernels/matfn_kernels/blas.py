"""OpenBLAS and its LAPACK, where they are the faster of the two that are at hand.

torch brings MKL, which gives other makers' processors the kernels of an older instruction set; numpy and scipy bring
OpenBLAS, which knows them. On one thread of an AMD EPYC with AVX-512 Cholesky factorisations take a fifth to a half of
the time, products of a matrix with its own transpose, of which numpy computes one triangle, 0.6 to 0.8 of it, other
products 0.9 and large eigendecompositions in float64 0.8 to 0.9. Below some order MKL is as fast. Which of the two
computes depends on the processor, the order and the dtype, so that an answer does not depend on its neighbours.

It serves where it was told to use one thread, as the service tells its lanes: threads of its own wait for each other
beside those of torch, and inverse roots of order 256 took five times as long.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from scipy.linalg import lapack

from matfn_kernels.machine import is_intel, processor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["by_onednn", "decompose", "decomposes", "is_definite", "multiplies", "product", "serves_onednn"]

_THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
_PRODUCTS_FROM: Final = 128
_FACTORS_FROM: Final = 32
_DECOMPOSITIONS_FROM: Final = {torch.float32: 512, torch.float64: 256}
_EIGH: Final = {torch.float32: lapack.ssyevd, torch.float64: lapack.dsyevd}
_CHOLESKY: Final = {torch.float32: lapack.spotrf, torch.float64: lapack.dpotrf}

_ONEDNN: Final = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""X Y^T by oneDNN, as compiled models call it, where torch has it."""
_ONEDNN_FROM: Final = 256
_HAS_WIDE_VECTORS: Final = torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def _is_faster() -> bool:
    """Whether torch computes with MKL on a processor that is not Intel's, and OpenBLAS on one thread."""
    if next((os.environ[name] for name in _THREADS if name in os.environ), None) != "1":
        return False
    found = processor()
    return bool(torch.backends.mkl.is_available()) and bool(found) and not is_intel(found)  # type: ignore[no-untyped-call]


def _serves(x: Tensor, order: int) -> bool:
    return x.device.type == "cpu" and x.shape[-1] >= order and x.dtype in _EIGH and _is_faster()


def multiplies(x: Tensor) -> bool:
    """Whether products with X (batch, m, n) are better made here."""
    return _serves(x, _PRODUCTS_FROM) and x.shape[-2] >= _PRODUCTS_FROM


def product(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """X Y into `out`, which may be a view; by half of the work where Y is the view X^T."""
    np.matmul(x.numpy(), y.numpy(), out=out.numpy())
    return out


def is_definite(a: Tensor) -> Tensor:
    """Which A (batch, n, n), symmetric and overwritten, have a Cholesky factorisation, (batch,)."""
    if not _serves(a, _FACTORS_FROM):
        return torch.eq(torch.linalg.cholesky_ex(a)[1], 0)
    factorise = _CHOLESKY[a.dtype]
    return torch.tensor([factorise(one.T, lower=0, clean=0, overwrite_a=1)[1] == 0 for one in a.numpy()])


def decomposes(a: Tensor) -> bool:
    """Whether A (batch, n, n) is better diagonalised here."""
    return _serves(a, _DECOMPOSITIONS_FROM.get(a.dtype, 0))


def decompose(a: Tensor) -> tuple[Tensor, Tensor]:
    """`torch.linalg.eigh` of symmetric A (batch, n, n); NaN where LAPACK gives up."""
    w, v = torch.empty_like(a[..., 0]), torch.empty_like(a)
    for one, values, rows in zip(a.numpy(), w.numpy(), v.numpy(), strict=True):
        values[:], vectors, info = _EIGH[a.dtype](one.T, lower=1)
        rows[:] = vectors.T
        if info:
            values[:] = rows[:] = np.nan
    return w, v.mT


def serves_onednn(x: Tensor, y: Tensor) -> bool:
    """Whether X Y of X (batch, m, k) and Y (batch, k, n) takes half of MKL's time in oneDNN."""
    fits = x.device.type == "cpu" and x.dtype == torch.float32 and min(*x.shape[1:], y.shape[-1]) >= _ONEDNN_FROM
    return fits and _HAS_WIDE_VECTORS and _ONEDNN is not None


def by_onednn(x: Tensor, y: Tensor) -> Tensor:
    """X Y, each without gaps, since it takes a thousand times as long otherwise; rounding is up to 1.6 times MKL's."""
    assert _ONEDNN is not None
    pairs = zip(x, y, strict=True)
    return torch.stack([_ONEDNN(one.contiguous(), other.contiguous().mT, None, "none", [], "") for one, other in pairs])
