"""Operations whose result for one matrix is the same bits in any batch, at any place in memory, on any threads.

torch's own results vary: its products are one call of a library for the whole batch, folded where an operand is shared;
MKL chooses kernels by the alignment of its operands; sums, powers and exponentials are taken by vectors where a row
fits and by single numbers at its end; large ones are cut where threads meet. On a CPU every operation here works
on one matrix after the other, on aligned storage and one thread (`native.lapack`, `native.reductions`), or elementwise
by numpy on storage without gaps, where each number is computed alike. Elementwise torch is used where IEEE arithmetic
leaves no choice: sums, products, quotients and square roots of real numbers. Without the library in C torch computes
matrix by matrix. On a GPU these are torch's operations.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from matfn_kernels.linalg.native import lapack, lockstep
from matfn_kernels.linalg.native.library import library, run
from matfn_kernels.linalg.native.structures import RowsPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__all__ = [
    "cholesky",
    "cholesky_solve",
    "divided",
    "eigh",
    "exp",
    "exp2",
    "expm1",
    "inverse",
    "ldexp",
    "log",
    "log1p",
    "magnitude",
    "matrix_norm",
    "matrix_power",
    "multiples",
    "multiplied",
    "negative",
    "peak",
    "power",
    "product",
    "row_norm",
    "solve_triangular",
    "squares",
    "sums",
    "svd",
    "symmetric_peak",
    "triangle_peak",
    "two_to",
]

_PANEL: Final = 256
"""Rows of a large product that are one unit of work; a multiple of what fills a vector, so that panels are aligned."""


def product(x: Tensor, y: Tensor, out: Tensor | None = None, *, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    """Alpha X Y + beta out of X (..., m, k) and Y (..., k, n), leading dimensions equal or 1; into `out` if given.

    With beta the sum starts from what `out` holds.
    """
    if not x.is_cpu:
        return _torchs_product(x, y, out, alpha, beta)
    if x.dim() == 3 and y.dim() == 3 and x.shape[0] == y.shape[0]:  # noqa: PLR2004 - (batch, m, k)
        shape: tuple[int, ...] = (*x.shape[:2], y.shape[2])
    else:
        lead = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])  # type: ignore[no-untyped-call]
        shape = (*lead, x.shape[-2], y.shape[-1])
        x, y = (_spread(z, lead) for z in (x, y))
    made = out if out is not None and out.is_contiguous() else torch.empty(shape, dtype=x.dtype)
    if made is not out and beta:
        assert out is not None
        made.copy_(out)
    if x.dtype in lapack.KINDS and lapack.is_ready():
        _products(x, y, made, alpha, beta)
    else:
        _one_by_one(x, y, made.view(len(x), *shape[-2:]), alpha, beta)
    return made if out is None or made is out else out.copy_(made)


def _spread(x: Tensor, lead: Sequence[int]) -> Tensor:
    """X (..., m, n) over the leading dimensions, as (batch, m, n), stored by rows or by columns and conjugated as X is.

    A library has other kernels for a factor that is stored the other way, or conjugated on the way. Of one matrix a
    view may do, of several only a copy, which is by rows and conjugated already unless it is told otherwise.
    """
    if x.is_conj():
        return _spread(x.conj(), lead).conj()
    if x.stride(-2) == 1 and x.stride(-1) != 1:
        return _spread(x.mT, lead).mT
    return x.expand(*lead, *x.shape[-2:]).reshape(math.prod(lead), *x.shape[-2:])


def _torchs_product(x: Tensor, y: Tensor, out: Tensor | None, alpha: float, beta: float) -> Tensor:
    if x.dim() != 3 or y.dim() != 3 or len(x) != len(y):  # noqa: PLR2004 - (batch, m, k)
        found = torch.matmul(x, y) * alpha if alpha != 1 else torch.matmul(x, y)
        return found if out is None else out.mul_(beta).add_(found) if beta else out.copy_(found)
    if alpha == 1 and not beta:
        return torch.bmm(x, y) if out is None else torch.bmm(x, y, out=out)
    out = x.new_empty(len(x), x.shape[1], y.shape[2]) if out is None else out
    return torch.baddbmm(out, x, y, beta=beta, alpha=alpha, out=out)


def _products(x: Tensor, y: Tensor, out: Tensor, alpha: float, beta: float) -> None:
    (items, m, k), n = x.shape, y.shape[2]
    if not items * m * n * k:  # a sum over nothing is zero
        out.mul_(beta) if beta else out.zero_()
        return
    dtype, panel = x.dtype, min(m, _PANEL)
    x, left = _operand(x)
    y, right = _operand(y)
    arguments = (m, k, n, panel, *left, *right, out.data_ptr(), alpha, beta)
    lapack.call("products", dtype, min(m, k), items * -(-m // panel), panel * k * n, arguments)


def _operand(x: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """A tensor (batch, rows, columns), and as lapack.c reads it: address, strides of items and rows, how stored."""
    if x.is_neg():
        x = x.resolve_neg()
    (item, row, column), (_, rows, columns) = x.stride(), x.shape
    if min(rows, columns) == 1:  # the other dimension's stride says nothing, and not how the matrix is stored
        x = x.resolve_conj()
        x = x if (row if columns == 1 else column) == 1 else x.contiguous()
        return x, (x.data_ptr(), x.stride(0), columns, 0)
    conjugated = x.is_conj()
    if column == 1 and row >= columns and not conjugated:
        return x, (x.data_ptr(), item, row, 0)
    if row == 1 and column >= rows:
        return x, (x.data_ptr(), item, column, 2 if conjugated else 1)
    x = x.resolve_conj().contiguous()
    return x, (x.data_ptr(), rows * columns, columns, 0)


def _one_by_one(x: Tensor, y: Tensor, out: Tensor, alpha: float, beta: float) -> None:
    for left, right, to in zip(x, y, out, strict=True):
        found = torch.mm(_own(left), _own(right)).mul_(alpha)
        to.copy_(to.mul_(beta).add_(found) if beta else found)


def _own(x: Tensor) -> Tensor:
    """A copy of a matrix without gaps, on storage that torch aligns."""
    return x.clone(memory_format=torch.contiguous_format).resolve_conj()


def matrix_power(x: Tensor, exponent: int) -> Tensor:
    """X^exponent of X (batch, n, n) by binary powering, exponent >= 1."""
    if exponent == 1:
        return x
    half = matrix_power(product(x, x), exponent // 2)
    return product(half, x) if exponent % 2 else half


def solve_triangular(t: Tensor, b: Tensor, *, upper: bool, unitriangular: bool = False) -> Tensor:
    """T^-1 B of triangular T (batch, n, n) and B (batch, n, m); the other triangle is not read."""
    if not t.is_cpu or t.dtype not in lapack.KINDS:
        found: Tensor = torch.linalg.solve_triangular(t, b, upper=upper, unitriangular=unitriangular)
        return found
    b = b.resolve_neg().resolve_conj()
    out = b.clone(memory_format=torch.contiguous_format) if b.shape[0] == len(t) else b.expand(len(t), -1, -1).clone()
    out = out.contiguous()
    if not lapack.is_ready():
        return _substituted_one_by_one(t, out, upper, unitriangular)
    items, n, m = out.shape
    t, triangle = _operand(t)
    arguments = (n, m, upper != bool(triangle[-1]), unitriangular, *triangle, out.data_ptr())
    if out.numel():
        lapack.call("substitutions", t.dtype, n, items, n * n * m, arguments)
    return out


def _substituted_one_by_one(t: Tensor, b: Tensor, upper: bool, unitriangular: bool) -> Tensor:
    for one, right in zip(t.expand(len(b), -1, -1), b, strict=True):
        right.copy_(torch.linalg.solve_triangular(_own(one), _own(right), upper=upper, unitriangular=unitriangular))
    return b


def cholesky(a: Tensor) -> tuple[Tensor, Tensor]:
    """L of A = L L^H, zero above its diagonal, of Hermitian A (batch, n, n), and whether there is one, (batch,)."""
    if not a.is_cpu:
        factor, info = torch.linalg.cholesky_ex(a)
        return factor, info == 0
    if not lapack.is_ready():
        pairs = [torch.linalg.cholesky_ex(_own(one)) for one in a]
        exists = torch.stack([pair[1] for pair in pairs]) == 0
        return torch.stack([pair[0] for pair in pairs]), exists & a.isfinite().flatten(1).all(-1)
    out, n = a.resolve_conj().clone(memory_format=torch.contiguous_format), a.shape[-1]
    exists = torch.empty(len(a), dtype=torch.bool)
    lapack.call("cholesky", a.dtype, n, len(a), n**3 // 6, (n, out.data_ptr(), exists.data_ptr()))
    return out, exists


def cholesky_solve(b: Tensor, factor: Tensor) -> Tensor:
    """(L L^H)^-1 B of B (batch, n, m) and lower L (batch, n, n)."""
    return solve_triangular(factor.mH, solve_triangular(factor, b, upper=False), upper=True)


def eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ascending (batch, n) and eigenvectors (batch, n, n), column by column in memory; NaN without them."""
    if not a.is_cpu:
        w, v = _isolated(torch.linalg.eigh, a)
        return w, v
    if not lapack.is_ready():
        pairs = [_alone(torch.linalg.eigh, one) for one in a]
        return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    a, n = a.resolve_conj().contiguous(), a.shape[-1]
    w, v = torch.empty(a.shape[:-1], dtype=_real(a.dtype)), torch.empty_like(a)
    if lockstep.serves(a.dtype, n):
        lockstep.eigh(a, w, v)
        return w, v.mT
    lapack.call("eigh", a.dtype, n, len(a), 9 * n**3, (n, a.data_ptr(), w.data_ptr(), v.data_ptr()))
    return w, v.mT


