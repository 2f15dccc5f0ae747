"""Squared Fréchet (Wasserstein-2) distance of Gaussians: |mu1 - mu2|^2 + tr S1 + tr S2 - 2 ||S1^(1/2) S2^(1/2)||_*.

With factors S = L L^H, L = V diag(w)^(1/2), the nuclear norm is that of L2^H L1 = P s R^H, and with Q = P R^H the part
of the covariances is ||L1 - L2 Q||_F^2: a sum of squares, which keeps digits where the covariances nearly agree and the
traces cancel. Any unitary Q gives a value that is too large by no more than a square of its error.
Formulas through tr sqrtm(S1 S2), or eigenvalues of S1^(1/2) S2 S1^(1/2), lose half the digits of rank-deficient data.

Domain: symmetric (Hermitian) positive semidefinite to rounding, means real or complex; the distance is real.
Error, relative to the sum of the three positive terms: the nuclear norm is monotone in both matrices, so that a
backward error of eigh of size delta leaves it between its values at w - delta and at w + delta. The upper one is
computed, the lower one bounded by Re tr(Q^H M), which no unitary Q makes larger than the nuclear norm of M. Both are
bounds, and small where the null spaces coincide. The backward error is measured against S as sent, and the sums of
the eigenvalues against the traces; the means are subtracted before anything is rounded to a named precision.
References: Dowson and Landau, J. Multivariate Anal. 12 (1982); Heusel et al., arXiv 1706.08500.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR, backward_error
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.invariant import eigh, singular_values, svd
from matfn_kernels.linalg.measured import undecomposed, unexplained
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.linalg.scaling import real_dtype, rescale
from matfn_kernels.numbers.precision import Precision, double, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["FrechetProgram", "candidates"]

_FLOOR: Final = 8.0
"""In eps of the largest eigenvalue: negative eigenvalues beyond it are remarked on, as for other functions."""
_HALF_RANGE: Final = 2.0**1021
"""Magnitude of parts of a mean up to which differences do not overflow."""
_NO_EXPONENT: Final = -5000
"""The exponent of zero, below that of every float64."""


@dataclass(frozen=True, slots=True)
class FrechetProgram:
    """Fréchet distances: the values that all pairs in a batch share.

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
        return "eigh"

    @property
    def output_dtypes(self) -> tuple[torch.dtype, ...]:
        """The distance is real."""
        return (real_dtype(self.dtype),)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs mu1, mu2 (batch, n) and s1, s2 (batch, n, n)."""
        mu1, mu2, s1, s2 = (inputs[name].to(double(self.dtype)) for name in ("mu1", "mu2", "s1", "s2"))
        apart, lacking = _difference(mu1, mu2)
        exponent = _even_exponent(apart, lacking, s1, s2)
        shift = rescale(apart[:, None], lacking - exponent.div(2, rounding_mode="floor"))[:, 0]
        dtype = working(self.precision, self.dtype)
        first, second = (_Gaussian.of(rescale(s, -exponent), dtype, self.precision) for s in (s1, s2))
        squares = invariant.squares(shift)
        angles = invariant.product(second.vectors.mH, first.vectors)
        nearest, middle, unexplained = _nearest(first, second, angles)
        bent = invariant.matrix_norm(first.factor - invariant.product(second.factor, nearest), torch.float64).square()
        value = (squares + bent + first.below + second.below).clamp_min(0)
        below = _traced(nearest, _paired(first, second, angles, -1))
        above = invariant.sums(singular_values(_paired(first, second, angles, 1)))
        spread = 2 * torch.maximum(above - middle, middle - below) + first.missed + second.missed
        terms = squares + first.trace + second.trace
        spread = spread + unexplained + (first.skew + second.skew) * terms
        rounding = BACKWARD_ERROR * spacing(self.precision) * math.sqrt(self.order)
        error = torch.where(terms > 0, spread / terms, torch.zeros_like(terms)) + rounding
        return Findings(
            outputs=(value,),
            exponents=(exponent,),
            residual_name="S^{1/2} S^{1/2} - S",
            residual=torch.maximum(first.residual, second.residual),
            error=error,
            share=torch.where(terms > 0, value / terms, 0.0).clamp_max(1),
            condition=1 + error / (BACKWARD_ERROR * spacing(self.precision)),
            failures={"s1_negative": first.negative(self.dtype), "s2_negative": second.negative(self.dtype)},
            remarks={"negative": first.clamped(self.dtype) | second.clamped(self.dtype)},
        )

    def fallbacks(self) -> tuple[FrechetProgram, ...]:
        """No fallback: the program has the highest precision that the call allows."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Zeros: a distance in no dimensions."""
        return (torch.zeros(inputs["mu1"].shape[0], dtype=self.output_dtypes[0]),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a pair: two eigh, one svd, and singular values alone, which cost about an eigh."""
        eigh, svd = (profile.cost(operation, self.precision, self.order) for operation in ("eigh", "svd"))
        return 3 * eigh + svd


@dataclass(frozen=True, slots=True)
class _Gaussian:
    """Eigendecompositions of covariances (batch, n, n); `noise` bounds the change of each eigenvalue by rounding.

    `skew` is 0 where LAPACK's law holds for the vectors.
    """

    values: Tensor
    vectors: Tensor
    trace: Tensor
    noise: Tensor
    residual: Tensor
    skew: Tensor

    @classmethod
    def of(cls, s: Tensor, dtype: torch.dtype, precision: Precision) -> _Gaussian:
        """The decompositions of S (batch, n, n), in double precision and near 1, in a dtype."""
        s = symmetrise(s)
        narrow = s.to(dtype)
        values, vectors = eigh(narrow)
        none = torch.zeros_like(values[:, 0])
        backward, skew = unexplained(narrow, values, vectors)
        off = backward_error(Eigen(narrow, none, none, narrow, values, vectors, backward, skew), s)
        law = BACKWARD_ERROR * spacing(precision) * values.abs().amax(-1).to(torch.float64)
        law = law + invariant.matrix_norm(s - narrow)
        whole, size = invariant.row_norm(off), invariant.matrix_norm(s)
        return cls(
            values=values.to(torch.float64),
            vectors=vectors,
            trace=invariant.sums(s.diagonal(dim1=-2, dim2=-1).real),
            noise=torch.maximum(torch.where(off.amax(-1) <= law, law, whole), backward),
            residual=torch.where(whole > 0, whole / size, torch.zeros_like(whole)),
            skew=skew,
        )

    @property
    def below(self) -> Tensor:
        """Sum of the negative eigenvalues, which count in the trace and nowhere else, (batch,)."""
        return invariant.sums(self.values.clamp_max(0))

    @property
    def missed(self) -> Tensor:
        """Distance of the sum of the eigenvalues from the trace, (batch,)."""
        return (invariant.sums(self.values) - self.trace).abs()

    @property
    def factor(self) -> Tensor:
        """L of S = L L^H."""
        return invariant.multiplied(self.roots(0)[:, None, :].to(real_dtype(self.vectors.dtype)), self.vectors)

    def roots(self, side: int) -> Tensor:
        """Square roots of the eigenvalues, moved up or down by the noise."""
        return (self.values + side * self.noise[:, None]).clamp_min(0).sqrt()

    def negative(self, dtype: torch.dtype) -> Tensor:
        """Whether an eigenvalue is negative beyond rounding."""
        limit = math.sqrt(torch.finfo(dtype).eps) * self.values[:, -1].clamp_min(0)
        return self.values[:, 0] < -limit

    def clamped(self, dtype: torch.dtype) -> Tensor:
        """Whether an eigenvalue that counts as 0 is negative by more than an exact computation leaves."""
        return self.values[:, 0] < -_FLOOR * torch.finfo(dtype).eps * self.values[:, -1]


def _difference(mu1: Tensor, mu2: Tensor) -> tuple[Tensor, Tensor]:
    """(D, e) with mu1 - mu2 = D 2^e: e is 0 unless the difference may overflow."""
    peaks = torch.stack([invariant.magnitude(mu).amax(-1) for mu in (mu1, mu2)]).amax(0).to(torch.float64)
    exponent = torch.where(peaks > _HALF_RANGE, 2, 0)
    first, second = (rescale(mu[:, None], -exponent)[:, 0] for mu in (mu1, mu2))
    return first - second, exponent


def _even_exponent(apart: Tensor, lacking: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
    """The even e (batch,) for which 2^-e S and 2^(-e/2) mu have entries of order 1; exact, 0 where all are zero."""
    size = torch.stack([invariant.magnitude(s).amax((-2, -1)) for s in (s1, s2)]).amax(0).to(torch.float64)
    mean = invariant.magnitude(apart).amax(-1).to(torch.float64)
    halves = [torch.frexp(x).exponent.where(x > 0, _NO_EXPONENT) for x in (size.sqrt(), mean)]
    halves[1] = halves[1] + lacking
    return 2 * torch.maximum(*halves).where((size > 0) | (mean > 0), 0)


def _paired(first: _Gaussian, second: _Gaussian, angles: Tensor, side: int) -> Tensor:
    """L2^H L1 with both spectra moved up or down, from the products V2^H V1 of the vectors."""
    dtype = real_dtype(first.vectors.dtype)
    turned = invariant.multiplied(second.roots(side)[:, :, None].to(dtype), angles)
    return invariant.multiplied(first.roots(side)[:, None, :].to(dtype), turned)


def _nearest(first: _Gaussian, second: _Gaussian, angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The unitary Q for which L2 Q is nearest to L1, (batch, n, n), and ||L2^H L1||_*, (batch,).

    And what of their errors the law of svd does not explain.
    """
    paired = _paired(first, second, angles, 0)
    u, sigma, vh = svd(paired)
    backward, skew = undecomposed(paired, u, sigma, vh)
    missed = 2 * math.sqrt(sigma.shape[-1]) * backward + skew * (first.trace + second.trace)
    return invariant.product(u, vh), invariant.sums(sigma), missed


def _traced(q: Tensor, m: Tensor) -> Tensor:
    """Re tr(Q^H M), (batch,): at most the nuclear norm of M, since Q is unitary."""
    parts = torch.view_as_real(q) * torch.view_as_real(m) if q.is_complex() else q * m
    return invariant.sums(parts.flatten(1))


def candidates(call: Signature) -> list[FrechetProgram]:
    """The one program that serves a call."""
    _, ceiling = call.direct_precisions()
    return [FrechetProgram(call.sizes("mu1")[-1], call.dtype, ceiling, ceiling)]
