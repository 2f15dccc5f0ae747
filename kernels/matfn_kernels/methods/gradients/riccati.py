"""Gradients of the stabilising solutions of Riccati equations, in continuous and in discrete time.

With the feedback K, the closed loop L = A - B K, N = E in continuous and N = L in discrete time, and C the Hermitian
part of the cotangent of X, the Hermitian Z solves the adjoint of the equation's derivative,

    L Z E^H + E Z L^H + C = 0    or    L Z L^H - E Z E^H + C = 0:

    Ab = 2 X N Z,    Bb = -Ab K^H,    Qb = Z,    Rb = K Z K^H,    Sb = -2 Z K^H,

and Eb = 2 X L Z in continuous, -2 X E Z in discrete time. Qb and Rb are Hermitian, as Q and R are. The error is that of
X and K by their certificates, that of Z by the adjoint equation's residual and separation and by the error of L, and
of the products by norms.
Reference: Kao and Hennequin, arXiv 2011.11430.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.methods.equations.riccati import RiccatiProgram
from matfn_kernels.methods.equations.stein import SteinProgram
from matfn_kernels.methods.equations.sylvester import SylvesterProgram
from matfn_kernels.methods.gradients.products import Factor, chained, of_factor
from matfn_kernels.methods.gradients.program import EPS, GradientProgram, joined, relative
from matfn_kernels.methods.gradients.sylvester import either

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.gradients.program import Gradient
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["RiccatiGradient", "candidates"]


@dataclass(frozen=True, slots=True)
class RiccatiGradient(GradientProgram):
    """Gradients of solutions of Riccati equations.

    Attributes:
        program: computes the solution and the feedback.
    """

    program: RiccatiProgram

    @property
    def is_discrete(self) -> bool:
        """Whether time is."""
        return self.program.function == "solve_dare"

    @property
    def beside(self) -> SylvesterProgram | SteinProgram:
        """The program of the adjoint equation."""
        given = tuple(name for name in self.program.given if name == "e")
        if self.is_discrete:
            return SteinProgram(self.program.order, given, self.dtype)
        return SylvesterProgram(self.program.order, None, given, self.dtype)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a, q, x and perhaps e (batch, n, n), b and perhaps s (batch, n, m), r (batch, m, m)."""
        both = self.program.run({name: inputs[name] for name in self.names})
        own = replace(both, outputs=both.outputs[:1], exponents=both.exponents[:1])
        wide = {name: tensor.to(self.wide) for name, tensor in inputs.items()}
        lacking = both.exponents[0] if both.exponents else None
        x = Factor(both.outputs[0], both.error, both.condition, lacking)
        k = Factor(both.outputs[1], both.error, both.condition)
        loop = _closed_loop(wide["a"], wide["b"], k)
        found = self.beside.run(self._adjoint(loop, wide))
        z = _adjoint_factor(found, loop)
        e = None if "e" not in wide else _exact(wide["e"])
        gradients = self._gradients(loop, e, (x, k, z))
        result = joined(own, [gradients[name] for name in self.names], self, inputs)
        return replace(
            result,
            residual_name="the adjoint equation",
            residual=found.residual,
            failures=either(own.failures, found.failures),
            remarks=either(own.remarks, found.remarks),
        )

    def _adjoint(self, loop: Factor, wide: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The coefficients of the adjoint equation."""
        c = symmetrise(wide["x"])
        descriptor = {name: wide[name] for name in ("e",) if name in wide}
        return {"a": loop.value, "q": c if self.is_discrete else -c, **descriptor}

    def _gradients(self, loop: Factor, e: Factor | None, found: tuple[Factor, Factor, Factor]) -> dict[str, Gradient]:
        """Those of all inputs that there may be, of X, K and Z."""
        x, k, z = found
        descriptor = () if e is None else (e,)
        between = (loop,) if self.is_discrete else descriptor
        gradients = {
            "a": chained((x, *between, z), 2.0),
            "b": chained((x, *between, z, k.adjoint), -2.0),
            "q": of_factor(z),
            "r": chained((k, z, k.adjoint)),
            "s": chained((z, k.adjoint), -2.0),
        }
        if e is not None:
            gradients["e"] = chained((x, e, z), -2.0) if self.is_discrete else chained((x, loop, z), 2.0)
        return gradients

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty solution, and gradients that are 0."""
        return (torch.zeros(inputs["q"].shape, dtype=self.dtype), *GradientProgram.empty(self, inputs)[2:])

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: both equations, and products."""
        return self.beside.seconds(profile) + GradientProgram.seconds(self, profile)


def _exact(value: Tensor) -> Factor:
    """A matrix that was given."""
    nothing = torch.zeros(len(value), dtype=torch.float64, device=value.device)
    return Factor(value, nothing, nothing)


def _closed_loop(a: Tensor, b: Tensor, k: Factor) -> Factor:
    """A - B K with the error that K and rounding leave."""
    loop, part = a - product(b, k.value), norm(b) * norm(k.value)
    rounding = orthogonality(max(b.shape[-2:])) * EPS
    change = part * (k.error + rounding) + EPS * norm(a)
    size = norm(loop)
    return Factor(loop, relative(change, size), relative(part * k.condition + norm(a), size))


def _adjoint_factor(found: Findings, loop: Factor) -> Factor:
    """Z, which the error of L changes by up to the condition of the adjoint equation times as much."""
    error = found.error + found.condition * loop.error
    return Factor(found.outputs[0], error, found.condition * (1 + loop.condition), found.exponents[0])


def candidates(call: Signature) -> list[RiccatiGradient]:
    """The one program that serves a call."""
    call.require_double()
    order, columns = call.sizes("b")
    program = RiccatiProgram(call.subject, order, columns, call.given, call.dtype, gain=True)
    return [RiccatiGradient(program, max(order, columns), call.names, call.cotangents)]
