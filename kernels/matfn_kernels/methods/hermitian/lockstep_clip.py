"""Clipped eigenvalues of small symmetric matrices by eigendecompositions in float64, all of it in C.

One call decomposes as many matrices as a vector has lanes, clips, and measures what the decomposition left. Zero
matrices, clippings to zero and bounds or outputs near the ends of the range are left to `EigClipProgram`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR, relative_to_truth
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.measured import laws
from matfn_kernels.linalg.native import lockstep
from matfn_kernels.numbers.precision import FLOOR, Precision, natural, spacing, working
from matfn_kernels.programs.findings import Findings, merged
from matfn_kernels.programs.kernel_prices import pass_cost
from matfn_kernels.programs.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile

__all__ = ["LockstepClip"]

_PASSES: Final = 5.0
"""Passes (`kernel_prices.pass_cost`) of scaling and certifying: 4 to 7 in batches of 256 of orders 16 to 64."""


class Clipping(Program, Protocol):
    """A program of clippings that can leave out matrices of a batch."""

    @property
    def order(self) -> int:
        """The order n."""

    @property
    def lo(self) -> float:
        """The lower bound, -inf if open."""

    @property
    def hi(self) -> float:
        """The upper bound, inf if open."""

    def run_some(self, inputs: Mapping[str, Tensor], wanted: Tensor) -> Findings:
        """Computes the matrices that are wanted (batch,), each as if all were."""


@dataclass(frozen=True, slots=True)
class LockstepClip:
    """Clipped eigenvalues by eigh in float64, in C.

    Attributes:
        usual: the program that computes what is left.
    """

    method: ClassVar[str] = "eigh"
    kernel: ClassVar[Kernel] = Kernel.NATIVE
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    usual: Clipping

    @staticmethod
    def serves(clip: Clipping) -> bool:
        """Whether the kernels in C take such a clipping: in float64, real and small."""
        is_double = clip.precision is LockstepClip.precision
        return is_double and not clip.dtype.is_complex and lockstep.serves(torch.float64, clip.order)

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.usual.dtype

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input a (batch, n, n)."""
        a = inputs["a"]
        value, found = native.eigenvalue_clips(_settings(self.usual), a.to(working(natural(a.dtype), a.dtype)))
        answered = _findings(self.dtype, value, found)
        is_open = found.open != 0
        if not bool(is_open.any()):
            return answered
        return merged(~is_open, answered, self.usual.run_some(inputs, is_open))

    def variants(self) -> tuple[LockstepClip, ...]:
        """Itself alone."""
        return (self,)

    def fallbacks(self) -> tuple[Program, ...]:
        """None: nothing serves more matrices."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return self.usual.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, a product and passes."""
        order = self.usual.order
        products = profile.cost("eigh", Precision.FP64, order) + profile.cost("native", Precision.FP64, order)
        return products + _PASSES * pass_cost(profile, order)


@lru_cache(maxsize=256)
def _settings(clip: Clipping) -> native.EigenvalueClips:
    """The plan of a clipping in C: its numbers are those of `eig_clip` and of the laws of backward errors."""
    noise = BACKWARD_ERROR * spacing(Precision.FP64)
    return native.EigenvalueClips(clip.order, (clip.lo, clip.hi), noise, laws(torch.float64, clip.order, clip.order))


def _findings(dtype: torch.dtype, value: Tensor, found: native.ClipFindings) -> Findings:
    error = relative_to_truth(found.error)
    return Findings(
        outputs=(value,),
        exponents=(None,),
        residual_name="X - A",
        residual=found.residual,
        error=error + found.rounding * (1 + error),
        condition=found.condition,
        remarks={"asymmetric": found.asymmetry > FLOOR * torch.finfo(dtype).eps},
    )
