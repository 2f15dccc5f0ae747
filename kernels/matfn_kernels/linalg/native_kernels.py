"""The kernels in C for a CPU: whole methods for one real matrix after the other, where torch needs a call a product.

An answer depends on its own matrix alone, to the bit, whatever else is in the batch. The library is compiled when the
package is installed; without it torch's products serve, and `is_built` says so. Calls leave the interpreter's lock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from matfn_kernels.linalg import backends, probes
from matfn_kernels.linalg.measured import MARGIN
from matfn_kernels.linalg.native import lapack, lockstep
from matfn_kernels.linalg.native.library import is_built, multiplies_bf16, run, variant
from matfn_kernels.linalg.native.structures import (
    IN_LANES,
    MAX_STEPS,
    ClipFindings,
    ClipPlan,
    ExponentialFindings,
    ExponentialsPlan,
    GramPolarFindings,
    GramPolarPlan,
    HalfPolarFindings,
    ImageFindings,
    LowRankPlan,
    PolarFindings,
    PolarPlan,
    PowerFindings,
    PowersPlan,
    Rule,
    SolveFindings,
    SolvesPlan,
    SpectralFindings,
    SpectralPlan,
    TallPlan,
    TriangleFindings,
    TrianglesPlan,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "MAX_STEPS",
    "ClipFindings",
    "EigenvalueClips",
    "ExponentialFindings",
    "GramPolar",
    "GramPolarFindings",
    "HalfPolarFindings",
    "ImageFindings",
    "PolarFindings",
    "PowerFindings",
    "Powers",
    "Rule",
    "Schedules",
    "SolveFindings",
    "SpectralFindings",
    "SpectralPowers",
    "TriangleFindings",
    "apply_low_rank",
    "eigenvalue_clips",
    "exponentials",
    "gram_polars",
    "grams",
    "half_polar_factors",
    "images",
    "is_built",
    "multiplies_bf16",
    "polar_factors",
    "powers",
    "spectral_powers",
    "triangular_inverses",
    "triangular_solutions",
    "variant",
]

Row = tuple[float, float, float]


@dataclass(frozen=True)
class Schedules:
    """Coefficients of iterations by the smallest number that they resolve, the easiest first."""

    entries: tuple[tuple[float, tuple[Row, ...]], ...]

    @classmethod
    def down_to(cls, least: float, rows: Callable[[float], tuple[Row, ...]]) -> Schedules:
        """Schedules by quarters of a decade."""
        quarters = math.ceil(-4 * math.log10(least))
        bounds = (*(10 ** (-quarter / 4) for quarter in range(1, quarters)), least)
        return cls(tuple((bound, rows(bound)) for bound in bounds))

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        table = np.zeros((len(self), MAX_STEPS, 3))
        for part, (_, rows) in zip(table, self.entries, strict=True):
            part[: len(rows)] = rows
        bounds = np.array([bound for bound, _ in self.entries])
        return bounds, np.array([len(rows) for _, rows in self.entries], dtype=np.int64), table

    @cached_property
    def pointers(self) -> tuple[int, ...]:
        """Addresses of bounds, numbers of steps and coefficients (schedules, MAX_STEPS, 3), valid as long as this."""
        return tuple(array.ctypes.data for array in self._arrays)


@dataclass(frozen=True)
class Powers:
    """The powers to compute: A^k A^(-s/r), and with `pair` A^(-s/r) beside it.

    Attributes:
        exponents: (k, s, r) in lowest terms.
        whole: (s, r) as they were asked for, whose equation is checked.
        pair: whether A^(-s/r) is computed too.
        floor: smallest eigenvalue, relative to the largest, for which there is an answer.
        bound: the same eigenvalue relative to ||A^2||_F^(1/2).
        schedules: by the smallest eigenvalue.
        rule: which multiple of the identity is added before, nothing by default.
        added: the part of the largest eigenvalue that is added, or the number.
        negative: how far below zero, relative to the largest, eigenvalues may lie where a number is added.
    """

    exponents: tuple[int, int, int]
    whole: tuple[int, int]
    pair: bool
    floor: float
    bound: float
    schedules: Schedules
    rule: Rule = Rule.NOTHING_ADDED
    added: float = 0.0
    negative: float = 0.0


_REACH: Final = 1.25
"""How far below its estimate by power iteration the smallest eigenvalue may lie: proved, or a lower one is taken."""


def _blank(items: int, findings: type) -> Tensor:
    """An uninitialised table for the findings of `items` matrices, (batch, fields) float64."""
    return torch.empty(items, len(fields(findings)), dtype=torch.float64, device="cpu")


def powers(wanted: Powers, a: Tensor) -> tuple[tuple[Tensor, ...], PowerFindings]:
    """Powers of A (batch, n, n), float32 or float64 without gaps, NaN where A is not proved to be positive definite.

    Raises:
        MemoryError: if there is none for a dozen matrices.
    """
    items, order = len(a), a.shape[-1]
    outputs = tuple(torch.empty_like(a) for _ in range(1 + wanted.pair))
    found = _blank(items, PowerFindings)
    columns = probes.columns(order)
    settings = (order, *wanted.exponents, *wanted.whole, wanted.pair, len(wanted.schedules), wanted.rule)
    rest = (
        *settings,
        wanted.added,
        wanted.negative,
        wanted.floor,
        wanted.bound,
        _REACH,
        columns.data_ptr(),
        *wanted.schedules.pointers,
    )
    arrays = (a, *outputs) if wanted.pair else (a, *outputs, None)
    run("roots", PowersPlan(items, *rest), (*arrays, found))
    return outputs, PowerFindings(*found.unbind(-1))


@dataclass(frozen=True)
class SpectralPowers:
    """The powers of small symmetric matrices to compute, and the rules by which; see `spectral_plan` of native.h.

    Attributes:
        order: n.
        exponent: (s, r) of A^(s/r).
        inverse: A^(-s/r) rather than A^(s/r).
        pair: both.
        rule: of damping.
        refine: whether a least eigenvalue near the threshold has to be known better than backward errors leave it.
        added: the part of the largest eigenvalue that is added, or the number.
        floor: threshold of rank and of damping by default, relative to the largest eigenvalue.
        negative: how far below zero, relative to the largest, an eigenvalue may lie.
        noise: backward error of the decomposition, relative to the largest eigenvalue.
        skew: relative error of its products.
        laws: largest residual relative to the largest eigenvalue, and largest skewness, that are explained.
        near: part of the noise within which an eigenvalue cannot be told from a threshold.
        least: part of an eigenvalue that noise may leave of it.
        negligible: relative error that need not be known any better.
    """

    order: int
    exponent: tuple[int, int]
    inverse: bool
    pair: bool
    rule: Rule
    refine: bool
    added: float
    floor: float
    negative: float
    noise: float
    skew: float
    laws: tuple[float, float]
    near: float
    least: float
    negligible: float


def spectral_powers(wanted: SpectralPowers, a: Tensor) -> tuple[tuple[Tensor, ...], SpectralFindings]:
    """Powers of symmetric parts of A (batch, n, n), float32 or float64, NaN where another method has to look at A.

    Raises:
        MemoryError: if there is none for some matrices.
    """
    a = a.resolve_neg().contiguous()
    outputs = tuple(torch.empty_like(a) for _ in range(1 + wanted.pair))
    found = _blank(len(a), SpectralFindings)
    flags = (wanted.inverse, wanted.pair, wanted.rule, wanted.refine)
    numbers = (wanted.added, wanted.floor, wanted.negative, wanted.noise, wanted.skew)
    rest = (*flags, *numbers, *wanted.laws, MARGIN, wanted.near, wanted.least, wanted.negligible)
    columns, order = probes.columns(wanted.order), wanted.order
    arrays = (a, *outputs) if wanted.pair else (a, *outputs, None)
    in_lanes = lockstep.serves(torch.float64, order)
    library = IN_LANES if in_lanes else lapack.blas_for(backends.chosen(), "eigh", torch.float64, order)
    run(
        "spectral",
        SpectralPlan(len(a), order, library, *wanted.exponent, *rest, columns.data_ptr()),
        (*arrays, found),
        lockstep.LANES if in_lanes else 1,
    )
    return outputs, SpectralFindings(*found.unbind(-1))


@dataclass(frozen=True)
class EigenvalueClips:
    """The clippings of eigenvalues of small symmetric matrices to compute.

    Attributes:
        order: n.
        bounds: (lo, hi), infinite where open.
        noise: backward error of the decomposition, relative to the largest eigenvalue.
        laws: largest residual relative to the largest eigenvalue, and largest skewness, that are explained.
    """

    order: int
    bounds: tuple[float, float]
    noise: float
    laws: tuple[float, float]


def eigenvalue_clips(wanted: EigenvalueClips, a: Tensor) -> tuple[Tensor, ClipFindings]:
    """Symmetric parts of A (batch, n, n), float32 or float64, with eigenvalues clipped; NaN where `open` is 1.

    Raises:
        MemoryError: if there is none for some matrices.
    """
    a = a.resolve_neg().contiguous()
    out, found, columns = torch.empty_like(a), _blank(len(a), ClipFindings), probes.columns(wanted.order)
    rest = (wanted.order, *wanted.bounds, wanted.noise, *wanted.laws, MARGIN, columns.data_ptr())
    run("clips", ClipPlan(len(a), *rest), (a, out, found))
    return out, ClipFindings(*found.unbind(-1))


def exponentials(a: Tensor, t: float, *, symmetric: bool) -> tuple[Tensor, ExponentialFindings]:
    """Exponentials e^(t A) of A (batch, n, n), float64, or of its symmetric part; NaN where `open` is 1.

    Raises:
        MemoryError: if there is none for some matrices.
    """
    a = a.resolve_neg().contiguous()
    out, found, columns = torch.empty_like(a), _blank(len(a), ExponentialFindings), probes.columns(a.shape[-1])
    run("exponentials", ExponentialsPlan(len(a), a.shape[-1], symmetric, t, columns.data_ptr()), (a, out, found))
    return out, ExponentialFindings(*found.unbind(-1))


@dataclass(frozen=True)
class GramPolar:
    """The polar factors or clippings of small tall matrices to compute by their Gram matrices.

    Attributes:
        bounds: (lo, hi) of a clipping, hi infinite where open; None for the polar factor.
        threshold: relative to the largest, at or below which a singular value is noise.
        noise: error of the squares of singular values, relative to the largest.
        laws: largest residual relative to the largest square, and largest skewness, that are explained.
    """

    bounds: tuple[float, float] | None
    threshold: float
    noise: float
    laws: tuple[float, float]


def gram_polars(wanted: GramPolar, m: Tensor) -> tuple[Tensor, GramPolarFindings]:
    """Polar factors or clippings of tall M (batch, m, n) by the Gram matrix; NaN where `open` is 1.

    M is float32, or float64 and clipped from above.

    Raises:
        MemoryError: if there is none for some matrices.
    """
    m = m.resolve_neg().contiguous()
    items, rows, order = m.shape
    out, found, columns = torch.empty_like(m), _blank(items, GramPolarFindings), probes.columns(order)
    sizes = (rows, order, wanted.bounds is not None, *(wanted.bounds or (0.0, math.inf)))
    rest = (*sizes, wanted.threshold, wanted.noise, *wanted.laws, MARGIN, columns.data_ptr())
    run("gram_polar", GramPolarPlan(items, *rest), (m, out, found))
    return out, GramPolarFindings(*found.unbind(-1))


def polar_factors(m: Tensor, floor: float, schedules: Schedules) -> tuple[Tensor, PolarFindings]:
    """Polar factors of tall M (batch, m, n), float32 without gaps, NaN where M is not proved to have full rank.

    Args:
        m: the matrices.
        floor: smallest singular value, relative to ||M^T M||_F^(1/2), for which there is an answer.
        schedules: by the smallest singular value.

    Raises:
        MemoryError: if there is none for half a dozen matrices.
    """
    items, rows, order = m.shape
    out, found = torch.empty_like(m), _blank(items, PolarFindings)
    columns = probes.columns(order)
    rest = (rows, order, len(schedules), floor, _REACH, columns.data_ptr(), *schedules.pointers)
    run("polar", PolarPlan(items, *rest), (m, out, found))
    return out, PolarFindings(*found.unbind(-1))


def half_polar_factors(m: Tensor, floor: float, schedules: Schedules) -> tuple[Tensor, HalfPolarFindings]:
    """Polar factors of tall M (batch, m, n) by products in bf16, NaN where M is not proved to have full rank.

    Args:
        m: the matrices, float32 without gaps.
        floor: smallest singular value, relative to ||(M^T M)^2||_F^(1/4), for which there is an answer.
        schedules: by the smallest singular value.

    Raises:
        MemoryError: if there is none for some matrices.
    """
    items, rows, order = m.shape
    out, found = torch.empty_like(m), _blank(items, HalfPolarFindings)
    columns = probes.columns(order)
    rest = (rows, order, len(schedules), floor, _REACH, columns.data_ptr(), *schedules.pointers)
    run("half_polar", PolarPlan(items, *rest), (m, out, found))
    return out, HalfPolarFindings(*found.unbind(-1))


def grams(m: Tensor) -> Tensor:
    """M^T M (batch, n, n) in float64 of tall float32 M (batch, m, n) without gaps.

    Raises:
        MemoryError: if there is none for a few matrices.
    """
    items, rows, order = m.shape
    out = torch.empty(items, order, order, dtype=torch.float64, device="cpu")
    run("gram", TallPlan(items, rows, order, None), (m, out))
    return out


def images(m: Tensor, vectors: Tensor, h: Tensor) -> tuple[Tensor, ImageFindings]:
    """O = M V diag(h) V^T (batch, m, n) of tall float32 M, computed in float64.

    Args:
        m: (batch, m, n), float32 without gaps.
        vectors: V^T (batch, n, n), float64 without gaps.
        h: (batch, n), float64 without gaps.

    Raises:
        MemoryError: if there is none for a few matrices.
    """
    items, rows, order = m.shape
    out, found = torch.empty_like(m), _blank(items, ImageFindings)
    columns = probes.columns(order)
    run("image", TallPlan(items, rows, order, columns.data_ptr()), (m, vectors, h, out, found))
    return out, ImageFindings(*found.unbind(-1))


def apply_low_rank(diag: Tensor, q: Tensor, k: Tensor, b: Tensor, *, transpose: bool, inverse: bool) -> Tensor:
    """T B or T^-1 B (batch, n, m) for T = diag(l) + tril(Q K^T, -1) or its transpose, all float32 or all float64.

    Args:
        diag: l (batch, n).
        q: (batch, n, d).
        k: (batch, n, d).
        b: (batch, n, m).
        transpose: whether the transpose is applied.
        inverse: whether the inverse is applied.

    Raises:
        MemoryError: if there is none for a state (d, m).
    """
    order, rank, columns = *q.shape[1:], b.shape[-1]
    given = [x.resolve_neg().contiguous() for x in (diag, q, k, b)]
    out = torch.empty_like(given[-1])
    run("low_rank", LowRankPlan(len(b), order, rank, columns, transpose, inverse), (*given, out))
    return out


def triangular_inverses(t: Tensor, *, lower: bool, unit: bool) -> tuple[Tensor, TriangleFindings]:
    """Inverses of the triangles of T (batch, n, n), float32 or float64 without gaps.

    Raises:
        MemoryError: if there is none for three matrices.
    """
    items, order = len(t), t.shape[-1]
    out, found = torch.empty_like(t), _blank(items, TriangleFindings)
    columns = probes.spread_columns(order)
    rest = (order, not lower, unit, torch.finfo(t.dtype).eps, columns.data_ptr())
    run("triangles", TrianglesPlan(items, *rest), (t, out, found))
    return out, TriangleFindings(*found.unbind(-1))


def triangular_solutions(
    t: Tensor, b: Tensor, *, lower: bool, unit: bool, transpose: bool
) -> tuple[Tensor, SolveFindings]:
    """Solutions X of T X = B, or of T^T X = B, computed in double precision and rounded once.

    Args:
        t: triangles (batch, n, n), float32 or float64 without gaps.
        b: right-hand sides (batch, n, m) with few columns, of the same dtype, without gaps.
        lower: which triangle is read.
        unit: whether its diagonal is taken as ones.
        transpose: whether the transpose is solved with.

    Raises:
        MemoryError: if there is none for a dozen right-hand sides.
    """
    order, columns = b.shape[1:]
    out, found = torch.empty_like(b), _blank(len(t), SolveFindings)
    random = probes.columns(order)
    rest = (order, columns, not lower, unit, transpose, random.data_ptr())
    run("solves", SolvesPlan(len(t), *rest), (t, b, out, found))
    return out, SolveFindings(*found.unbind(-1))
