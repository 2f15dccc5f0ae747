"""Solutions of triangular systems, by substitution.

The error estimate is the first-order correction: with R = B - T X, the error is T^-1 R. Of many columns random
combinations are corrected. Of few all are, by kernels in C that read the triangle six times in all, since each reading
takes as long as the solution: for X and T^-1 Z, Z random; for R, the rounding of R, and T Z; for their corrections; for
R - T T^-1 R and T^T T Z; for T^-T T^-1 Z; and once for NaN. ||T|| ||T^-1|| is by one round of power iteration each.
Reference: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.probes import COUNT
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.triangles import PROBE_MARGIN, condition_number, corrected, lacking
from matfn_kernels.methods.triangular.judgement import Judgement, is_tame, problem
from matfn_kernels.methods.triangular.question import TriangularProgram
from matfn_kernels.methods.triangular.room import with_room
from matfn_kernels.numbers.precision import Precision, double, spacing
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.kernel_prices import pass_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.native_kernels import SolveFindings
    from matfn_kernels.programs.kernel_prices import Tunable
    from matfn_kernels.programs.profile import Profile

__all__ = ["NativeSubstitution", "Substitution"]

_SHORTEST: Final = 1e-100
"""Norm of a right-hand side or a solution above which, and below whose inverse, its square may be summed."""
_PASSES: Final = 2.0
"""Passes over a triangle that take as long as the kernels in C: a price."""


@dataclass(frozen=True, slots=True)
class _Equations(TriangularProgram):
    """Solutions X of T X = B, or of T^T X = B.

    Attributes:
        columns: of the right-hand sides.
        transpose: whether the transpose is solved with.
    """

    columns: int
    transpose: bool

    method: ClassVar[str] = "substitution"

    def variants(self) -> tuple[Tunable, ...]:
        """The program by every kernel that can run it: in C where columns are few and dtype and arithmetic alike."""
        settings = (self.question, self.precision, self.ceiling, self.columns, self.transpose)
        dtype = {Precision.FP32: torch.float32, Precision.FP64: torch.float64}.get(self.precision)
        served = self.dtype == dtype and 0 < self.columns <= COUNT
        return (Substitution(*settings), NativeSubstitution(*settings)) if served else (Substitution(*settings),)

    def _wide(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """The triangle op(T) and B, in float64 and near 1 where the arithmetic wants it, with their exponents."""
        given = self.question.read(inputs["t"]), inputs["b"]
        (t, exponent), (right, right_exponent) = (self.scaled(x.to(double(x.dtype))) for x in given)
        return t.mT if self.transpose else t, exponent, right, right_exponent

    def _judged(self, t: Tensor, right: Tensor, value: Tensor) -> Judgement:
        """By substitution in float64, on random combinations of columns."""
        lower = self.question.lower != self.transpose
        residual, error = corrected(value, right, problem(t, lower=lower), self.precision)
        return Judgement(residual, error, condition_number(normalise(t)[0], lower=lower))

    def _with_room(self, inputs: Mapping[str, Tensor], found: Findings) -> Findings:
        """The findings in float64 with room for answers that leave its range."""
        if self.precision is not Precision.FP64:
            return found
        t, _, right, _ = self._wide(inputs)
        library = Substitution(self.question, self.precision, self.ceiling, self.columns, self.transpose)
        parts = {"t": t, "b": right}
        return with_room(found, parts, lambda scaled: library.solved(scaled["t"], scaled["b"], None), self.dtype)

    def _findings(self, value: Tensor, exponent: Tensor | None, judgement: Judgement) -> Findings:
        return Findings(
            outputs=(value,),
            exponents=(exponent,),
            residual_name="T X - B",
            residual=judgement.residual,
            error=judgement.error + spacing(self.precision),
            condition=judgement.condition,
        )


@dataclass(frozen=True, slots=True)
class Substitution(_Equations):
    """Solutions of a whole batch by the libraries' substitution."""

    kernel: ClassVar[Kernel] = Kernel.LIBRARY

    @property
    def is_recordable(self) -> bool:
        """Always: products and substitution."""
        return True

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs t (batch, n, n) and b (batch, n, m)."""
        t, exponent, right, right_exponent = self._wide(inputs)
        found = self.solved(t, right, lacking(exponent, right_exponent))
        return self._with_room(inputs, found)

    def solved(self, t: Tensor, right: Tensor, exponent: Tensor | None) -> Findings:
        """Findings of op(T) X = B in double precision, X to be multiplied by 2^exponent."""
        narrow = t.to(self.working)
        upper = self.question.lower == self.transpose
        value = invariant.solve_triangular(narrow, right.to(narrow.dtype), upper=upper)
        return self._findings(value, exponent, self._judged(t, right, value))

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return self.seconds_of_products(profile, self.columns / max(1, self.question.order))


@dataclass(frozen=True, slots=True)
class NativeSubstitution(_Equations):
    """Solutions with few columns and their certificates by the kernels in C, one matrix after the other."""

    kernel: ClassVar[Kernel] = Kernel.NATIVE

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs t (batch, n, n) and b (batch, n, m)."""
        asked = self.question
        t, b = (inputs[name].to(self.working).resolve_neg().contiguous() for name in ("t", "b"))
        asking = {"lower": asked.lower, "unit": asked.unit, "transpose": self.transpose}
        value, measured = native.triangular_solutions(t, b, **asking)
        judgement, tame = _by_correction(measured, t)
        found = self._findings(
            value, None, judgement.where(tame, lambda mask: self._by_library(t[mask], b[mask], value[mask]))
        )
        return self._with_room(inputs, found)

    def _by_library(self, t: Tensor, b: Tensor, value: Tensor) -> Judgement:
        t, _, right, _ = self._wide({"t": t, "b": b})
        return self._judged(t, right, value)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix, infinite by a profile without the kernels in C."""
        built = math.isfinite(profile.cost("native_triangle", self.precision, self.question.order))
        return _PASSES * pass_cost(profile, self.question.order) if built else math.inf


def _by_correction(found: SolveFindings, t: Tensor) -> tuple[Judgement, Tensor]:
    """Judgement of X by the correction of all its columns, and whether it is to be trusted, (batch,)."""
    error = PROBE_MARGIN * (found.step + found.rounded) / found.size
    sizes = torch.stack([found.norm, found.inverse_norm])
    lengths = torch.stack([found.target, found.size])
    in_range = ((lengths > _SHORTEST) & (lengths < 1 / _SHORTEST)).all(0)
    solved = found.left <= found.missing / 2
    judgement = Judgement(
        found.missing / found.target, torch.where(solved, error, math.inf), sizes.prod(0).clamp_min(1.0)
    )
    return judgement, in_range & is_tame(sizes, error, t.new_empty(0, t.shape[-1], dtype=torch.float64))
