"""Inverses of triangular matrices, by blocks.

inv [[A, 0], [C, B]] = [[A^-1, 0], [-B^-1 C A^-1, B^-1]], doubled from diagonal blocks of order 16 or 32, inverted by
substitution: n^3/3 products, nearly all in GEMMs, and as stable as substitution, componentwise. Products of powers
(I + N)(I + N^2)(I + N^4)... take fewer launches but lose every digit when powers of N grow, which identical keys of a
DeltaNet layer already do at order 32; they are not used.
References: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 8 and 14; kexue.fm/archives/11072.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.triangles import LEAF, PROBE_MARGIN, invert_lower, lacking
from matfn_kernels.methods.triangular.judgement import Judgement, by_products, by_substitution, is_tame
from matfn_kernels.methods.triangular.question import TriangularProgram
from matfn_kernels.methods.triangular.room import with_room
from matfn_kernels.numbers.precision import Precision, double, spacing
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.kernel_prices import leaf_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.triangular.question import Triangle
    from matfn_kernels.programs.kernel_prices import Tunable
    from matfn_kernels.programs.profile import Profile

__all__ = ["BlockedInverse", "NativeInverse"]


@dataclass(frozen=True, slots=True)
class BlockedInverse(TriangularProgram):
    """Inverses of a whole batch by torch's products.

    Attributes:
        kernel: whose substitution inverts the diagonal blocks.
    """

    kernel: Kernel = Kernel.LIBRARY

    method: ClassVar[str] = "blocked"

    @property
    def is_recordable(self) -> bool:
        """Always: products and substitution."""
        return True

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input t (batch, n, n)."""
        t, exponent = self.scaled(self.question.read(inputs["t"]))
        found = self.inverted(t, exponent)
        return found if self.precision is not Precision.FP64 else _with_room(self, t, found)

    def inverted(self, t: Tensor, exponent: Tensor | None) -> Findings:
        """Findings of triangles (batch, n, n) that have been read, and scaled by 2^-exponent."""
        narrow = t.to(self.working)
        lower = self.question.lower
        value = invert_lower(narrow, self.kernel) if lower else invert_lower(narrow.mT, self.kernel).mT
        judgement = self._judged(t, narrow, value) if t.device.type == "cpu" else self._judged_alike(t, value)
        return _findings(self, value, exponent, judgement)

    def _judged(self, t: Tensor, narrow: Tensor, value: Tensor) -> Judgement:
        """By products, or by substitution where their range does not hold them."""
        found, tame = by_products(narrow, value, self.precision)
        return found.where(tame, lambda mask: self._by_substitution(t[mask], value[mask]))

    def _judged_alike(self, t: Tensor, value: Tensor) -> Judgement:
        """By one way for all, since a GPU would have to wait for the answer whether there is a rare case.

        Products in float64 serve where its range holds any of theirs, else substitution.
        """
        wide = double(self.dtype)
        if self.dtype == wide:
            return self._by_substitution(t, value)
        return by_products(t.to(wide), value.to(wide), self.precision)[0]

    def _by_substitution(self, t: Tensor, value: Tensor) -> Judgement:
        return by_substitution(t, value, self.precision, lower=self.question.lower)

    def variants(self) -> tuple[Tunable, ...]:
        """The program by every kernel that can run it."""
        return _variants(self.question, self.precision, self.ceiling)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        leaves = math.ceil(self.question.order / LEAF)
        return self.seconds_of_products(profile, 1.0) + leaf_cost(self.kernel, profile, self.precision, LEAF, leaves)


@dataclass(frozen=True, slots=True)
class NativeInverse(TriangularProgram):
    """Inverses and their certificates by the kernels in C, one matrix after the other."""

    method: ClassVar[str] = "blocked"
    kernel: ClassVar[Kernel] = Kernel.NATIVE

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input t (batch, n, n)."""
        t, asked = inputs["t"], self.question
        narrow = t.to(self.working).resolve_neg().contiguous()
        value, measured = native.triangular_inverses(narrow, lower=asked.lower, unit=asked.unit)
        sizes, error = torch.stack([measured.norm, measured.inverse_norm]), PROBE_MARGIN * measured.error
        judgement = Judgement(measured.residual, error, sizes.prod(0).clamp_min(1.0)).where(
            is_tame(sizes, error, narrow), lambda mask: self._by_substitution(t[mask], value[mask])
        )
        found = _findings(self, value, None, judgement)
        return found if self.precision is not Precision.FP64 else _with_room(self, self.question.read(narrow), found)

    def _by_substitution(self, t: Tensor, value: Tensor) -> Judgement:
        return by_substitution(self.question.read(t), value, self.precision, lower=self.question.lower)

    def variants(self) -> tuple[Tunable, ...]:
        """The program by every kernel that can run it."""
        return _variants(self.question, self.precision, self.ceiling)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return profile.cost("native_triangle", self.precision, self.question.order)


def _variants(question: Triangle, precision: Precision, ceiling: Precision) -> tuple[Tunable, ...]:
    """Inverses by torch; of real ones by a GPU's kernel for the diagonal blocks, and in C in the dtype's arithmetic."""
    usual = BlockedInverse(question, precision, ceiling)
    if question.dtype.is_complex:
        return (usual,)
    at_once = BlockedInverse(question, precision, ceiling, Kernel.ONE_LAUNCH)
    if (question.dtype == torch.float64) != (precision is Precision.FP64):
        return usual, at_once
    return usual, at_once, NativeInverse(question, precision, ceiling)


def _with_room(program: TriangularProgram, t: Tensor, found: Findings) -> Findings:
    """The findings in float64 with room for answers that leave its range."""
    library = BlockedInverse(program.question, program.precision, program.ceiling)
    parts = {"t": t.to(double(t.dtype))}
    return with_room(found, parts, lambda scaled: library.inverted(scaled["t"], None), program.dtype)


def _findings(program: TriangularProgram, value: Tensor, exponent: Tensor | None, judgement: Judgement) -> Findings:
    return Findings(
        outputs=(value,),
        exponents=(lacking(exponent, None),),
        residual_name="T X - I",
        residual=judgement.residual,
        error=judgement.error + spacing(program.precision),
        condition=judgement.condition,
    )
