"""Geometric mean A # B = A^(1/2) (A^(-1/2) B A^(-1/2))^(1/2) A^(1/2) of positive definite (Hermitian) matrices.

With Cholesky factors A = L L^H and B = K K^H it is A # B = L Q K^H, where Q is the unitary polar factor of L^-1 K:
L^-1 (A # B) L^-H = (W W^H)^(1/2) for W = L^-1 K = U S V^H, and L U S U^H L^H = L (U V^H) K^H since L U S = K V. No
square root of a small eigenvalue is taken, so that the error grows with the worse of the two condition numbers and not,
as for L (L^-1 B L^-H)^(1/2) L^H, with their product. That matches the problem: a relative change of A by delta in the
positive order changes A # B by at most delta.

Domain: positive definite; a smallest eigenvalue that is exactly 0, or negative by more than rounding, is
`not_positive`; where rounding has lost it the answer has no estimate. Error: with P = L U both matrices are diagonal in
one basis, A = P P^H and B = P S^2 P^H, and dA = P E P^H, dB = P F P^H give dX = P ((F + S E S)_ij / (s_i + s_j)) P^H to
first order. That is evaluated for random errors of the size that the factorisations leave, plus the product's rounding.
References: Bhatia, Positive Definite Matrices (2007), chapter 4; Iannazzo, Linear Algebra Appl. 438 (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR, asymmetric, relative_to_truth
from matfn_kernels.linalg.invariant import eigh, svd
from matfn_kernels.linalg.measured import undecomposed, unfactored, unsolved
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import narrowed, norm, power_of_two, real_dtype
from matfn_kernels.numbers.modular import is_singular
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["MARGIN", "SMALL", "Factored", "GeometricMeanProgram", "gaussian_errors", "largest_row", "within"]

MARGIN: Final = 8.0
"""Factor of the estimate over the error of random rounding, as `spectral.BACKWARD_ERROR`.

True errors were at most 1.7 times that of random rounding for 157 random pairs in fp32, orders 2 to 64, conditions to
1e5, against float64, and 6.6 times for a graded pair in float64, order 5, against 120 digits."""
SMALL: Final = 0.1
"""Largest change of A, B or Q, relative to them, at which the error to first order is trusted."""
_PROBES: Final = 4
"""Random errors that are tried: the estimate is the root mean square of their effects, each priced at 20 products."""
_PROBE_ROWS: Final = 32
"""Rows that the random errors of one kind have together where n is small: more are tried for n up to 6."""
_SEED: Final = 20240903
"""Any number: it makes the errors the same in every process."""


@dataclass(frozen=True, slots=True)
class GeometricMeanProgram:
    """Geometric means: the values that all pairs in a batch share.

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
        a, b = (Factored.of(inputs[name], self) for name in ("a", "b"))
        swapped = (a.condition > b.condition)[:, None, None]
        left, right = torch.where(swapped, b.factor, a.factor), torch.where(swapped, a.factor, b.factor)
        between = invariant.solve_triangular(left, right, upper=False)
        u, sigma, vh = svd(between)
        mean = symmetrise(product(product(left, product(u, vh)), right.mH))
        condition = torch.maximum(a.condition, b.condition)
        backward, skew = undecomposed(between, u, sigma, vh)
        unexplained = a.unfactored + b.unfactored + unsolved(left, between, right) + backward / sigma[:, 0] + skew
        error = _Polar.of(left, right, u, sigma, vh).error(spacing(self.precision), unexplained)
        value, whole = power_of_two(mean, a.exponent + b.exponent, 1, 2)
        return Findings(
            outputs=(value,),
            exponents=(whole,),
            residual_name="X A^{-1} X - B",
            residual=_residual(mean, left, right),
            error=relative_to_truth(torch.where(a.lifted | b.lifted, torch.inf, error)),
            condition=condition,
            failures={"a_not_definite": a.not_positive, "b_not_definite": b.not_positive},
            remarks={"asymmetric": a.asymmetric | b.asymmetric},
        )

    def fallbacks(self) -> tuple[GeometricMeanProgram, ...]:
        """No fallback: the program has the highest precision that the call allows."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a pair: two eigh, an svd that costs about as much as two more, and the estimate."""
        gemm = profile.cost("gemm", self.precision, self.order)
        return 4 * profile.cost("eigh", self.precision, self.order) + 20 * _PROBES * gemm


@dataclass(frozen=True, slots=True)
class Factored:
    """Factors A 2^-exponent = L L^H of a batch, with condition and definiteness by the eigenvalues.

    A matrix without a factor has that of a shifted one, and is `lifted`.
    """

    factor: Tensor
    exponent: Tensor
    condition: Tensor
    lifted: Tensor
    not_positive: Tensor
    asymmetric: Tensor
    unfactored: Tensor

    @classmethod
    def of(cls, sent: Tensor, program: Program) -> Factored:
        """The factors of matrices as they were sent, in the program's precision."""
        given, exponent = narrowed(sent, working(program.precision, program.dtype))
        a = symmetrise(given)
        values = eigh(a)[0].to(torch.float64)
        bottom, top = values[:, 0], values[:, -1]
        unit = spacing(program.precision)
        noise = BACKWARD_ERROR * unit * values.abs().amax(-1)
        factor, lifted = _cholesky(a, 4 * noise)
        return cls(
            factor,
            exponent,
            (top / torch.maximum(bottom, unit * top)).nan_to_num(torch.inf),
            lifted,
            (bottom < -noise) | (top <= 0) | _singular(sent, bottom <= noise),
            asymmetric(given, a, torch.finfo(program.dtype).eps),
            unfactored(a, factor),
        )


