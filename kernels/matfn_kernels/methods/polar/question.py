"""The question that every method of polar factors and clippings answers, and all that depends on it alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import probes
from matfn_kernels.linalg.scaling import rescale
from matfn_kernels.numbers.precision import FLOOR, Precision, at_least_single, spacing
from matfn_kernels.programs.kernel_prices import pass_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["Polar", "PolarProgram"]


_LEAST_BOUND: Final = 2.0**-960
"""Least upper bound of a clipping relative to the largest entry: below, its products are subnormal."""


@dataclass(frozen=True, slots=True)
class Polar:
    """The polar factor, or a clipping of the singular values, of matrices of one shape and dtype.

    Attributes:
        rows: m.
        columns: n.
        bounds: (lo, hi) of a clipping, hi infinite where open; None for the polar factor.
        dtype: of the input and output.
    """

    rows: int
    columns: int
    bounds: tuple[float, float] | None
    dtype: torch.dtype

    @property
    def large(self) -> int:
        """The larger dimension."""
        return max(self.rows, self.columns)

    @property
    def small(self) -> int:
        """The smaller dimension."""
        return min(self.rows, self.columns)

    @property
    def aspect(self) -> float:
        """The larger dimension relative to the smaller one."""
        return self.large / max(1, self.small)

    def threshold(self, precision: Precision) -> float:
        """Relative size at and below which a singular value is noise in an arithmetic.

        float32 holds all numbers of half precision, whose own spacing says nothing of their digits.
        """
        own = spacing(at_least_single(precision)) if self.is_narrowed(precision) else torch.finfo(self.dtype).eps
        return FLOOR * min(own, spacing(Precision.FP32))

    def is_narrowed(self, precision: Precision) -> bool:
        """Whether the arithmetic holds fewer digits than the matrices that are sent."""
        return spacing(at_least_single(precision)) > torch.finfo(self.dtype).eps

    @property
    def is_single(self) -> bool:
        """Whether the dtype is real and float32 holds all its numbers, as the kernels in C need."""
        return self.dtype not in {torch.float64, torch.complex64, torch.complex128}

    @property
    def residual_name(self) -> str:
        """The equation that the polar factor, or any odd function of the singular values, satisfies."""
        return "M - O sym(O^H M)" if self.bounds is None else "skew(X^H M)"

    def residual(self, m: Tensor, value: Tensor) -> Tensor:
        """Relative distance from that equation on random columns, (batch,)."""
        z = probes.gaussian(m, m.shape[-1]).to(m.dtype)
        mz = probes.times(m, z)
        forward, backward = probes.times(value.mH, mz), probes.times(m.mH, probes.times(value, z))
        if self.bounds is None:
            return probes.ratio(mz - probes.times(value, forward + backward) / 2, mz)
        return probes.ratio((forward - backward) / 2, forward)

    def scaled_bounds(self, exponent: Tensor) -> tuple[Tensor, Tensor]:
        """(lo, hi) of a clipping in units of matrices scaled by 2^-exponent, (batch, 1) each."""
        assert self.bounds is not None
        one = torch.ones(len(exponent), 1, dtype=torch.float64, device=exponent.device)
        lo, hi = (rescale(bound * one, -exponent) if 0 < bound < math.inf else bound * one for bound in self.bounds)
        return lo, hi

    def tall(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """M (batch, m, n), or M^H where that is taller."""
        return inputs["m"].mH if self.rows < self.columns else inputs["m"]

    def sent(self, m: Tensor, exponent: Tensor, inputs: Mapping[str, Tensor], precision: Precision) -> Tensor:
        """The tall matrices scaled by 2^-exponent before they were rounded to M in an arithmetic, (batch, m, n)."""
        return rescale(self.tall(inputs), -exponent) if self.is_narrowed(precision) else m

    def turned_back(self, findings: Findings) -> Findings:
        """The image of M where it was M^H that was computed with."""
        return replace(findings, outputs=(findings.outputs[0].mH,)) if self.rows < self.columns else findings

    def of_scaled(self, findings: Findings, exponent: Tensor) -> Findings:
        """The findings of tall matrices scaled by 2^-exponent as those of the matrices; polar factors do not scale."""
        if self.bounds is None:
            return replace(self.turned_back(findings), exponents=(None,))
        _, hi = self.scaled_bounds(exponent)
        error = torch.where(hi[:, 0] < _LEAST_BOUND, math.inf, findings.error)  # an answer of that size has few digits
        return replace(self.turned_back(findings), exponents=(exponent,), error=error)

    def seconds_a_pass(self, profile: Profile) -> float:
        """Predicted device seconds of one pass over a matrix, which grow with the number of its entries."""
        return self.aspect * pass_cost(profile, self.small)


@dataclass(frozen=True, slots=True)
class PolarProgram:
    """The question that a program answers, and what the programs of all methods take from it.

    Attributes:
        question: what is asked.
        pinned: whether the caller asked for the method, so that no other may answer.
    """

    question: Polar
    pinned: bool = field(default=False, kw_only=True)

    @property
    def dtype(self) -> torch.dtype:
        """Of the input and output."""
        return self.question.dtype

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """M (batch, m, n), or M^H where that is taller."""
        return self.question.tall(inputs)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["m"].shape, dtype=self.dtype),)
