"""Gradients of logarithms, exponentials and real powers of symmetric (Hermitian) matrices, G times powers among them.

The function's rules of damping hold, and the derivative is that of A + shift I with the shift held constant; with
damping="range" that on the range, its rank held constant. An eigenvalue 0, where a power below 1 has no derivative, is
`singular`. The derivative at a symmetric matrix is self-adjoint: the gradient of A for the cotangent E is the Fréchet
derivative in the direction (E + E^H) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.methods.gradients.eigenbasis import Cotangent, Term, noise_of, spectral, summed
from matfn_kernels.methods.gradients.program import EPS, Gradient, GradientProgram, joined
from matfn_kernels.methods.gradients.sensitivity import multiplied
from matfn_kernels.methods.gradients.spectral_differences import of_function
from matfn_kernels.methods.spectral.by_eigh import Image
from matfn_kernels.methods.spectral.candidates import question_of
from matfn_kernels.methods.spectral.maps import RealPower
from matfn_kernels.methods.spectral.program import SpectralProgram
from matfn_kernels.methods.spectral.question import admitted
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.methods.gradients.differences import Differences
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.signature import Signature

__all__ = ["SpectralGradient", "candidates"]

_LOST: Final = 0.1
"""Largest part of an eigenvalue that its noise may be where the error to first order is trusted."""


@dataclass(frozen=True, slots=True)
class SpectralGradient(GradientProgram):
    """Gradients of a function of symmetric matrices.

    Attributes:
        program: computes the function itself.
    """

    program: SpectralProgram

    @property
    def shared(self) -> SharedEigen:
        """The eigendecomposition, which serves any function of the matrix."""
        return SharedEigen(self.order, self.wide)

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n)."""
        return inputs["a"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a (batch, n, n), the cotangent x and, if there is one, g (batch, m, n)."""
        return self.finish(self.shared.of([inputs["a"]]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """The function of matrices that have been diagonalised, and its gradients."""
        assert isinstance(decomposition, Eigen)
        own = self.program.finish(decomposition, inputs)
        image = Image.of(admitted(self.program.question, Precision.FP64, decomposition))
        left = None if "g" not in inputs else normalise(inputs["g"].to(self.wide))
        cotangent = Cotangent.of(inputs["x"].to(self.wide), left, decomposition.v)
        basis = _Basis.of(image)
        gradients = [basis.of_matrix(cotangent)]
        if left is not None:
            gradients.append(basis.of_factor(cotangent, left[1]))
        found = joined(own, gradients, self, inputs)
        return replace(found, failures={**found.failures, "not_differentiable": _vanishing(image)})


@dataclass(frozen=True, slots=True)
class _Basis:
    """Values of a function in the eigenbasis, its divided differences, and the noise in units of its arguments."""

    image: Image
    differences: Differences
    noise: Tensor

    @classmethod
    def of(cls, image: Image) -> _Basis:
        """The differences g[x_i, x_j] of the arguments."""
        question, rules, arguments = image.matrices.power, image.matrices.rules, image.arguments
        x = arguments.x.clamp_min(0) if question.function.is_definite else arguments.x
        keep = rules.keep if question.drops else None
        found = of_function(question.function, x, image.f / arguments.scale[:, None], keep)
        return cls(image, found, noise_of(image.matrices.eigen) * arguments.unit.abs())

    def of_matrix(self, cotangent: Cotangent) -> Gradient:
        """The gradient of A."""
        arguments, eigen = self.image.arguments, self.image.matrices.eigen
        turned = torch.where(arguments.unit < 0, -1.0, 1.0)[:, None, None]
        differences = replace(self.differences, first=self.differences.first * turned)
        exponent = arguments.lacking - eigen.exponent + cotangent.exponent
        term = Term(differences, cotangent.in_units(arguments.scale * arguments.unit.abs(), exponent, exponent))
        return self._trusted(summed([term], eigen.v, self.noise))

    def of_factor(self, cotangent: Cotangent, exponent: Tensor) -> Gradient:
        """The gradient of G 2^-exponent, the cotangent times f(A)."""
        f, eigen, arguments = self.image.f, self.image.matrices.eigen, self.image.arguments
        inside = multiplied(f[:, None, :].expand_as(cotangent.turned.real), cotangent.turned)
        weights = invariant.row_norm(cotangent.turned.mT)
        first = self.differences.first * arguments.scale[:, None, None]
        crossed = invariant.product(weights.square()[:, None, :], first.square()).sqrt()[:, 0]
        change = norm(crossed) * self.noise + 2 * EPS * norm(cotangent.turned) * norm(f)
        change = change + orthogonality(f.shape[-1]) * EPS * norm(inside)
        most = f.abs().amax(-1) * norm(cotangent.turned)
        lacking = arguments.lacking + cotangent.exponent - exponent
        return self._trusted(spectral(product(inside, eigen.v.mH), change, norm(inside), most, lacking))

    def _trusted(self, gradient: Gradient) -> Gradient:
        """A gradient without an estimate where noise is much of an eigenvalue near which the function is not smooth."""
        question, rules, x = self.image.matrices.power, self.image.matrices.rules, self.image.arguments.x.abs()
        if question.function.is_entire and not question.drops:
            return gradient
        least = torch.where(rules.keep, x, torch.inf) if question.drops else x
        lost = (self.noise > _LOST * least.amin(-1)) | rules.ambiguous
        return gradient.without_estimate(lost & (gradient.change > 0))


def _vanishing(image: Image) -> Tensor:
    """Where a power below 1 has no derivative: an eigenvalue is 0, (batch,)."""
    question, spectrum = image.matrices.power, image.matrices.rules.spectrum
    function = question.function
    steep = isinstance(function, RealPower) and function.p < 1 and not question.drops
    return (spectrum[:, 0] <= 0) & steep


def candidates(call: Signature) -> list[SpectralGradient]:
    """The one program that serves a call."""
    call.require_double()
    program = SpectralProgram(question_of(call), Precision.FP64)
    return [SpectralGradient(program, program.question.order, call.names, call.cotangents)]
