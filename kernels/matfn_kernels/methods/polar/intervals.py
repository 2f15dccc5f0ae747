"""Intervals that hold the 2-norm and the condition number in the 2-norm: proved bounds, not estimates.

Domain: matrices of any shape and rank. The 2-norm of a zero matrix is 0, and it has no condition number; that of a
matrix which rounding cannot tell from a singular one is only bounded from below, and the upper end is infinity. Both
ends are rounded outward to the dtype, so that the interval holds the value for the numbers that were sent.

Error: by how much an end may be off, relative to the lower bound. The condition of a condition number is itself.
Reference: `proofs.values`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.scaling import real_dtype
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.findings import Findings
from matfn_kernels.proofs.values import extreme_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["IntervalProgram", "candidates"]

_PRODUCTS: Final = 60.0
"""Products of float64 that the proof takes: nine in twice the digits, at three each and more, and passes."""
_BITS: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers of as many bytes: positive numbers are ordered as their bits are."""


@dataclass(frozen=True, slots=True)
class IntervalProgram:
    """Norms or condition numbers: the values that all matrices in a batch share.

    Attributes:
        rows: m.
        columns: n.
        quotient: whether the condition number is wanted, and not the norm.
        dtype: of the inputs.
    """

    rows: int
    columns: int
    quotient: bool
    dtype: torch.dtype

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "svd"

    @property
    def precision(self) -> Precision:
        """The arithmetic."""
        return Precision.FP64

    @property
    def ceiling(self) -> Precision:
        """The arithmetic that no fallback exceeds."""
        return Precision.FP64

    @property
    def proves_its_error(self) -> bool:
        """The interval is a proof, and so is its width."""
        return True

    @property
    def output_dtypes(self) -> tuple[torch.dtype, ...]:
        """Two real numbers."""
        return (real_dtype(self.dtype),) * 2

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        device = inputs["m"].device
        found = extreme_values(inputs["m"].cpu())
        zero = found.largest[1] == 0
        lo, hi = _divided(found.largest, found.smallest) if self.quotient else found.largest
        if not self.quotient:
            lo, hi = (_scaled(x, found.exponent, up=up) for x, up in ((lo, False), (hi, True)))
        ends = [_outward(x, self.output_dtypes[0], up=up) for x, up in ((lo, False), (hi, True))]
        error = _error(lo, hi, *ends)
        condition = torch.where(zero, 1.0, lo.clamp_min(1.0)) if self.quotient else torch.ones_like(lo)
        unbounded = torch.isinf(ends[1]) & ~zero
        return Findings(
            outputs=tuple(end.to(device) for end in ends),
            residual_name="upper / lower - 1",
            residual=torch.where(hi > 0, hi / lo - 1, 0.0).to(device),
            error=error.to(device),
            condition=condition.to(device),
            finite=torch.ones_like(zero).to(device),  # an infinite bound is an answer
            failures={"no_condition": zero.to(device)} if self.quotient else {},
            remarks={"unbounded": unbounded.to(device)},
        )

    def fallbacks(self) -> tuple[IntervalProgram, ...]:
        """None: nothing is more precise."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The norm of a matrix without entries is 0, and its condition number 1."""
        value = torch.full(inputs["m"].shape[:1], float(self.quotient), dtype=self.output_dtypes[0])
        return value, value.clone()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition and the products of the proof."""
        small, cubes = min(self.rows, self.columns), max(self.rows, self.columns) / max(1, min(self.rows, self.columns))
        products = profile.cost("svd", Precision.FP64, small) + _PRODUCTS * profile.cost("gemm", Precision.FP64, small)
        return cubes * products


def _divided(largest: tuple[Tensor, Tensor], smallest: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The interval of the quotients of two intervals from 0 up, at least 1."""
    lo = torch.where(torch.isinf(smallest[1]), 1.0, torch.nextafter(largest[0] / smallest[1], torch.zeros(()).double()))
    hi = torch.nextafter(largest[1] / smallest[0], torch.full((), torch.inf).double())
    return lo.clamp_min(1.0), torch.where(smallest[0] > 0, hi, torch.inf)


def _scaled(x: Tensor, exponent: Tensor, *, up: bool) -> Tensor:
    """X 2^exponent, rounded outward where it is subnormal or out of range."""
    found = invariant.ldexp(x, exponent)
    exact = invariant.ldexp(found, -exponent) == x
    toward = torch.full_like(found, torch.inf if up else 0.0)
    return torch.where(exact, found, torch.nextafter(found, toward))


def _outward(x: Tensor, dtype: torch.dtype, *, up: bool) -> Tensor:
    """Numbers from 0 up in a dtype, no smaller, or no larger, than they are."""
    found = x.to(dtype)
    off = (found.to(torch.float64) < x) if up else (found.to(torch.float64) > x)
    bits = found.view(_BITS[found.element_size()])
    return torch.where(off, bits + (1 if up else -1), bits).view(dtype)


def _error(lo: Tensor, hi: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """By how much the rounded ends may be off the value, relative to its lower bound, (batch,)."""
    off = torch.maximum(hi - lower.to(torch.float64), upper.to(torch.float64) - lo)
    rounded = 1 + 4 * torch.finfo(torch.float64).eps  # of the difference and the quotient, an ulp each at most
    return torch.where(off > 0, rounded * (off / lo), 0.0).nan_to_num(torch.inf, torch.inf)


def candidates(call: Signature) -> list[IntervalProgram]:
    """The one program that serves a call."""
    call.require_double()
    rows, columns = call.sizes("m")
    return [IntervalProgram(rows, columns, call.function == "cond", call.dtype)]
