"""Inverses of and solutions with triangular matrices, by blocks.

inv [[A, 0], [C, B]] = [[A^-1, 0], [-B^-1 C A^-1, B^-1]], doubled from diagonal blocks of order 16 or 32, inverted by
substitution: n^3/3 products, nearly all in GEMMs, and as stable as substitution, componentwise. Products of powers
(I + N)(I + N^2)(I + N^4)... take fewer launches but lose every digit when powers of N grow, which identical keys of a
DeltaNet layer already do at order 32; they are not used.

The error estimate is the first-order correction on random columns: with R = I - T X, X R to first order is the error.
References: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 8 and 14; kexue.fm/archives/11072.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.triangles import (
    LEAF,
    PROBE_MARGIN,
    Problem,
    condition_number,
    corrected,
    corrected_on,
    invert_lower,
    lacking,
    read_triangle,
)
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["TriangularProgram", "candidates"]

_PASSES: Final = 6.0
"""What is done beside products grows with n^2: in units of a product at this order."""
_PASS_ORDER: Final = 64


@dataclass(frozen=True, slots=True)
class TriangularProgram:
    """What a batch of triangular problems must have in common to be computed together.

    Attributes:
        order: n.
        columns: of the right-hand sides, or None for the inverse.
        lower: which triangle is read.
        unit: whether the diagonal is taken as ones.
        transpose: whether the transpose is solved with.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
        kernel: whose substitution inverts the leaves.
    """

    order: int
    columns: int | None
    lower: bool
    unit: bool
    transpose: bool
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision
    kernel: Kernel = Kernel.LIBRARY

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "blocked" if self.columns is None else "substitution"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs t (batch, n, n) and, if the program has columns, b (batch, n, m)."""
        if self.kernel is Kernel.NATIVE:
            return self._natively(inputs["t"])
        t = read_triangle(inputs["t"], lower=self.lower, unit=self.unit)
        return self._inverse(t) if self.columns is None else self._solution(t, inputs["b"])

    def _inverse(self, t: Tensor) -> Findings:
        t, exponent = self._scaled(t)
        narrow = t.to(working(self.precision, self.dtype))
        value = invert_lower(narrow, self.kernel) if self.lower else invert_lower(narrow.mT, self.kernel).mT
        return self._found(value, exponent, self._judgement(t, narrow, value))

    def _found(self, value: Tensor, exponent: Tensor | None, judgement: tuple[Tensor, Tensor, Tensor]) -> Findings:
        residual, error, condition = judgement
        return Findings(
            outputs=(value,),
            exponents=(lacking(exponent, None),),
            residual_name="T X - I",
            residual=residual,
            error=error + spacing(self.precision),
            condition=condition,
        )

    def _natively(self, given: Tensor) -> Findings:
        narrow = given.to(working(self.precision, self.dtype)).resolve_neg().contiguous()
        value, found = native.triangular_inverses(narrow, lower=self.lower, unit=self.unit)
        sizes, error = torch.stack([found.norm, found.inverse_norm]), PROBE_MARGIN * found.error
        columns = (found.residual, error, sizes.prod(0).clamp_min(1.0))
        tame = _is_tame(sizes, error, narrow)
        if not bool(tame.all()):
            t = read_triangle(given[~tame], lower=self.lower, unit=self.unit)
            for column, slow in zip(columns, self._slow_judgement(t, value[~tame]), strict=True):
                column[~tame] = slow
        residual, error, condition = columns
        return self._found(value, None, (residual, error, condition))

    def _judgement(self, t: Tensor, narrow: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual, error and condition of T^-1; on a GPU, where to look for the rare case is to wait, of all alike."""
        if t.device.type != "cpu":
            return self._judgement_of_all(t, value)
        *found, tame = _judged(narrow, value, self.precision)
        if not bool(tame.all()):
            for column, slow in zip(found, self._slow_judgement(t[~tame], value[~tame]), strict=True):
                column[~tame] = slow
        residual, error, condition = found
        return residual, error, condition

    def _judgement_of_all(self, t: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """By products in float64 where its range holds any of theirs, else by substitution."""
        if self.dtype == torch.float64:
            return self._slow_judgement(t, value)
        residual, error, condition, _ = _judged(t.to(torch.float64), value.to(torch.float64), self.precision)
        return residual, error, condition

    def _slow_judgement(self, t: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same by substitution in float64, whose range holds all products."""
        wide = t.to(torch.float64)
        right = torch.eye(self.order, dtype=wide.dtype, device=wide.device).expand_as(wide)
        # On all columns: what four combinations see of an error in several of them is left to chance.
        every = t.device.type == "cpu" and self.precision is not Precision.FP64
        z = right if every else probes.spread(right, self.order)
        residual, error = corrected_on(z, value, right, _problem(wide, lower=self.lower), self.precision)
        return residual, error, condition_number(normalise(wide)[0], lower=self.lower)

    def _solution(self, t: Tensor, b: Tensor) -> Findings:
        (t, exponent), (right, right_exponent) = (self._scaled(x.to(torch.float64)) for x in (t, b))
        t = t.mT if self.transpose else t
        lower = self.lower != self.transpose
        narrow = t.to(working(self.precision, self.dtype))
        value = invariant.solve_triangular(narrow, right.to(narrow.dtype), upper=not lower)
        residual, error = corrected(value, right, _problem(t, lower=lower), self.precision)
        return Findings(
            outputs=(value,),
            exponents=(lacking(exponent, right_exponent),),
            residual_name="T X - B",
            residual=residual,
            error=error + spacing(self.precision),
            condition=condition_number(normalise(t)[0], lower=lower),
        )

    def _scaled(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Brought near 1 where the arithmetic has a smaller range than the dtype."""
        return normalise(x) if self.dtype == torch.float64 and self.precision is Precision.FP32 else (x, None)

    @property
    def is_recordable(self) -> bool:
        """Products and substitution."""
        return True

    def fallbacks(self) -> tuple[TriangularProgram, ...]:
        """The same in the precision that the call allows."""
        return (replace(self, precision=self.ceiling),) if self.precision is not self.ceiling else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["b" if "b" in inputs else "t"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        share = 1.0 if self.columns is None else self.columns / max(1, self.order)
        passes = _PASSES * profile.cost("gemm", Precision.FP64, _PASS_ORDER) * (self.order / _PASS_ORDER) ** 2
        products = profile.cost("gemm", self.precision, self.order) * (0.5 + share) + passes
        if self.kernel is Kernel.NATIVE:
            return profile.cost("native_triangle", self.precision, self.order)
        if self.kernel is Kernel.LIBRARY:
            return products
        leaf, usual = (profile.cost(name, self.precision, LEAF) for name in ("leaf", "substitution"))
        return products + math.ceil(self.order / LEAF) * (leaf - usual) if math.isfinite(leaf) else math.inf

    def variants(self) -> tuple[TriangularProgram, ...]:
        """The same by every kernel that can run it."""
        if self.columns is not None:
            return (self,)
        fits = not self.dtype.is_complex and (self.dtype == torch.float64) == (self.precision is Precision.FP64)
        kernels = (Kernel.LIBRARY, Kernel.ONE_LAUNCH, *((Kernel.NATIVE,) if fits else ()))
        return tuple(replace(self, kernel=kernel) for kernel in kernels)


def candidates(call: Signature) -> list[TriangularProgram]:
    """The one program that serves a call."""
    b = call.shape("b")
    low, ceiling = call.direct_precisions()
    return [
        TriangularProgram(
            order=call.sizes("t")[-1],
            columns=None if b is None else b[-1],
            lower=bool(call.parameter("lower")),
            unit=bool(call.parameter("unit_diagonal")),
            transpose=bool(call.parameter("transpose")),
            dtype=call.dtype,
            precision=low,
            ceiling=ceiling,
        )
    ]


def _problem(t: Tensor, *, lower: bool) -> Problem:
    return Problem(
        lambda x: probes.times(t, x),
        lambda y: invariant.solve_triangular(t, y, upper=not lower),
        lambda x: probes.times(t.abs(), x),
    )


def _judged(t: Tensor, x: Tensor, precision: Precision) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Residual, error and condition of X = T^-1 by products with X alone, and whether they are to be trusted, (batch,).

    X stands for the inverse in the first-order correction. The residual's rounding is as large as what it measures and
    is carried along, as in `corrected`. Norms are by two or three half rounds of power iteration. All is in the
    arithmetic of T and X, so it is trusted where no product of a few such matrices leaves its range.
    """
    z = probes.spread(t, t.shape[-1]).to(t.dtype).mT
    image = product(z, x.mT)
    again, forward = torch.chunk(product(torch.cat([image, z], dim=1), t.mT), 2, dim=1)
    missing = z - again
    rounding = spacing(precision) * product(image.abs(), t.mT.abs()) * z.sign()
    turned = _directions(product(_directions(image), x))
    together = product(torch.cat([missing, rounding, turned], dim=1), x.mT)
    wrong, rounded, inverse = torch.chunk(together, 3, dim=1)
    pieces = torch.stack([missing, z, wrong, rounded, image])
    lengths = invariant.matrix_norm(pieces, torch.float64)
    error = PROBE_MARGIN * (lengths[2] + lengths[3]) / lengths[4]
    sizes = torch.stack([_longest(product(_directions(forward), t)), _longest(inverse)])
    return lengths[0] / lengths[1], error, sizes.prod(0).clamp_min(1.0), _is_tame(sizes, error, t)


def _is_tame(sizes: Tensor, error: Tensor, t: Tensor) -> Tensor:
    """Whether products of a few matrices with norms (2, batch) stay in the range of T's dtype, (batch,)."""
    reach = math.sqrt(math.sqrt(torch.finfo(t.dtype).max)) / t.shape[-1]
    return ((sizes < reach) & (sizes > t.shape[-1] / reach)).all(0) & error.isfinite()


def _directions(rows: Tensor) -> Tensor:
    """Rows (batch, k, n) divided by their lengths."""
    return rows / invariant.row_norm(rows)[..., None].clamp_min(torch.finfo(rows.dtype).tiny)


def _longest(rows: Tensor) -> Tensor:
    """Largest length of a matrix's rows (batch, k, n), (batch,) float64."""
    return invariant.row_norm(rows, torch.float64).amax(-1)
