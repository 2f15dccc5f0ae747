"""Singular values of small matrices in float64 clipped from above, all of it in C.

One call decomposes as many Gram matrices as a vector has lanes, rotates the singular vectors that are clipped to full
accuracy, and makes and measures the images. Zero matrices and bounds or outputs near the ends of the range are left to
`SvdPolar`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.measured import laws
from matfn_kernels.linalg.native import lockstep
from matfn_kernels.methods.polar.lockstep_gram import findings_of_gram
from matfn_kernels.methods.polar.question import PolarProgram
from matfn_kernels.numbers.precision import Precision, spacing
from matfn_kernels.programs.findings import merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.polar.question import Polar
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["LockstepSvdClip"]

_PRODUCTS: Final = 3.0
"""Products of rotations, which a Gaussian matrix needs; a price, on which no answer rests."""
_PASSES: Final = 3.0
"""Passes (`Polar.seconds_a_pass`) of scaling and certifying; a price, on which no answer rests."""


@dataclass(frozen=True, slots=True)
class LockstepSvdClip(PolarProgram):
    """U min(Sigma, hi) V^T of matrices in float64, in C.

    Attributes:
        usual: the program that computes what is left.
    """

    usual: Program

    method: ClassVar[str] = "svd"
    kernel: ClassVar[Kernel] = Kernel.NATIVE
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    @staticmethod
    def serves(question: Polar, precision: Precision) -> bool:
        """Whether the kernels in C take it: a clipping from above of real float64 matrices, small in one dimension."""
        is_double = precision is Precision.FP64 and question.dtype == torch.float64
        clips_above = question.bounds is not None and question.bounds[0] <= 0
        return is_double and clips_above and lockstep.decomposes(question.dtype, question.rows, question.columns)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        value, found = native.gram_polars(_settings(self.question), self.matrices(inputs))
        answered = self.question.turned_back(findings_of_gram(self.question, value, found))
        is_open = found.open != 0
        if not bool(is_open.any()):
            return answered
        rest = inputs["m"].where(is_open[:, None, None], 0.0)
        return merged(~is_open, answered, self.usual.run({"m": rest}))

    def variants(self) -> tuple[LockstepSvdClip, ...]:
        """Itself alone."""
        return (self,)

    def fallbacks(self) -> tuple[Program, ...]:
        """None: the svd is the last resort."""
        return ()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, products, rotations and passes."""
        asked = self.question
        products = (1 + _PRODUCTS + 2 * asked.aspect) * profile.cost("native", Precision.FP64, asked.small)
        return profile.cost("eigh", Precision.FP64, asked.small) + products + _PASSES * asked.seconds_a_pass(profile)


@lru_cache(maxsize=256)
def _settings(question: Polar) -> native.GramPolar:
    """The plan of a clipping in C: its numbers are those of `svd`."""
    noise, law = BACKWARD_ERROR * spacing(Precision.FP64), laws(torch.float64, question.small, question.small)
    return native.GramPolar(question.bounds, question.threshold(Precision.FP64), noise, law)
