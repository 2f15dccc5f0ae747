"""Solutions of triangular systems, by substitution.

The error estimate is the first-order correction on random columns: with R = B - T X, the error is T^-1 R.
Reference: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.triangles import condition_number, corrected, lacking
from matfn_kernels.methods.triangular.judgement import problem
from matfn_kernels.methods.triangular.question import TriangularProgram
from matfn_kernels.numbers.precision import spacing
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile

__all__ = ["Substitution"]


@dataclass(frozen=True, slots=True)
class Substitution(TriangularProgram):
    """Solutions X of T X = B, or of T^T X = B.

    Attributes:
        columns: of the right-hand sides.
        transpose: whether the transpose is solved with.
    """

    columns: int
    transpose: bool

    method: ClassVar[str] = "substitution"

    @property
    def is_recordable(self) -> bool:
        """Always: products and substitution."""
        return True

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs t (batch, n, n) and b (batch, n, m)."""
        given = self.question.read(inputs["t"]), inputs["b"]
        (t, exponent), (right, right_exponent) = (self.scaled(x.to(torch.float64)) for x in given)
        t = t.mT if self.transpose else t
        lower = self.question.lower != self.transpose
        narrow = t.to(self.working)
        value = invariant.solve_triangular(narrow, right.to(narrow.dtype), upper=not lower)
        residual, error = corrected(value, right, problem(t, lower=lower), self.precision)
        return Findings(
            outputs=(value,),
            exponents=(lacking(exponent, right_exponent),),
            residual_name="T X - B",
            residual=residual,
            error=error + spacing(self.precision),
            condition=condition_number(normalise(t)[0], lower=lower),
        )

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return self.seconds_of_products(profile, self.columns / max(1, self.question.order))
