"""Powers A^(s/r) and A^(-s/r) of symmetric positive semidefinite matrices, alone or multiplied from the left by G.

A `Power` is the question. Four programs answer it: `EighPower` and `TrialPower` diagonalise, `IteratedPower` and
`NativePower` run the coupled iteration; `Bf16Power` is the iteration in bf16, where nothing else is allowed.

A^(s/r) is A^k A^(-(k - s/r)) with k = ceil(s/r), so that one kind of iterate and one kind of certificate serve both.
Damping: the answer is that of A + shift I, the shift added in the working precision.
References: kexue.fm/archives/11175; Guo and Higham (2006); Higham, Functions of Matrices (2008), chapter 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg.scaling import power_of_two
from matfn_kernels.numbers.precision import Precision, at_least_single, spacing, working

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["Power", "PowerProgram"]


@dataclass(frozen=True, slots=True)
class Power:
    """Which powers are wanted of which matrices.

    Attributes:
        order: n.
        rows: rows of G, or None without G.
        r: the root.
        s: the power.
        inverse: A^(-s/r) rather than A^(s/r).
        pair: both.
        damping: as the caller gave it.
        dtype: of the inputs and outputs.
        shift: the number to add to the diagonal, where the caller gave one in place of a damping.
    """

    order: int
    rows: int | None
    r: int
    s: int
    inverse: bool
    pair: bool
    damping: float | str | None
    dtype: torch.dtype
    shift: float | None = None

    @property
    def negative(self) -> tuple[int, int, int]:
        """(k, s', r): the answer is A^k A^(-s'/r) in lowest terms."""
        common = math.gcd(self.s, self.r)
        s, r = self.s // common, self.r // common
        k = 0 if self.inverse else -(-s // r)
        return k, (s if self.inverse else k * r - s), r

    @property
    def signs(self) -> tuple[int, ...]:
        """+1 for A^(s/r), -1 for A^(-s/r): one an output."""
        if self.pair:
            return (1, -1)
        return (-1,) if self.inverse else (1,)

    @property
    def drops(self) -> bool:
        """Whether it is a pseudo-inverse power, which is zero on eigenvalues below the threshold of rank."""
        return self.damping == "range"

    @property
    def damps_by_default(self) -> bool:
        """Whether matrices that are not positive definite to rounding are shifted, as far as they need it."""
        return self.damping is None and self.shift is None and -1 in self.signs

    @property
    def part(self) -> float:
        """The part of the largest eigenvalue that the caller adds to the diagonal."""
        return self.damping if isinstance(self.damping, float) else 0.0

    @property
    def is_shifted(self) -> bool:
        """Whether the caller adds something to the diagonal."""
        return self.shift is not None or self.part > 0

    @property
    def equation(self) -> str:
        """The equation whose residual is measured."""
        if self.signs == (1,):
            return "X^r - A^s"
        return "A X^r A^s - A" if self.drops else "X^r A^s - I"

    def eps(self, precision: Precision) -> float:
        """The coarser spacing of the dtype and of the arithmetic in which eigenvalues are known."""
        return max(torch.finfo(self.dtype).eps, spacing(precision))

    def working(self, precision: Precision) -> torch.dtype:
        """The dtype that matrices are scaled in for an arithmetic."""
        return working(at_least_single(precision), self.dtype)

    def turned(self, value: Tensor, exponent: Tensor, sign: int, left: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A power of A 2^-exponent, G scaled by 2^-left, as a value and the integer power of two it lacks."""
        scaled, whole = power_of_two(value, exponent, sign * self.s, self.r)
        return scaled, whole if left is None else whole + left

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs where some dimension is zero: a product over an empty dimension is zero, all else is empty."""
        shape = inputs["g" if "g" in inputs else "a"].shape
        return tuple(torch.zeros(shape, dtype=self.dtype) for _ in self.signs)


@dataclass(frozen=True, slots=True)
class PowerProgram:
    """The part that the programs of a power have in common.

    Attributes:
        power: the question.
        pinned: whether the caller asked for the method, so that no other may answer.
    """

    power: Power
    pinned: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.power.dtype

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs where some dimension is zero."""
        return self.power.empty(inputs)
