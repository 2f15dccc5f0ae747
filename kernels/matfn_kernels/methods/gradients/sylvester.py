"""Gradients of solutions of Sylvester's and of Lyapunov's equations, in continuous and in discrete time.

With the cotangent C of X, Z solves the adjoint equation, A^H Z + Z B^H = C, A^H Z + Z A = C or A^H Z E + E^H Z A = C:

    Qb = Z,    Ab = -Z X^H,    Bb = -X^H Z;    for B = A^H    Ab = -(Z X^H + Z^H X);
    with E     Ab = -(Z E X^H + Z^H E X),      Eb = -(Z A X^H + Z^H A X).

Of A X A^H - E X E^H + Q = 0 the adjoint equation is A^H Z A - E^H Z E + C = 0, and

    Qb = Z,    Ab = Z A X^H + Z^H A X,    Eb = -(Z E X^H + Z^H E X).

The error is that of both solutions, each by its own residual and separation, and of the products by norms.
Reference: Higham, Accuracy and Stability (2002), chapter 16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.methods.equations.stein import SteinProgram
from matfn_kernels.methods.equations.sylvester_candidates import candidates as solvers
from matfn_kernels.methods.gradients.products import Factor, multiplied_out, of_factor
from matfn_kernels.methods.gradients.program import EPS, GradientProgram, joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.equations.native_sylvester import NativeSylvester
    from matfn_kernels.methods.equations.sylvester import SylvesterProgram
    from matfn_kernels.methods.gradients.program import Gradient
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["SylvesterGradient", "candidates", "discrete", "either"]


@dataclass(frozen=True, slots=True)
class SylvesterGradient(GradientProgram):
    """Gradients of solutions of Sylvester's and Lyapunov's equations.

    Attributes:
        program: computes the solution.
    """

    program: SylvesterProgram | NativeSylvester | SteinProgram

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a (batch, m, m), q and x (batch, m, n), of Sylvester's equation b (batch, n, n), e as a."""
        own = self.program.run({name: inputs[name] for name in self.names})
        turned = {name: inputs[name].mH.contiguous() for name in self.names if name != "q"}
        beside = self.program.run({**turned, "q": inputs["x"]})
        solution, adjoint = _factor(own), _factor(beside)
        gradients = {"q": of_factor(adjoint), **self._of_coefficients(solution, adjoint, inputs)}
        found = joined(own, [gradients[name] for name in self.names], self, inputs)
        return replace(
            found,
            residual_name="A^H Z + Z B^H - C" if "b" in self.names else "the adjoint equation",
            residual=beside.residual,
            failures=either(own.failures, beside.failures),
            remarks=either(own.remarks, beside.remarks),
        )

    def _of_coefficients(self, solution: Factor, adjoint: Factor, inputs: Mapping[str, Tensor]) -> dict[str, Gradient]:
        x, z, both = solution.value, adjoint.value, (adjoint, solution)
        if isinstance(self.program, SteinProgram):
            signs = {name: sign for name, sign in (("a", 1.0), ("e", -1.0)) if name in self.names}
            return {name: _generalised(solution, adjoint, inputs[name], sign) for name, sign in signs.items()}
        if "b" in self.names:
            across = multiplied_out(-product(x.mH, z), (solution, adjoint))
            return {"a": multiplied_out(-product(z, x.mH), both), "b": across}
        if "e" not in self.names:
            return {"a": multiplied_out(-(product(z, x.mH) + product(z.mH, x)), both)}
        pairs = {"a": "e", "e": "a"}
        return {name: _generalised(solution, adjoint, inputs[other], -1.0) for name, other in pairs.items()}

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: two solutions, and products."""
        return self.program.seconds(profile) + GradientProgram.seconds(self, profile)


def _factor(found: Findings) -> Factor:
    return Factor(found.outputs[0], found.error, found.condition, found.exponents[0])


def _generalised(solution: Factor, adjoint: Factor, between: Tensor, sign: float) -> Gradient:
    """Plus or minus Z M X^H + Z^H M X for M (batch, n, n)."""
    m, exponent = normalise(between.to(solution.value.dtype))
    x, z = solution.value, adjoint.value
    value = (product(z, product(m, x.mH)) + product(z.mH, product(m, x))) * sign
    rounded = replace(
        solution,
        error=solution.error + orthogonality(x.shape[-1]) * EPS,
        exponent=exponent if solution.exponent is None else solution.exponent + exponent,
    )
    return multiplied_out(value, (adjoint, rounded), norm(m))


def either(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks by reason, of the matrices for which one or the other holds."""
    shared = {name: one[name] | other[name] for name in one if name in other}
    return {**one, **other, **shared}


def candidates(call: Signature) -> list[SylvesterGradient]:
    """A program for each that computes the solution."""
    return [SylvesterGradient(program, max(call.sizes("q")), call.names, call.cotangents) for program in solvers(call)]


def discrete(call: Signature) -> list[SylvesterGradient]:
    """The one program that serves a call of discrete Lyapunov equations."""
    call.require_double()
    order = call.sizes("a")[-1]
    return [SylvesterGradient(SteinProgram(order, call.given, call.dtype), order, call.names, call.cotangents)]
