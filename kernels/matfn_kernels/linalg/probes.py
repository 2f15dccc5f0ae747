"""Random probes: images of a few random vectors under an operator, in float64.

A certificate needs norms of operators that are never formed, X^r A - I among them. Four random columns give the
Frobenius norm to within a quarter. They are seeded by the bits of a matrix that belongs to the certificate, so that a
certificate depends on its own matrix and on nothing else in the batch, and no vector that is known beforehand is
orthogonal to them. The kernels in C take columns that depend on the order alone, with signs that the matrix seeds.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.native.library import library
from matfn_kernels.linalg.native.structures import PROBES, RANDOM_FIELDS
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.numbers.pinned import used

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "COUNT",
    "column_norm",
    "columns",
    "gaussian",
    "growth",
    "interleaved",
    "ratio",
    "spread",
    "spread_columns",
    "square",
    "times",
]

COUNT: Final = PROBES
_SEED: Final = 20240901
"""Any number: with the order it makes the columns the same in every process."""


_STIR: Final = -0x61C8864680B583EB
"""An odd number of 64 bits, as two's complement, that spreads the bits of others: 2^64 over the golden ratio."""
_FIELDS: Final = 0x0000FFFF0000FFFF
"""Two of the four fields of 16 bits whose sum is nearly Gaussian."""
_LOW: Final = 0xFFFFFFFF
"""The lower half of 64 bits."""
_MEAN: Final = RANDOM_FIELDS * 32767.5
_DEVIATION: Final = math.sqrt(RANDOM_FIELDS * (65536.0**2 - 1) / 12)
"""Mean and standard deviation of the sum of the fields."""


@lru_cache(maxsize=64)
def _columns(order: int, count: int) -> Tensor:
    """Gaussian columns (order, count) that depend on their number and length alone."""
    generator = torch.Generator().manual_seed(_SEED + order)
    return torch.randn(order, count, generator=generator, dtype=torch.float64, device="cpu")


@lru_cache(maxsize=256)
def _multipliers(*sizes: int, device: torch.device) -> Tensor:
    """Odd numbers of 64 bits of a shape, cached on the device: a copy would wait for all that is under way there."""
    generator = torch.Generator().manual_seed(_SEED + sizes[-1])
    bounds = torch.iinfo(torch.int64)
    numbers = torch.randint(bounds.min, bounds.max, sizes, generator=generator, dtype=torch.int64, device="cpu")
    return (numbers | 1).to(device)


def gaussian(like: Tensor, order: int, count: int = COUNT) -> Tensor:
    """Columns (batch, order, count) of nearly Gaussian numbers in double precision, seeded by the bits of `like`."""
    if like.is_cpu and library() is not None:
        found = _natively(like, order, count)
    else:
        found = _numbers(_seeds(like), order, count)
    return found.to(torch.complex128) if like.dtype.is_complex else found


def _natively(like: Tensor, order: int, count: int) -> Tensor:
    """The columns by the library in C, which stirs other numbers of the same distribution."""
    given = like.resolve_conj().resolve_neg().contiguous()
    found = torch.empty(len(given), order, count, dtype=torch.float64, device="cpu")
    if found.numel():
        size = given.nbytes // len(given)
        _entry()(len(given), size, given.data_ptr(), order * count, found.data_ptr())
    return found


@cache
def _entry() -> Any:
    entry = getattr(library(), "matfn_random_numbers")  # noqa: B009 - of a library that may be None to the type checker
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    entry.argtypes, entry.restype = [integer, integer, pointer, integer, pointer], None
    return entry


def _seeds(like: Tensor) -> Tensor:
    """A number for each matrix of a batch, (batch,) int64: a sum of its bits with odd weights, modulo 2^64."""
    bits = _integers(like)
    weights = [used(_multipliers(size, device=like.device)) for size in bits.shape[1:]]
    if not like.is_cpu:
        for weight in reversed(weights):
            bits = (bits * weight).sum(-1)
        return bits
    found: NDArray[np.int64] = bits.numpy()
    for weight in reversed(weights):
        found = np.dot(found, weight.numpy())  # integers modulo 2^64: the order of the sum does not matter
    return torch.from_numpy(np.asarray(found))


def _integers(x: Tensor) -> Tensor:
    """The bits of numbers, int64, the upper half of 64 added to the lower; a complex number is a row of two."""
    x = x.resolve_conj().resolve_neg().contiguous()
    x = torch.view_as_real(x) if x.dtype.is_complex else x
    bits = x.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]).to(torch.int64)
    return bits ^ (bits >> 32) if x.element_size() > 4 else bits  # noqa: PLR2004 - bytes; small whole numbers end in zeros


