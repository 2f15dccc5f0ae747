"""Gradients of triangular inverses and of solutions of triangular systems.

For T X = B, or op(T) X = B with op the transpose, and the cotangent C of X: Z solves op(T)^H Z = C, and

    Bb = Z,    op(T)b = -Z X^H, of which the triangle that is read is the gradient of T, without a unit diagonal.

An inverse is the solution for B = I. The error is that of both solutions, to first order, and of the product by norms.
Reference: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 8 and 14.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.triangles import corrected
from matfn_kernels.methods.gradients.products import Factor, multiplied_out, of_factor
from matfn_kernels.methods.gradients.program import EPS, GradientProgram, joined
from matfn_kernels.methods.triangular.blocked import BlockedInverse
from matfn_kernels.methods.triangular.judgement import problem
from matfn_kernels.methods.triangular.question import Triangle
from matfn_kernels.methods.triangular.substitution import Substitution
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.signature import Signature

__all__ = ["TriangularGradient", "candidates"]


@dataclass(frozen=True, slots=True)
class TriangularGradient(GradientProgram):
    """Gradients of triangular inverses, or of solutions with triangles.

    Attributes:
        program: computes the inverse or the solution.
        transpose: whether the transpose is solved with.
    """

    program: BlockedInverse | Substitution
    transpose: bool

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: t (batch, n, n), x (batch, n, m) and, of a solution, b (batch, n, m)."""
        own, question = self.program.run(inputs), self.program.question
        t, right = question.read(inputs["t"].to(self.wide)), inputs["x"].to(self.wide)
        turned = (t.conj() if self.transpose else t.mH).resolve_conj()
        upper = question.lower != self.transpose
        z = invariant.solve_triangular(turned, right, upper=upper)
        residual, error = corrected(z, right, problem(turned, lower=not upper), Precision.FP64)
        value, up = normalise(own.outputs[0].to(self.wide).conj().resolve_conj())
        up = up if own.exponents[0] is None else up + own.exponents[0]
        solution = Factor(value, own.error, own.condition, up)
        z, down = normalise(z)
        adjoint = Factor(z, error + EPS, own.condition, down)
        left, other = (solution, adjoint) if self.transpose else (adjoint, solution)
        whole = invariant.negative(product(left.value, other.value.mT))
        part = whole.tril(-int(question.unit)) if question.lower else whole.triu(int(question.unit))
        gradients = [multiplied_out(part, (left, other))]
        gradients += [of_factor(adjoint)] if "b" in self.names else []
        found = joined(own, gradients, self, {**inputs, "t": t})
        return replace(found, residual_name="T^H Z - C", residual=residual)


def candidates(call: Signature) -> list[TriangularGradient]:
    """The one program that serves a call."""
    call.require_double()
    lower, unit = bool(call.parameter("lower")), bool(call.parameter("unit_diagonal"))
    transpose, b = bool(call.parameter("transpose")), call.shape("b")
    question = Triangle(call.sizes("t")[-1], lower, unit, call.dtype)
    double = (question, Precision.FP64, Precision.FP64)
    program = BlockedInverse(*double) if b is None else Substitution(*double, columns=b[-1], transpose=transpose)
    return [TriangularGradient(program, question.order, call.names, call.cotangents, transpose)]
