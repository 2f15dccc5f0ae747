"""Eigenvalues of symmetric (Hermitian) matrices clipped: V clip(w, lo, hi) V^H; lo = 0 is the nearest PSD matrix.

By eigh, on A scaled by a power of two; the bounds act on the eigenvalues in their own units, so that no bound is lost
to the scaling. A matrix with nothing to clip comes back as (A + A^H) / 2, bit for bit.

Error: if E is the backward error of eigh then f(A + E) - f(A) = F o E in the eigenbases of A and A + E, exactly, with
the divided differences F_ij = (f(w_i) - f(w_j')) / (w_i - w_j'), at most 1 for a clip. Bounding them over |w' - w| <=
||E|| gives a bound without linearising at the kinks: row i of F o E is at most the largest F_ij times row i of E. So
does ||E||_F, which is smaller where few eigenvalues are large. The rows of E are measured, the rounding of A to a named
precision among them; where they are below what LAPACK may leave, that counts.
References: Higham, Linear Algebra Appl. 103 (1988); Bhatia, Matrix Analysis (1997), theorem V.3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import (
    BACKWARD_ERROR,
    asymmetric,
    backward_error,
    in_double,
    orthogonality,
    relative_to_truth,
)
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.linalg.scaling import rescale
from matfn_kernels.methods.hermitian.lockstep_clip import LockstepClip
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.kernel_prices import pass_cost
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["EigClipProgram", "candidates"]

_PASSES: Final = 40.0
"""Passes (`kernel_prices.pass_cost`) of scaling and certifying: 38 to 50 in batches of 256 of orders 16 to 128."""


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

    kernel: ClassVar[Kernel] = Kernel.LIBRARY

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

    def run_some(self, inputs: Mapping[str, Tensor], wanted: Tensor) -> Findings:
        """Computes the matrices that are wanted (batch,), each as if all were."""
        return self.finish(Eigen.of([inputs["a"]], self.shared.dtype, wanted), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Clips the eigenvalues of matrices that have been diagonalised."""
        assert isinstance(decomposition, Eigen)
        a, exponent, vectors = decomposition.a, decomposition.exponent, decomposition.v
        w = invariant.ldexp(decomposition.w.to(torch.float64), exponent[:, None])
        off = _Backward.of(decomposition, self._sent(decomposition, inputs), self.precision)
        noise = invariant.ldexp(off.norm, exponent)
        inside = ((w - noise[:, None] >= self.lo) & (w + noise[:, None] <= self.hi)).all(-1)
        f, scale = _scaled(w.clamp(self.lo, self.hi))
        value = symmetrise(invariant.product(vectors * f[:, None, :].to(vectors.dtype), vectors.mH))
        value = torch.where(inside[:, None, None], a, value)
        size, whole = invariant.row_norm(f), invariant.row_norm(w)
        condition = torch.where(size > 0, (whole / invariant.ldexp(size, scale)).clamp_min(1), 1.0)
        backward = torch.where(size > 0, off.relative * condition, torch.inf)
        moved = self._moved(w, noise, f, scale) * (off.rows / off.norm[:, None])
        error = torch.where(inside, 0.0, torch.minimum(_over(invariant.row_norm(moved), size), backward))
        narrowing = spacing(self.precision) if spacing(self.precision) > torch.finfo(self.dtype).eps else 0.0
        product = max(2 * BACKWARD_ERROR, orthogonality(self.order)) * spacing(self.precision)
        rounding = torch.where(inside, narrowing, product)
        return Findings(
            outputs=(value,),
            exponents=(torch.where(inside, exponent, scale.to(torch.int64)),),
            residual_name="X - A",
            residual=torch.where(inside, 0.0, off.residual),
            error=relative_to_truth(error + rounding + torch.where(inside, 0.0, decomposition.skew)),
            condition=condition,
            remarks={"asymmetric": asymmetric(decomposition.given, a, torch.finfo(self.dtype).eps)},
        )

    def _sent(self, eigen: Eigen, inputs: Mapping[str, Tensor]) -> Tensor:
        """The Hermitian part of A as it was sent, in double precision and scaled as it was diagonalised."""
        if eigen.a.dtype == self.dtype:
            return in_double(eigen)
        double = torch.complex128 if self.dtype.is_complex else torch.float64
        return symmetrise(rescale(inputs["a"].to(double), -eigen.exponent))

    def _moved(self, w: Tensor, noise: Tensor, f: Tensor, scale: Tensor) -> Tensor:
        """The largest of F_ij ||E|| in each row, in the units of F, (batch, n); 0 where f is constant around w."""
        delta = invariant.ldexp(noise, -scale)[:, None, None]
        bounds = [
            invariant.ldexp((w + side * noise[:, None]).clamp(self.lo, self.hi), -scale[:, None]) for side in (-1, 1)
        ]
        difference = torch.maximum(*((f[:, :, None] - bound[:, None, :]).abs() for bound in bounds))
        gap = (w[:, :, None] - w[:, None, :]).abs() / noise[:, None, None] - 1
        moved = torch.minimum(difference / gap.clamp_min(torch.finfo(torch.float64).tiny), delta)
        return torch.where(difference > 0, moved, torch.zeros_like(moved)).amax(-1)

    def variants(self) -> tuple[EigClipProgram | LockstepClip, ...]:
        """Itself, and all of it in C where that serves."""
        return (self, LockstepClip(self)) if LockstepClip.serves(self) else (self,)

    def fallbacks(self) -> tuple[EigClipProgram, ...]:
        """No fallback: the program has the highest precision that the call allows."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, a product and passes."""
        products = profile.cost("eigh", self.precision, self.order) + profile.cost("gemm", self.precision, self.order)
        return products + _PASSES * pass_cost(profile, self.order)