def _numbers(seeds: Tensor, order: int, count: int) -> Tensor:
    """Columns (batch, order, count) float64 of sums of four numbers of 16 bits, of mean 0 and variance 1."""
    factors = used(_multipliers(order, count, device=seeds.device))
    if seeds.is_cpu:
        sums = torch.from_numpy(_stirred(seeds.numpy()[:, None, None], factors.numpy()))
    else:
        sums = _stirred(seeds[:, None, None], factors)
    return (sums.to(torch.float64) - _MEAN) / _DEVIATION


def _stirred(seeds: Any, factors: Any) -> Any:
    """Sums of the four fields of pseudorandom integers, of tensors or of arrays: whole numbers are exact in both."""
    x = _folded(_folded(seeds + _STIR, 32) * factors, 32)
    x *= _STIR
    x = _folded(x, 29)
    pairs = x & _FIELDS
    x >>= 16
    x &= _FIELDS
    pairs += x
    pairs += pairs >> 32
    pairs &= _LOW
    return pairs


def _folded(x: Any, bits: int) -> Any:
    """X with its upper bits added to its lower ones without carry."""
    upper = x >> bits
    upper &= (1 << (64 - bits)) - 1
    upper ^= x
    return upper


def columns(order: int) -> Tensor:
    """Fixed Gaussian columns for one matrix on a CPU, (order, COUNT) float64; the kernels in C choose their signs."""
    return _columns(order, COUNT)


def spread(like: Tensor, order: int) -> Tensor:
    """`gaussian` columns (batch, order, COUNT), scaled to rows of unit length.

    All columns of the matrix that they multiply have equal weight.

    The Frobenius norm of E Z is that of E where a single column of E is not zero, and near it otherwise.
    """
    return _with_unit_rows(gaussian(like, order))


def _with_unit_rows(z: Tensor) -> Tensor:
    return invariant.divided(z, invariant.row_norm(z)[..., None])


@lru_cache(maxsize=64)
def spread_columns(order: int) -> Tensor:
    """Fixed columns of rows of unit length, (order, COUNT) float64 without gaps; kernels in C choose their signs."""
    return _with_unit_rows(columns(order)).contiguous()


def square(like: Tensor) -> Tensor:
    """`gaussian` matrices of the shape of `like` (batch, n, n), real float64."""
    return gaussian(like, like.shape[-1], like.shape[-1]).real


def times(x: Tensor, z: Tensor) -> Tensor:
    """X Z for a few columns Z, as (Z^T X^T)^T: two to twenty times as fast in BLAS as the product of tall and thin."""
    return invariant.product(z.mT, x.mT).mT


def column_norm(x: Tensor) -> Tensor:
    """Frobenius norm over the columns of x (batch, n, COUNT), divided by sqrt(COUNT); (batch,) real."""
    return invariant.matrix_norm(x) / COUNT**0.5


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Norm of some columns over that of others, (batch,) float64; where the others vanish 0, or infinite if alone."""
    size, value = norm(whole), norm(part)
    alone = torch.where(value > 0, torch.full_like(value, math.inf), torch.zeros_like(value))
    return torch.where(size > 0, value / size, alone)


def growth(apply: Callable[[Tensor], Tensor], start: Tensor, rounds: int) -> Tensor:
    """Norm of a positive semidefinite operator by block power iteration, (batch,); a lower bound, mostly within 20%."""
    x = start
    size = torch.ones(start.shape[0], dtype=torch.float64, device=start.device)
    tiny = torch.finfo(start.dtype).tiny
    for _ in range(rounds):
        x = invariant.divided(x, invariant.row_norm(x.mT)[:, None].clamp_min(tiny))
        x = apply(x)
        size = invariant.row_norm(x.mT).amax(-1)
    return size


def interleaved(x: Tensor, a: Tensor, r: int, s: int, start: Tensor) -> Tensor:
    """X^r A^s applied to columns, the factors spread evenly so that no partial product overflows."""
    done_x = done_a = 0
    z = start
    while done_x < r or done_a < s:
        if done_x * (s + 1) <= done_a * r + r // 2 and done_x < r:
            z, done_x = times(x, z), done_x + 1
        elif done_a < s:
            z, done_a = times(a, z), done_a + 1
        else:
            z, done_x = times(x, z), done_x + 1
    return z
