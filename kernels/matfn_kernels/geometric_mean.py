"""Geometric mean A # B = A^(1/2) (A^(-1/2) B A^(-1/2))^(1/2) A^(1/2) of positive definite (Hermitian) matrices.

With Cholesky factors A = L L^H and B = K K^H it is A # B = L Q K^H, where Q is the unitary polar factor of L^-1 K:
L^-1 (A # B) L^-H = (W W^H)^(1/2) for W = L^-1 K = U S V^H, and L U S U^H L^H = L (U V^H) K^H since L U S = K V. No
square root of a small eigenvalue is taken, so that the error grows with the worse of the two condition numbers and not,
as for L (L^-1 B L^-H)^(1/2) L^H, with their product. That matches the problem: a relative change of A by delta in the
positive order changes A # B by at most delta.

Domain: positive definite; a smallest eigenvalue that is 0, or negative by more than rounding, is `not_positive`; one
lost in rounding gives an answer with an infinite condition. Error: BACKWARD_ERROR eps times the larger condition
number; at most a fifth of that was seen, up to order 9.
References: Bhatia, Positive Definite Matrices (2007), chapter 4; Iannazzo, Linear Algebra Appl. 438 (2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels import probes
from matfn_kernels.findings import Findings
from matfn_kernels.precision import Precision, spacing, working
from matfn_kernels.products import symmetrise
from matfn_kernels.roots import asymmetric
from matfn_kernels.scaling import normalise, power_of_two, real_dtype
from matfn_kernels.spectral import BACKWARD_ERROR, eigh, relative_to_truth, svd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.calibration import Profile
    from matfn_kernels.signature import Signature

__all__ = ["GeometricMeanProgram", "candidates"]


@dataclass(frozen=True, slots=True)
class GeometricMeanProgram:
    """What a batch of means must have in common to be computed together.

    Attributes:
        order: n.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    order: int
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "cholesky_polar"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a and b (batch, n, n)."""
        a, b = (_Factored.of(inputs[name].to(working(self.precision, self.dtype)), self) for name in ("a", "b"))
        swapped = (a.condition > b.condition)[:, None, None]
        left, right = torch.where(swapped, b.factor, a.factor), torch.where(swapped, a.factor, b.factor)
        u, _, vh = svd(torch.linalg.solve_triangular(left, right, upper=False))
        mean = symmetrise(left @ (u @ vh) @ right.mH)
        condition = torch.maximum(a.condition, b.condition)
        error = relative_to_truth(BACKWARD_ERROR * spacing(self.precision) * condition)
        value, whole = power_of_two(mean, a.exponent + b.exponent, 1, 2)
        return Findings(
            outputs=(value,),
            exponents=(whole,),
            residual_name="X A^{-1} X - B",
            residual=_residual(mean, left, right),
            error=error,
            condition=condition,
            failures={"not_positive": a.not_positive | b.not_positive},
            remarks={"asymmetric": a.asymmetric | b.asymmetric},
        )

    def fallbacks(self) -> tuple[GeometricMeanProgram, ...]:
        """None: it runs in the highest precision that the call allows."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a pair: two eigh, and an svd that costs about as much as two more."""
        return 4 * profile.cost("eigh", self.precision, self.order) + 3 * profile.cost(
            "gemm", self.precision, self.order
        )


@dataclass(frozen=True, slots=True)
class _Factored:
    """A 2^-exponent = L L^H for a batch, and what its eigenvalues say; a matrix without a factor gets a stand-in."""

    factor: Tensor
    exponent: Tensor
    condition: Tensor
    not_positive: Tensor
    asymmetric: Tensor

    @classmethod
    def of(cls, given: Tensor, program: GeometricMeanProgram) -> _Factored:
        given, exponent = normalise(given)
        a = symmetrise(given)
        values = eigh(a)[0].to(torch.float64)
        bottom, top = values[:, 0], values[:, -1]
        noise = BACKWARD_ERROR * spacing(program.precision) * values.abs().amax(-1)
        condition = torch.where(bottom > 0, top / bottom.clamp_min(torch.finfo(torch.float64).tiny), torch.inf)
        not_positive = (bottom < -noise) | (bottom == 0) | (top <= 0)
        return cls(
            _cholesky(a, 4 * noise),
            exponent,
            condition,
            not_positive,
            asymmetric(given, a, torch.finfo(program.dtype).eps),
        )


def _cholesky(a: Tensor, noise: Tensor) -> Tensor:
    """L of each matrix; where rounding has made one indefinite, L of the matrix lifted by `noise`."""
    factor, failed = torch.linalg.cholesky_ex(a)
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    lifted = torch.linalg.cholesky_ex(a + noise[:, None, None].to(real_dtype(a.dtype)) * identity)[0]
    found: Tensor = torch.where((failed > 0)[:, None, None], lifted, factor)
    return found


def _residual(mean: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Relative residual of X A^-1 X = B on random columns, A and B in the order in which they were used."""
    z = probes.gaussian(mean, mean.shape[-1]).to(mean.dtype)
    target = right @ (right.mH @ z)
    return probes.ratio(mean @ torch.cholesky_solve(mean @ z, left) - target, target)


def candidates(call: Signature) -> list[GeometricMeanProgram]:
    """The one program that serves a call."""
    _, ceiling = call.direct_precisions()
    return [GeometricMeanProgram(call.sizes("a")[-1], call.dtype, ceiling, ceiling)]