def _scaled(f: Tensor) -> tuple[Tensor, Tensor]:
    """F 2^-e (batch, n) with the largest magnitude in [1/2, 1), and e (batch,)."""
    exponent = torch.frexp(f.abs().amax(-1)).exponent
    return invariant.ldexp(f, -exponent[:, None]), exponent


def _over(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole, 0 where both vanish."""
    return torch.where(part > 0, part / whole, torch.zeros_like(part))


@dataclass(frozen=True, slots=True)
class _Backward:
    """Backward errors E of eigendecompositions, in the units in which they were computed.

    Attributes:
        rows: norms of the rows of E in the eigenbasis (batch, n).
        norm: its 2-norm (batch,), not 0.
        relative: ||E||_F / ||A||_F (batch,).
        residual: the same as measured.
    """

    rows: Tensor
    norm: Tensor
    relative: Tensor
    residual: Tensor

    @classmethod
    def of(cls, eigen: Eigen, sent: Tensor, precision: Precision) -> _Backward:
        """The backward error as measured against A as it was sent, or LAPACK's law where that is larger."""
        values = eigen.w.to(torch.float64)
        law = (BACKWARD_ERROR * spacing(precision) * values.abs().amax(-1)).clamp_min(torch.finfo(torch.float64).tiny)
        measured = backward_error(eigen, sent)
        whole, size = invariant.row_norm(measured), invariant.row_norm(values)
        residual = _over(whole, size)
        return cls(
            rows=torch.maximum(measured, torch.maximum(law, eigen.backward)[:, None]),
            norm=torch.maximum(torch.where(measured.amax(-1) <= law, law, whole), eigen.backward),
            relative=torch.maximum(residual, _over(eigen.backward, size)).clamp_min(
                2 * BACKWARD_ERROR * spacing(precision)
            ),
            residual=residual,
        )


def candidates(call: Signature) -> list[EigClipProgram]:
    """The one program that serves a call."""
    _, ceiling = call.direct_precisions()
    lo, hi = call.parameter("lo"), call.parameter("hi")
    lower = float(lo) if isinstance(lo, int | float) else -math.inf
    upper = float(hi) if isinstance(hi, int | float) else math.inf
    return [EigClipProgram(call.sizes("a")[-1], lower, upper, call.dtype, ceiling, ceiling)]