def _cholesky(a: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """L of each matrix, or of A + noise I where A has no factor, and which those are."""
    factor, exists = invariant.cholesky(a)
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    lifted = invariant.cholesky(a + noise[:, None, None].to(real_dtype(a.dtype)) * identity)[0]
    return torch.where(exists[:, None, None], factor, lifted), ~exists


def _singular(sent: Tensor, suspects: Tensor) -> Tensor:
    """Whether a matrix is a suspect and singular in exact arithmetic, (batch,)."""
    wide = sent.to(torch.complex128 if sent.dtype.is_complex else torch.float64)
    pairs = zip(wide, suspects.tolist(), strict=True)
    found = [suspect and is_singular(symmetrise(a[None])[0].cpu().numpy()) for a, suspect in pairs]
    return torch.tensor(found, device=sent.device)


@dataclass(frozen=True, slots=True)
class _Polar:
    """L^-1 K = U S V^H in double precision, (batch, 1, n, n), of which X = L U V^H K^H is made."""

    left: Tensor
    right: Tensor
    u: Tensor
    s: Tensor
    vh: Tensor

    @classmethod
    def of(cls, left: Tensor, right: Tensor, u: Tensor, s: Tensor, vh: Tensor) -> _Polar:
        double = torch.complex128 if left.dtype.is_complex else torch.float64
        left, right, u, vh = (x[:, None].to(double) for x in (left, right, u, vh))
        return cls(left, right, u, s[:, None].to(torch.float64), vh)

    def error(self, spacing: float, unexplained: Tensor) -> Tensor:
        """Relative error of X for rounding errors of a spacing, or as large as what it does not explain (batch,).

        Infinite where they are not small beside A, B or Q.
        """
        unit = unexplained.clamp_min(spacing)
        order = self.s.shape[-1]
        noise = gaussian_errors(order).to(self.left.device, self.left.dtype)
        inward = self._inverse_basis()
        e, f = (within(inward, factor, x) for factor, x in ((self.left, noise[0]), (self.right, noise[1])))
        rows, columns = self.s[..., :, None], self.s[..., None, :]
        turn = invariant.divided(self._turn(inward, noise[2], noise[3]), rows + columns)
        moved = invariant.divided(f + rows * e * columns, rows + columns) + turn * columns
        basis = product(self.left, self.u)
        moved = largest_row(product(product(basis, moved), basis.mH))
        left, middle, right = map(invariant.magnitude, (self.left, product(self.u, self.vh), self.right))
        rounding = norm(product(product(left, middle), right.mT))
        scaled = invariant.divided(invariant.divided(f, rows), columns)
        reach = torch.stack([norm(x) for x in (e, scaled, turn)]).amax(0) / math.sqrt(noise.shape[1])
        error = MARGIN * unit * (1 + (moved + rounding) / norm(product(basis * columns, basis.mH)))
        return torch.where(BACKWARD_ERROR * unit * reach < SMALL, error, torch.inf)

    def _inverse_basis(self) -> Tensor:
        """P^-1 = U^H L^-1 (batch, 1, n, n)."""
        return invariant.solve_triangular(self.left[:, 0].mH, self.u[:, 0], upper=True).mH[:, None]

    def _turn(self, inward: Tensor, solve: Tensor, decompose: Tensor) -> Tensor:
        """U^H E V - V^H E^H U for the errors E of L^-1 K and of its svd."""
        e = product(invariant.magnitude(self.left) * solve, self.u * self.s[..., None, :])
        e = product(inward, e) + self.s[..., :1, None] * decompose
        turn: Tensor = e - e.mH
        return turn


def within(inward: Tensor, factor: Tensor, noise: Tensor) -> Tensor:
    """P^-1 E P^-H for the backward error E of a Cholesky factor, |e_ij| <= sqrt(a_ii a_jj), (batch, probes, n, n)."""
    scaled = inward * invariant.row_norm(factor)[..., None, :].to(inward.dtype)
    return product(product(scaled, (noise + noise.mT) / math.sqrt(2)), scaled.mH)


def largest_row(x: Tensor) -> Tensor:
    """Largest norm of a row of X (batch, probes, n, n), root mean square over the probes, (batch,).

    Errors of all entries alike have n^(1/2) times as large a Frobenius norm as their model allows; an error that few
    entries make up has not.
    """
    rows = invariant.row_norm(x, torch.float64).square()
    largest: Tensor = (invariant.sums(rows.movedim(1, -1)) / x.shape[1]).amax(-1).sqrt()
    return largest


def gaussian_errors(order: int) -> Tensor:
    """Fixed Gaussian matrices (4, probes, n, n), one for each kind of error, and more probes where n is small."""
    generator = torch.Generator().manual_seed(_SEED)
    shape = (4, max(_PROBES, _PROBE_ROWS // order), order, order)
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def _residual(mean: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Relative residual of X A^-1 X = B on random columns, A and B in the order in which they were used."""
    z = probes.gaussian(mean, mean.shape[-1]).to(mean.dtype)
    target = probes.times(right, probes.times(right.mH, z))
    return probes.ratio(probes.times(mean, invariant.cholesky_solve(probes.times(mean, z), left)) - target, target)
