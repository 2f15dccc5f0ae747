"""Gradients of powers, logarithms and exponentials of matrices without symmetry, G times powers among them.

The adjoint of the Fréchet derivative L(A, .) is L(A^H, .), a block of the function itself:

    f([[A^H, C], [0, A^H]]) = [[f(A^H), L(A^H, C)], [0, f(A^H)]],    Ab = L(A^H, C),    Gb = Xb f(A)^H,

with C = G^H Xb, scaled to the size of A by a power of two. A shift is held constant. The function of the block matrix
is computed and certified as every other, and the error of the gradient is that of the whole, in its norm. Domain: that
of the function but for a root of a singular matrix, which has no derivative.
References: Mathias, SIAM J. Matrix Anal. Appl. 17 (1996); Higham, Functions of Matrices (2008), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.products import add_diagonal, product
from matfn_kernels.linalg.scaling import norm, normalise, rescale
from matfn_kernels.methods.gradients.products import added
from matfn_kernels.methods.gradients.program import EPS, Gradient, GradientProgram, joined
from matfn_kernels.methods.gradients.sylvester import either
from matfn_kernels.numbers.precision import Precision, working

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["GeneralGradient", "candidates"]

_OUTPUTS = ("x", "y")


@dataclass(frozen=True, slots=True)
class GeneralGradient(GradientProgram):
    """Gradients of a function of matrices without symmetry.

    Attributes:
        blocks: computes the function of the block matrices, unshifted.
    """

    blocks: Program

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a (batch, n, n), the cotangents and, if there is one, g (batch, m, n)."""
        own = self.program.run({name: inputs[name] for name in self.names})
        a = inputs["a"].to(self.wide)
        if own.shift is not None:
            a = add_diagonal(a.clone(), own.shift[:, None, None].nan_to_num(0.0))
        g = inputs["g"].to(self.wide) if "g" in inputs else None
        derivatives, failures, remarks = [], dict(own.failures), dict(own.remarks)
        for index, name in enumerate(_OUTPUTS):
            if name not in self.cotangents:
                continue
            derivative = _Derivative.of(self.blocks, index, a.mH.resolve_conj(), inputs[name].to(self.wide), g)
            derivatives.append(derivative)
            failures = either(failures, derivative.failures(~_failed(own)))
            remarks = either(remarks, derivative.found.remarks)
        gradients = [added([derivative.of_matrix() for derivative in derivatives])]
        if g is not None:
            gradients.append(derivatives[0].of_factor(inputs["x"].to(self.wide)))
        return replace(joined(own, gradients, self, inputs), failures=failures, remarks=remarks)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the function, and that of the block matrices."""
        return self.blocks.seconds(profile) * len(self.cotangents) + GradientProgram.seconds(self, profile)


def _failed(found: Findings) -> Tensor:
    """Matrices without an answer, (batch,)."""
    none = torch.zeros(len(found.error), dtype=torch.bool, device=found.error.device)
    return torch.stack([none, *found.failures.values()]).any(0)


@dataclass(frozen=True, slots=True)
class _Derivative:
    """The function of the block matrices of one cotangent.

    Attributes:
        found: what it gave.
        value: its output (batch, 2n, 2n), but for 2^lacking.
        lacking: (batch,).
        unit: exponent of the scaling of the cotangent, (batch,).
        size: norm of the scaled cotangent, (batch,).
    """

    found: Findings
    value: Tensor
    lacking: Tensor
    unit: Tensor
    size: Tensor

    @classmethod
    def of(cls, blocks: Program, index: int, a: Tensor, sent: Tensor, g: Tensor | None) -> _Derivative:
        """That of A^H for the cotangent sent of an output, and G if there is one."""
        x, exponent = normalise(sent)
        if g is not None:
            left, more = normalise(g)
            x, exponent = product(left.mH.resolve_conj(), x), exponent + more
        size = normalise(a)[1]
        corner = torch.cat((a, rescale(x, size)), -1)
        block = torch.cat((corner, torch.cat((torch.zeros_like(a), a), -1)), -2)
        found = blocks.run({"a": block})
        lacking = found.exponents[index] if found.exponents else None
        lacking = torch.zeros_like(size) if lacking is None else lacking
        return cls(found, found.outputs[index], lacking, exponent - size, norm(x))

    def failures(self, answered: Tensor) -> dict[str, Tensor]:
        """Why there is no gradient of matrices whose function is answered, (batch,)."""
        without = _failed(self.found) & answered
        beyond = self.found.failures.get("over_range", torch.zeros_like(without)) & without
        return {"over_range": beyond, "not_differentiable": without & ~beyond}

    def of_matrix(self) -> Gradient:
        """The gradient of A."""
        n = self.value.shape[-1] // 2
        value = self.value[:, :n, n:].contiguous()
        return self._judged(value, self.found.error, (self.size > 0).to(self.size.dtype), self.unit)

    def of_factor(self, cotangent: Tensor) -> Gradient:
        """The gradient of G, the cotangent times f(A^H)."""
        n, (x, exponent) = self.value.shape[-1] // 2, normalise(cotangent)
        value = product(x, self.value[:, :n, :n].contiguous())
        return self._judged(value, self.found.error + orthogonality(n) * EPS, norm(x), exponent)

    def _judged(self, value: Tensor, error: Tensor, factor: Tensor, exponent: Tensor) -> Gradient:
        """A gradient whose error is that of the whole output, times a factor, (batch,); of nothing it is exact."""
        most = norm(self.value) * factor
        change, sensitivity = (torch.where(factor > 0, x * most, 0.0) for x in (error, self.found.condition))
        return Gradient(value, change, norm(value), most, sensitivity, self.lacking + exponent)


def candidates(
    serving: Callable[[Signature], Sequence[Program]], symmetric: Callable[[Signature], Sequence[Program]]
) -> Callable[[Signature], Sequence[Program]]:
    """The candidates of a function's gradients: by block matrices where no symmetry is declared.

    Args:
        serving: the candidates of the function itself.
        symmetric: those of its gradients for symmetric matrices.
    """

    def chosen(call: Signature) -> Sequence[Program]:
        if call.parameter("structure") != "general":
            return symmetric(call)
        call.require_double()
        order = call.sizes("a")[-1]
        plain = tuple((name, shape) for name, shape in call.shapes if name not in call.cotangents)
        itself = replace(call, function=call.subject, shapes=plain)
        fixed = {"damping": 0.0, "shift": None}
        unshifted = tuple((name, fixed.get(name, value)) for name, value in call.parameters)
        wide = working(Precision.FP64, call.dtype)
        doubled = replace(itself, shapes=(("a", (2 * order, 2 * order)),), parameters=unshifted, dtype=wide)
        program, blocks = serving(itself)[0], serving(doubled)[0]
        return [GeneralGradient(program, 2 * order, call.names, call.cotangents, blocks)]

    return chosen
