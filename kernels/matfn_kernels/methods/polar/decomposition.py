"""The polar decomposition M = U H: the polar factor with H = (M^H M)^(1/2), from the singular value decomposition.

With M = W Sigma V^H they are U = W V^H and H = V Sigma V^H. Singular values at or below 8 eps sigma_max count as 0 in
U, as in `msign`, and are kept in H.
Error of H: if the computed factors are those of M + E then ||H - H(M)||_F <= 2^(1/2) ||E||_F.
Reference: Higham, Functions of Matrices (2008), chapter 8 and theorem 8.9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.decompositions import Decomposition, Singular
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.methods.polar.question import Polar
from matfn_kernels.methods.polar.svd import MISSED_MARGIN, NOISE_MARGIN, SvdPolar, missed
from matfn_kernels.numbers.precision import spacing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["SvdDecomposition", "candidates"]

_LIPSCHITZ: Final = math.sqrt(2.0)
"""Of H as a function of M in the Frobenius norm (theorem 8.9)."""


@dataclass(frozen=True, slots=True)
class SvdDecomposition(SvdPolar):
    """U and H from singular values and vectors; U is that of `SvdPolar`, with which it shares them."""

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """The two factors of matrices that have been decomposed."""
        assert isinstance(decomposition, Singular)
        found = SvdPolar.finish(self, decomposition, inputs)
        (u,) = found.outputs
        sent = self.question.sent(decomposition.m, decomposition.exponent, inputs, self.precision)
        is_wide = self.question.rows < self.question.columns
        vectors, m = (decomposition.u, decomposition.m.mH) if is_wide else (decomposition.vh.mH, decomposition.m)
        h = symmetrise(product(vectors * decomposition.sigma[:, None, :].to(vectors.dtype), vectors.mH))
        return replace(
            found,
            outputs=(u, h),
            exponents=(None, decomposition.exponent),
            residual_name="M - U H",
            residual=_residual(m, u, h),
            error=torch.maximum(found.error, self._error_of_h(decomposition, sent)),
        )

    def _error_of_h(self, decomposition: Singular, sent: Tensor) -> Tensor:
        """Relative error of H, (batch,): what LAPACK's backward error and a product leave, or what was measured.

        0 for a zero matrix.
        """
        sigma, rounding = decomposition.sigma.to(torch.float64), BACKWARD_ERROR * spacing(self.precision)
        size = norm(sigma)
        expected = NOISE_MARGIN * rounding * sigma[:, 0] / size
        measured = MISSED_MARGIN * missed(decomposition, torch.ones_like(sigma), sent) / size + rounding
        error = torch.maximum(expected, measured) + decomposition.skew
        return torch.where(size > 0, _LIPSCHITZ * error, 0.0)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty U, and H of order n, which is zero."""
        m = inputs["m"]
        h = torch.zeros(len(m), m.shape[-1], m.shape[-1], dtype=self.dtype)
        return torch.zeros(m.shape, dtype=self.dtype), h

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: those of U, and the product for H."""
        asked = self.question
        cubes = asked.columns**2 * asked.small / max(1, asked.small) ** 3
        return SvdPolar.seconds(self, profile) + cubes * profile.cost("gemm", self.precision, asked.small)


def _residual(m: Tensor, u: Tensor, h: Tensor) -> Tensor:
    """||M - U H||_F / ||M||_F on random columns, (batch,)."""
    z = probes.gaussian(m, m.shape[-1]).to(m.dtype)
    image = probes.times(m, z)
    return probes.ratio(image - probes.times(u, probes.times(h, z)), image)


def candidates(call: Signature) -> list[Program]:
    """The program that serves a call.

    Raises:
        Rejection: if bf16 was named, in which there is no singular value decomposition.
    """
    rows, columns = call.sizes("m")
    _, ceiling = call.direct_precisions()
    return [SvdDecomposition(Polar(rows, columns, None, call.dtype), ceiling, pinned=call.is_pinned)]
