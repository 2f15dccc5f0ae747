"""Polar factors and clippings of small matrices by their Gram matrices in float64, all of it in C.

One call makes the Gram matrices, decomposes as many as a vector has lanes, and makes and measures the images. Zero
matrices and bounds or outputs near the ends of the range are left to `NativeGramPolar`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.measured import laws
from matfn_kernels.linalg.native import lockstep
from matfn_kernels.methods.polar.question import PolarProgram
from matfn_kernels.methods.polar.singular_values import UNCHANGED
from matfn_kernels.numbers.precision import Precision, spacing
from matfn_kernels.programs.findings import Findings, merged
from matfn_kernels.programs.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.polar.question import Polar
    from matfn_kernels.programs.profile import Profile

__all__ = ["GRAM_ERROR", "LockstepGramPolar", "findings_of_gram"]

GRAM_ERROR: Final = 2 * BACKWARD_ERROR
"""Of the Gram matrix and its eigh in eps times the norm: 12 have been seen where one singular value is small."""
_PASSES: Final = 2.0
"""Passes (`Polar.seconds_a_pass`) of scaling and certifying.

A price, on which no answer rests: 1 to 4 in batches of 256 of orders 32 and 64, where products in C alone take 14 to 18
by their own formula."""


class PolarInParts(Program, Protocol):
    """A program that can leave out matrices of a batch."""

    def run_some(self, inputs: Mapping[str, Tensor], wanted: Tensor) -> Findings:
        """Computes the matrices that are wanted (batch,), each as if all were."""


@dataclass(frozen=True, slots=True)
class LockstepGramPolar(PolarProgram):
    """M h(M^T M) of matrices in float32, in C.

    Attributes:
        usual: the program that computes what is left.
    """

    usual: PolarInParts

    method: ClassVar[str] = "gram"
    kernel: ClassVar[Kernel] = Kernel.NATIVE
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    @staticmethod
    def serves(question: Polar) -> bool:
        """Whether the kernels in C take such matrices: real, in float32 or less, and small in one dimension."""
        return question.is_single and lockstep.serves(torch.float64, question.small)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        value, found = native.gram_polars(_settings(self.question), self.matrices(inputs).to(torch.float32))
        answered = self.question.turned_back(findings_of_gram(self.question, value, found))
        is_open = found.open != 0
        if not bool(is_open.any()):
            return answered
        return merged(~is_open, answered, self.usual.run_some(inputs, is_open))

    def variants(self) -> tuple[LockstepGramPolar, ...]:
        """Itself alone."""
        return (self,)

    def fallbacks(self) -> tuple[Program, ...]:
        """The svd, unless the caller asked for this method."""
        return self.usual.fallbacks()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, products and passes."""
        asked = self.question
        wide = profile.cost("gemm", Precision.FP64, asked.small)
        symmetric = profile.cost("native", Precision.FP64, asked.small)
        products = (1 + asked.aspect) * symmetric + asked.aspect * wide
        return profile.cost("eigh", Precision.FP64, asked.small) + products + _PASSES * asked.seconds_a_pass(profile)


@lru_cache(maxsize=256)
def _settings(question: Polar) -> native.GramPolar:
    """The plan of an image in C: its numbers are those of `gram`."""
    noise, law = GRAM_ERROR * spacing(Precision.FP64), laws(torch.float64, question.small, question.small)
    return native.GramPolar(question.bounds, question.threshold(Precision.FP64), noise, law)


def findings_of_gram(question: Polar, value: Tensor, found: native.GramPolarFindings) -> Findings:
    """The findings of tall matrices whose images were computed in C."""
    unit = spacing(Precision.FP64)
    error = torch.where(found.same > 0, UNCHANGED * unit, found.error + BACKWARD_ERROR * unit)
    return Findings(
        outputs=(value,),
        exponents=(None,),
        residual_name=question.residual_name,
        residual=found.residual,
        error=error + found.skew + found.rounding,
        condition=found.condition,
        rank=found.rank.nan_to_num(0.0).to(torch.int64),
    )