def svd(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin U (batch, m, k), descending values (batch, k), V^H (batch, k, n); NaN where LAPACK gives up."""
    if not m.is_cpu:
        u, sigma, vh = _isolated(_thin_svd, m)
        return u, sigma, vh
    if not lapack.is_ready():
        columns = zip(*(_alone(_thin_svd, one) for one in m), strict=True)
        u, sigma, vh = (torch.cat(column) for column in columns)
        return u, sigma, vh
    items, rows, columns_ = m.shape
    k = min(rows, columns_)
    if lockstep.decomposes(m.dtype, rows, columns_):
        return _small_svd(m) if rows >= columns_ else _turned(_small_svd(m.mT))
    m = m.resolve_conj().contiguous()
    u, vh = m.new_empty(items, rows, k), m.new_empty(items, k, columns_)
    sigma = torch.empty(items, k, dtype=_real(m.dtype))
    pointers = (m.data_ptr(), u.data_ptr(), sigma.data_ptr(), vh.data_ptr())
    lapack.call("svd", m.dtype, k, items, 20 * rows * k * k, (rows, columns_, *pointers))
    return u, sigma, vh


def singular_values(m: Tensor) -> Tensor:
    """The values of `svd` without its vectors, to rounding, (batch, k), in less than half its time from order 65."""
    items, rows, columns = m.shape
    if not (m.is_cpu and lapack.is_ready()) or lockstep.decomposes(m.dtype, rows, columns):
        return svd(m)[1]
    m, k = m.resolve_conj().contiguous(), min(rows, columns)
    sigma = torch.empty(items, k, dtype=_real(m.dtype))
    lapack.call("svd", m.dtype, k, items, 4 * rows * k * k, (rows, columns, m.data_ptr(), 0, sigma.data_ptr(), 0))
    return sigma


def _small_svd(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`svd` of tall M (batch, m, n) in lockstep."""
    m, n = m.resolve_neg().contiguous(), m.shape[-1]
    u, sigma, vh = torch.empty_like(m), m.new_empty(len(m), n), m.new_empty(len(m), n, n)
    lockstep.svd(m, u, sigma, vh)
    return u, sigma, vh


def _turned(parts: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The decomposition of M^T from that of M."""
    u, sigma, vh = parts
    return vh.mT.contiguous(), sigma, u.mT.contiguous()


def _thin_svd(m: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.linalg.svd(m, full_matrices=False))


def _alone(decompose: Callable[[Tensor], tuple[Tensor, ...]], one: Tensor) -> tuple[Tensor, ...]:
    """A decomposition of one matrix by torch, NaN of a matrix that is not finite."""
    finite = bool(one.isfinite().all())
    parts = _isolated(decompose, _own(one)[None] if finite else torch.zeros_like(_own(one))[None])
    return parts if finite else tuple(torch.full_like(part, math.nan) for part in parts)


def _isolated(decompose: Callable[[Tensor], tuple[Tensor, ...]], a: Tensor) -> tuple[Tensor, ...]:
    """A decomposition by torch, which raises for the whole batch when one matrix fails: then one by one."""
    try:
        return tuple(decompose(a))
    except LinAlgError:
        if a.shape[0] == 1:
            return tuple(torch.full_like(part, math.nan) for part in decompose(torch.zeros_like(a)))
    parts = [_isolated(decompose, a[i : i + 1]) for i in range(a.shape[0])]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def inverse(a: Tensor) -> Tensor:
    """A^-1 of A (batch, n, n), NaN or infinite where there is none."""
    if not a.is_cpu or not lapack.is_ready():
        found = torch.stack([_inverse_alone(one) for one in a])
        return found.where(a.isfinite().flatten(1).all(-1)[:, None, None], math.nan)
    a, n = a.contiguous(), a.shape[-1]
    out = torch.empty_like(a)
    lapack.call("inverses", a.dtype, n, len(a), 2 * n**3, (n, a.data_ptr(), out.data_ptr()))
    return out


def _inverse_alone(one: Tensor) -> Tensor:
    found, info = torch.linalg.inv_ex(_own(one))
    return torch.where(info == 0, found, math.nan)


def sums(x: Tensor) -> Tensor:
    """Sums over the last dimension of real X, in float64."""
    x = x.contiguous()
    if not x.is_cpu:
        return x.to(torch.float64).sum(-1)
    if x.dtype not in _REDUCED or library() is None:
        return _halved(x.to(torch.float64))
    out = torch.empty(x.shape[:-1], dtype=torch.float64)
    _reduction("sums", x.dtype)(out.numel(), x.shape[-1], x.data_ptr(), out.data_ptr())
    return out


def squares(x: Tensor) -> Tensor:
    """Sums of the squared magnitudes over the last dimension, in float64."""
    return sums((torch.view_as_real(x.resolve_conj()).flatten(-2) if x.dtype.is_complex else x).square())


def row_norm(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Euclidean norms over the last dimension, in the real dtype of X or the one named; squares may overflow."""
    if x.dtype.is_complex:
        x = torch.view_as_real(x.resolve_conj().contiguous()).flatten(-2)
    x = x.contiguous()
    if x.dtype not in _REDUCED or not x.is_cpu or library() is None:
        return _norm_without_library(x).to(dtype or x.dtype)
    if dtype is not None:
        x = x.to(dtype)
    out = x.new_empty(x.shape[:-1])
    _reduction("norms", x.dtype)(out.numel(), x.shape[-1], x.data_ptr(), out.data_ptr())
    return out


def _norm_without_library(x: Tensor) -> Tensor:
    squares = x.to(torch.float64).square()
    return (_halved(squares) if x.is_cpu else squares.sum(-1)).sqrt()


def matrix_norm(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Frobenius norms over the last two dimensions, in the real dtype of X or the one named; squares may overflow."""
    return row_norm(x.contiguous().flatten(-2), dtype)


def peak(x: Tensor) -> Tensor:
    """Largest magnitudes of X (batch, ...), (batch,) in its real dtype; NaN where a number is NaN, 0 of no numbers."""
    if not x.numel():
        return magnitude(x).new_zeros(len(x))
    if not _is_reduced(x):
        return magnitude(x).reshape(len(x), -1).amax(-1)
    x = x.resolve_neg().contiguous()
    out = x.new_empty(len(x))
    _reduction("peaks", x.dtype)(len(x), x[0].numel(), x.data_ptr(), out.data_ptr())
    return out


def triangle_peak(t: Tensor, *, lower: bool, strict: bool) -> Tensor:
    """Largest magnitudes in triangles of T (batch, n, n), their diagonals among them unless `strict`, (batch,)."""
    if not _is_reduced(t) or not t.numel():
        return peak(t.tril(-int(strict)) if lower else t.triu(int(strict)))
    t = t.resolve_neg().contiguous()
    out = t.new_empty(len(t))
    arguments = (len(t), t.shape[-1], not lower, strict, t.data_ptr(), out.data_ptr())
    _reduction("triangle_peaks", t.dtype, numbers=4)(*arguments)
    return out


def symmetric_peak(a: Tensor) -> Tensor:
    """Largest magnitudes of symmetric A (batch, n, n), (batch,); NaN where A is not symmetric or a number is NaN."""
    if not a.numel():
        return a.new_zeros(len(a))
    if not _is_reduced(a):
        return torch.where((a == a.mT).flatten(1).all(-1), peak(a), math.nan)
    a = a.resolve_neg().contiguous()
    out = a.new_empty(len(a))
    _reduction("symmetric_peaks", a.dtype)(len(a), a.shape[-1], a.data_ptr(), out.data_ptr())
    return out


def multiples(x: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """X (batch, ...) times float64 factors (batch, rows), rounded once, and the largest magnitude of each, (batch,).

    Each factor is that of as many consecutive numbers.
    """
    if not x.numel():
        return torch.empty_like(x), x.new_zeros(len(x))
    rows = factors.numel()
    if not _is_reduced(x):
        wide = x.to(torch.float64).reshape(rows, -1) * factors.reshape(rows, 1)
        out = wide.to(x.dtype).reshape(x.shape)
        return out, peak(out)
    x, factors = x.resolve_neg().contiguous(), factors.contiguous()
    out = torch.from_numpy(
        np.empty(x.shape, x.numpy().dtype)
    )  # in large pages, for which numpy asks and torch does not
    flat, rows_out, peaks = x.reshape(rows, -1), out.reshape(rows, -1), x.new_empty(factors.shape)
    run("multiples", RowsPlan(rows, flat.shape[1]), (flat, factors.reshape(rows), rows_out, peaks.reshape(rows)))
    return out, peak(peaks)


_REDUCED: Final = {torch.float32: "f32", torch.float64: "f64"}


def _is_reduced(x: Tensor) -> bool:
    """Whether C reads the numbers of X."""
    return x.is_cpu and x.dtype in _REDUCED and library() is not None


@cache
def _reduction(name: str, dtype: torch.dtype, numbers: int = 2, pointers: int = 2) -> Any:
    entry = getattr(library(), f"matfn_{name}_{_REDUCED[dtype]}")
    entry.argtypes, entry.restype = [*[ctypes.c_int64] * numbers, *[ctypes.c_void_p] * pointers], None
    return entry


def _halved(x: Tensor) -> Tensor:
    """Sums over the last dimension by adding its halves: elementwise, so in one order."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = torch.cat([x[..., :half] + x[..., half : 2 * half], x[..., 2 * half :]], dim=-1)
    return x[..., 0] if x.shape[-1] else x.new_zeros(x.shape[:-1])


def divided(x: Tensor, by: Tensor) -> Tensor:
    """X / by for real `by`; torch divides complex numbers in two ways, by vectors and one by one."""
    if not x.dtype.is_complex:
        return x / by
    parts = torch.view_as_real(x.resolve_conj())
    return torch.view_as_complex(parts / by[..., None].to(parts.dtype))


def multiplied(f: Tensor, x: Tensor) -> Tensor:
    """F o X for real F; torch multiplies complex numbers in two ways, by vectors and one by one."""
    if not x.dtype.is_complex:
        return f * x
    return torch.view_as_complex(torch.view_as_real(x.resolve_conj()) * f[..., None])


def negative(x: Tensor) -> Tensor:
    """-X; torch gives complex zeros one sign by vectors and another one by one."""
    if not x.dtype.is_complex:
        return -x
    return torch.view_as_complex(-torch.view_as_real(x.resolve_conj()))


def magnitude(x: Tensor) -> Tensor:
    """|X| elementwise."""
    return _elementwise(np.abs, x) if x.dtype.is_complex and x.is_cpu else x.abs()


def power(x: Tensor, exponent: float) -> Tensor:
    """X^exponent elementwise, of real X."""
    return x.pow(exponent) if not x.is_cpu else _elementwise(lambda values: values**exponent, x)


def exp(x: Tensor) -> Tensor:
    """e^X elementwise."""
    return x.exp() if not x.is_cpu else _elementwise(np.exp, x)


def exp2(x: Tensor) -> Tensor:
    """2^X elementwise."""
    return x.exp2() if not x.is_cpu else _elementwise(np.exp2, x)


def expm1(x: Tensor) -> Tensor:
    """e^X - 1 elementwise."""
    return x.expm1() if not x.is_cpu else _elementwise(np.expm1, x)


def log(x: Tensor) -> Tensor:
    """Natural logarithms elementwise."""
    return x.log() if not x.is_cpu else _elementwise(np.log, x)


def log1p(x: Tensor) -> Tensor:
    """Natural logarithms of 1 + X elementwise."""
    return x.log1p() if not x.is_cpu else _elementwise(np.log1p, x)


def ldexp(x: Tensor, exponent: Tensor) -> Tensor:
    """X 2^exponent for integer exponents, rounded once."""
    if not x.is_cpu:
        return x * two_to(exponent).to(x.dtype)
    return torch.from_numpy(np.asarray(np.ldexp(_array(x), _array(exponent))))


def two_to(exponent: Tensor) -> Tensor:
    """2^exponent in float64 for integer exponents: exact, and so the same however it is computed."""
    return torch.exp2(exponent.to(torch.float64))


def _elementwise(function: Callable[[Any], Any], x: Tensor) -> Tensor:
    """The function elementwise by numpy, which computes all numbers of an array without gaps in one way."""
    return torch.from_numpy(np.asarray(function(_array(x))))


def _array(x: Tensor) -> Any:
    """The numbers of a tensor as a numpy array without gaps."""
    if x.is_neg() or x.is_conj():
        x = x.resolve_neg().resolve_conj()
    return x.contiguous().numpy()


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype.to_real()
