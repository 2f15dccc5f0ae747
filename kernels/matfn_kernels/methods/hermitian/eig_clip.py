"""Eigenvalues of symmetric (Hermitian) matrices clipped: V clip(w, lo, hi) V^H; lo = 0 is the nearest PSD matrix.

By eigh, on A scaled by a power of two; the bounds act on the eigenvalues in their own units, so that no bound is lost
to the scaling. A matrix with nothing to clip comes back as (A + A^H) / 2, bit for bit.

Error: if E is the backward error of eigh then f(A + E) - f(A) = F o E in the eigenbases of A and A + E, exactly, with
the divided differences F_ij = (f(w_i) - f(w_j')) / (w_i - w_j'), at most 1 for a clip. Bounding them over |w' - w| <=
||E|| gives a bound without linearising at the kinks; so does ||E||_F, which is smaller where few eigenvalues are large.
References: Higham, Linear Algebra Appl. 103 (1988); Bhatia, Matrix Analysis (1997), theorem V.3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR, asymmetric, relative_to_truth
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["EigClipProgram", "candidates"]


@dataclass(frozen=True, slots=True)
class EigClipProgram:
    """Clipped eigenvalues: the values that all matrices in a batch share.

    Attributes:
        order: n.
        lo: the lower bound, -inf if open.
        hi: the upper bound, inf if open.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    order: int
    lo: float
    hi: float
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "eigh"

    @property
    def shared(self) -> SharedEigen:
        """The eigendecomposition, which serves any function of the matrix."""
        return SharedEigen(self.order, working(self.precision, self.dtype))

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n)."""
        return inputs["a"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input a (batch, n, n)."""
        return self.finish(self.shared.of([inputs["a"]]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Clips the eigenvalues of matrices that have been diagonalised."""
        del inputs
        assert isinstance(decomposition, Eigen)
        a, exponent, vectors = decomposition.a, decomposition.exponent, decomposition.v
        w = invariant.ldexp(decomposition.w.to(torch.float64), exponent[:, None])
        noise = BACKWARD_ERROR * spacing(self.precision) * w.abs().amax(-1)
        inside = ((w - noise[:, None] >= self.lo) & (w + noise[:, None] <= self.hi)).all(-1)
        f, scale = _scaled(w.clamp(self.lo, self.hi))
        value = symmetrise(invariant.product(vectors * f[:, None, :].to(vectors.dtype), vectors.mH))
        value = torch.where(inside[:, None, None], a, value)
        size = invariant.row_norm(f)
        condition = torch.where(size > 0, (invariant.row_norm(w) / invariant.ldexp(size, scale)).clamp_min(1), 1.0)
        backward = torch.where(size > 0, 2 * BACKWARD_ERROR * spacing(self.precision) * condition, torch.inf)
        error = torch.where(inside, 0.0, torch.minimum(self._error(w, noise, f, scale), backward))
        narrowing = spacing(self.precision) if spacing(self.precision) > torch.finfo(self.dtype).eps else 0.0
        rounding = torch.where(inside, narrowing, 2 * BACKWARD_ERROR * spacing(self.precision))
        return Findings(
            outputs=(value,),
            exponents=(torch.where(inside, exponent, scale.to(torch.int64)),),
            residual_name="X - A",
            residual=torch.where(inside, 0.0, _residual(a, vectors, decomposition.w)),
            error=relative_to_truth(error + rounding),
            condition=condition,
            remarks={"asymmetric": asymmetric(decomposition.given, a, torch.finfo(self.dtype).eps)},
        )

    def _error(self, w: Tensor, noise: Tensor, f: Tensor, scale: Tensor) -> Tensor:
        """||F o E||_F / ||f(A)||_F for the worst E of a backward error, (batch,); 0 where f is constant around w."""
        delta = invariant.ldexp(noise, -scale)[:, None, None]
        bounds = [
            invariant.ldexp((w + side * noise[:, None]).clamp(self.lo, self.hi), -scale[:, None]) for side in (-1, 1)
        ]
        difference = torch.maximum(*((f[:, :, None] - bound[:, None, :]).abs() for bound in bounds))
        gap = (w[:, :, None] - w[:, None, :]).abs() / noise[:, None, None] - 1
        moved = torch.minimum(difference / gap.clamp_min(torch.finfo(torch.float64).tiny), delta)
        moved = torch.where(difference > 0, moved, torch.zeros_like(moved))
        size = invariant.row_norm(f)
        total = invariant.matrix_norm(moved) / math.sqrt(self.order)
        return torch.where(total > 0, total / size, torch.zeros_like(total))

    def fallbacks(self) -> tuple[EigClipProgram, ...]:
        """No fallback: the program has the highest precision that the call allows."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return profile.cost("eigh", self.precision, self.order) + profile.cost("gemm", self.precision, self.order)


def _scaled(f: Tensor) -> tuple[Tensor, Tensor]:
    """F 2^-e (batch, n) with the largest magnitude in [1/2, 1), and e (batch,)."""
    exponent = torch.frexp(f.abs().amax(-1)).exponent
    return invariant.ldexp(f, -exponent[:, None]), exponent


def _residual(a: Tensor, vectors: Tensor, values: Tensor) -> Tensor:
    """||V w V^H - A|| / ||A|| on random columns: the clip is exact on the matrix that was diagonalised."""
    z = probes.gaussian(a, a.shape[-1]).to(a.dtype)
    target = probes.times(a, z)
    found = probes.times(vectors, values[..., None].to(a.dtype) * probes.times(vectors.mH, z))
    return probes.ratio(found - target, target)


def candidates(call: Signature) -> list[EigClipProgram]:
    """The one program that serves a call."""
    _, ceiling = call.direct_precisions()
    lo, hi = call.parameter("lo"), call.parameter("hi")
    lower = float(lo) if isinstance(lo, int | float) else -math.inf
    upper = float(hi) if isinstance(hi, int | float) else math.inf
    return [EigClipProgram(call.sizes("a")[-1], lower, upper, call.dtype, ceiling, ceiling)]
