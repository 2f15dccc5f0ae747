"""Gradients of solutions of A X + X B = Q and A X + X A^T = Q.

With the cotangent C of X, Z solves the adjoint equation A^T Z + Z B^T = C, and

    Qb = Z,    Ab = -Z X^T,    Bb = -X^T Z;    for B = A^T    Ab = -(Z X^T + Z^T X).

The error is that of both solutions, each by its own residual and separation, and of the products by norms.
Reference: Higham, Accuracy and Stability (2002), chapter 16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matfn_kernels.linalg.products import product
from matfn_kernels.methods.equations.sylvester import SylvesterProgram
from matfn_kernels.methods.equations.sylvester import candidates as solvers
from matfn_kernels.methods.gradients.products import Factor, multiplied_out, of_factor
from matfn_kernels.methods.gradients.program import GradientProgram, joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["SylvesterGradient", "candidates"]


@dataclass(frozen=True, slots=True)
class SylvesterGradient(GradientProgram):
    """Gradients of solutions of Sylvester's and Lyapunov's equations.

    Attributes:
        program: computes the solution.
    """

    program: SylvesterProgram

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a (batch, m, m), q and x (batch, m, n) and, of Sylvester's equation, b (batch, n, n)."""
        own = self.program.run({name: inputs[name] for name in self.names})
        turned = {name: inputs[name].mT.contiguous() for name in self.names if name != "q"}
        beside = self.program.run({**turned, "q": inputs["x"]})
        solution, adjoint = _factor(own), _factor(beside)
        x, z = solution.value, adjoint.value
        both, zx = (adjoint, solution), product(z, x.mT)
        if "b" in self.names:
            gradients = [multiplied_out(-zx, both), multiplied_out(-product(x.mT, z), (solution, adjoint))]
        else:
            gradients = [multiplied_out(-(zx + product(z.mT, x)), both)]
        found = joined(own, [*gradients, of_factor(adjoint)], self, inputs)
        return replace(
            found,
            residual_name="A^T Z + Z B^T - C" if "b" in self.names else "A^T Z + Z A - C",
            residual=beside.residual,
            failures=_either(own.failures, beside.failures),
            remarks=_either(own.remarks, beside.remarks),
        )

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: two solutions, and products."""
        return self.program.seconds(profile) + GradientProgram.seconds(self, profile)


def _factor(found: Findings) -> Factor:
    return Factor(found.outputs[0], found.error, found.condition, found.exponents[0])


def _either(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks by reason, of the matrices for which one or the other holds."""
    shared = {name: one[name] | other[name] for name in one if name in other}
    return {**one, **other, **shared}


def candidates(call: Signature) -> list[SylvesterGradient]:
    """The one program that serves a call."""
    return [SylvesterGradient(program, max(call.sizes("q")), call.names, call.cotangents) for program in solvers(call)]
