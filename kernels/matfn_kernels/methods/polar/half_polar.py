"""Polar factors by Newton-Schulz with products of bf16 numbers in C, for loose tolerances.

The state is kept in float32 and only products round to bf16, so the error grows with the logarithm of the condition
where an iteration that is kept in bf16 loses digits with the condition itself. The schedule is that of all matrices,
or a shorter one where the singular values lie close together. The answer's error is judged afterwards: H = sym(O^T M)
is factorised in float64, and the distances of O^T O from I, of O^T M from H and of O from the range of M are measured
on random columns in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.methods.polar.gram import NativeGramPolar
from matfn_kernels.methods.polar.question import PolarProgram
from matfn_kernels.methods.polar.schedule import HALF_BOUND, half_rows
from matfn_kernels.methods.polar.svd import SvdPolar
from matfn_kernels.numbers.precision import Precision, spacing
from matfn_kernels.programs.findings import Findings, merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.native_kernels import HalfPolarFindings
    from matfn_kernels.methods.polar.question import Polar
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["HALF_REACH", "HalfPolar"]

HALF_REACH: Final = 1e-2
"""Tightest tolerance at which products in bf16 are worth trying: at condition 1e4 the law of their error is 0.9e-2."""
_SHARE: Final = 0.125
"""Of a tolerance: what the iteration may leave of it, twice which ||O^T O - I|| counts."""
_FLOOR: Final = 4e-5
"""Smallest singular value that is answered for: H from two numbers of bf16 for each is right to about 1e-5."""
_REACHED: Final = 0.25
"""Of the smallest singular value over the root of m: what it is over the norm that M is divided by, and a margin."""
_ROUNDING: Final = 0.125
"""Error by eps of bf16 at condition 1, beside which counts what the schedule leaves."""
_ROUNDING_A_DECADE: Final = 0.25
"""Error by eps of bf16 that each power of ten of the condition adds.

Measured: at most 0.25 with what the schedule leaves at condition 1, 0.45 at 30, 0.53 at 100, 0.75 at 1e3 and 0.91 at
1e4, where half of the singular values are small; random and geometric spectra have half of that."""
_RESIDUAL_MARGIN: Final = 1.5
"""How often the residual counts, which was no less than 0.56 of an error."""
_TURN_MARGIN: Final = 0.125
"""How often the turn of singular vectors counts: up to 15 times the error, as it weighs small singular values."""
_OUTSIDE_MARGIN: Final = 8.0
"""How often what lies outside of the range of M counts, which may be a single column of O.

Four random columns see less than a sixteenth of what lies in one direction once in 30 000 times."""


@dataclass(frozen=True, slots=True)
class HalfPolar(PolarProgram):
    """Polar factors of float32 matrices by products in bf16, one matrix after the other.

    Attributes:
        tolerance: relative error that is asked for.
    """

    tolerance: float

    method: ClassVar[str] = "newton_schulz"
    precision: ClassVar[Precision] = Precision.BF16
    ceiling: ClassVar[Precision] = Precision.FP64
    kernel: ClassVar[Kernel] = Kernel.NATIVE

    @staticmethod
    def serves(question: Polar, tolerance: float) -> bool:
        """Whether this machine multiplies bf16 numbers in C, and the answer may be as rough as they leave it."""
        return question.is_single and question.bounds is None and tolerance >= HALF_REACH and native.multiplies_bf16()

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        m = self.matrices(inputs)
        return self.question.turned_back(self._completed(self._iterated(m), m))

    def _iterated(self, m: Tensor) -> Findings:
        """Polar factors of tall M (batch, m, n) as it came."""
        given = m.to(torch.float32).resolve_neg().contiguous()
        value, found = native.half_polar_factors(given, _FLOOR, _schedules(self._allowed))
        condition = (found.largest / found.smallest).clamp_min(1.0)
        proved = found.definite > 0
        return Findings(
            outputs=(value,),
            exponents=(None,),
            residual_name=self.question.residual_name,
            residual=found.residual,
            error=torch.where(proved, _error(found, condition, self._allowed), torch.inf).nan_to_num(torch.inf),
            condition=condition,
            steps=found.steps,
            rank=torch.where(proved, self.question.small, -1),
        )

    @property
    def _allowed(self) -> float:
        return _SHARE * min(1.0, self.tolerance)

    def _completed(self, found: Findings, m: Tensor) -> Findings:
        """Computes by Gram matrix, in the same run, matrices whose error is not known to be within the tolerance."""
        missed = ~(found.error <= self.tolerance)
        if self.pinned or not bool(missed.any()):
            return found
        missed &= torch.isfinite(m).flatten(1).all(-1)
        gram = NativeGramPolar(self.question)
        second = gram.finished(gram.shared.of_some(m, missed))
        return merged(~missed, found, replace(second, escalated=missed.to(torch.int64)))

    def fallbacks(self) -> tuple[Program, ...]:
        """The Gram matrix and the svd, unless the caller asked for this method."""
        return () if self.pinned else (NativeGramPolar(self.question), SvdPolar(self.question, self.ceiling))

    def variants(self) -> tuple[HalfPolar, ...]:
        """Itself alone."""
        return (self,)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: two symmetric products a step, and one by two numbers for each of X.

        A square matrix takes the universal schedule; of a tall one the singular values are those of a random matrix.
        """
        small, aspect = self.question.small, self.question.aspect
        steps = len(half_rows(self._allowed, max(HALF_BOUND, (1 - aspect**-0.5) * _REACHED)))
        return (steps * (0.5 + 2.5 * aspect) + 3 * aspect) * profile.cost("native_half", Precision.BF16, small)


@lru_cache(maxsize=64)
def _schedules(allowed: float) -> native.Schedules:
    return native.Schedules.down_to(HALF_BOUND, lambda bound: half_rows(allowed, bound))


def _error(found: HalfPolarFindings, condition: Tensor, allowed: float) -> Tensor:
    """Error of O, (batch,), of three parts at right angles: of its singular values, its vectors, and its range."""
    law = spacing(Precision.BF16) * (_ROUNDING + _ROUNDING_A_DECADE * condition.log10())
    measured = torch.maximum(_RESIDUAL_MARGIN * found.residual, _TURN_MARGIN * found.turn)
    parts = (found.gap.clamp_min(allowed), torch.maximum(law, measured), _OUTSIDE_MARGIN * found.outside)
    return torch.stack(parts).square().sum(0).sqrt()
