"""Gradients of clipped eigenvalues, V (F o S) V^H with F_ij = (f_i - f_j) / (w_i - w_j) and the clip f.

F is 1 for two eigenvalues inside the bounds and 0 for two beyond the same bound. An eigenvalue on a bound, where the
clip has no derivative, counts as inside; then there is no error estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.scaling import rescale
from matfn_kernels.methods.gradients.differences import clipped
from matfn_kernels.methods.gradients.eigenbasis import Cotangent, Term, noise_of, summed
from matfn_kernels.methods.gradients.program import GradientProgram, joined
from matfn_kernels.methods.hermitian.eig_clip import EigClipProgram
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.signature import Signature

__all__ = ["EigClipGradient", "candidates"]


@dataclass(frozen=True, slots=True)
class EigClipGradient(GradientProgram):
    """Gradients of clipped eigenvalues.

    Attributes:
        program: the clip itself.
    """

    program: EigClipProgram

    @property
    def shared(self) -> SharedEigen:
        """The eigendecomposition, which serves any function of the matrix."""
        return SharedEigen(self.order, self.wide)

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n)."""
        return inputs["a"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a and x (batch, n, n)."""
        return self.finish(self.shared.of([inputs["a"]]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Clips of matrices that have been diagonalised, and their gradients."""
        assert isinstance(decomposition, Eigen)
        own, noise = self.program.finish(decomposition, inputs), noise_of(decomposition)
        cotangent = Cotangent.of(inputs["x"].to(self.wide), None, decomposition.v)
        one = torch.ones_like(noise)[:, None]
        lo, hi = (rescale(bound * one, -decomposition.exponent) for bound in (self.program.lo, self.program.hi))
        differences, near = clipped(decomposition.w.to(torch.float64), lo, hi, noise[:, None])
        gradient = summed([Term(differences, cotangent)], decomposition.v, noise)
        found = joined(own, [gradient.without_estimate(near)], self, inputs)
        return replace(found, remarks={**found.remarks, "on_a_bound": near})


def candidates(call: Signature) -> list[EigClipGradient]:
    """The one program that serves a call."""
    call.require_double()
    order = call.sizes("a")[-1]
    lo, hi = call.parameter("lo"), call.parameter("hi")
    program = EigClipProgram(
        order,
        float(lo) if isinstance(lo, int | float) else -math.inf,
        float(hi) if isinstance(hi, int | float) else math.inf,
        call.dtype,
        Precision.FP64,
        Precision.FP64,
    )
    return [EigClipGradient(program, order, call.names, call.cotangents)]
