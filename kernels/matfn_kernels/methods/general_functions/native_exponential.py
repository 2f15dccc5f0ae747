"""The exponential e^(t A) of real matrices in C, by scaling and squaring of a polynomial in five products.

e^(t A) = e^m (I + Y)^(2^s) with the mean m of the eigenvalues of t A and Y = e^B - I, B = (t A - m I) / 2^s, by the
Taylor polynomial of degree 18, in which the identity is not rounded. Symmetric matrices take half of each product.

Error: what a product rounds off is bounded by a law, and counted as measured on random columns where that is less with
a margin, or more. It grows by no more than the derivative of the squarings that follow, and ||e^(sB)||_2 <= e^(s mu)
for 0 <= s <= 1, mu the largest eigenvalue of (B + B^T) / 2: a Cholesky factor proves a bound of it, or of a symmetric
matrix the norms of its powers. The rounding of t A, of its symmetric part and the truncation are backward errors, which
grow by e^mu. So does the condition number of a symmetric matrix; that of others is stated as if they were normal, by
||e^A||_2. Left to another program are matrices of which e^mu is far above that, or the bound of the error above the
default tolerance, large ones, and symmetric ones with numbers that are alone in their row and column.
References: Bader, Blanes and Casas, Mathematics 7, 1174 (2019); Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 31
(2009); Higham, Functions of Matrices (2008), section 10.2 and theorem 10.11.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Self

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.scaling import overflows
from matfn_kernels.methods.roots.isolated import isolated, may_be_isolated
from matfn_kernels.numbers.precision import FLOOR, Precision, working
from matfn_kernels.programs.findings import Findings, replaced
from matfn_kernels.programs.program import Pinned
from matfn_kernels.programs.tolerances import default_tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["NativeExponential", "SymmetricPart"]

_LARGEST: Final = 512
"""Largest order that is computed in C as a whole: seven matrices of it are the workspace of a thread, and one matrix
takes one thread."""
_SYMMETRIC_PRODUCTS: Final = 10.0
"""Price of an answer in products of iterations in C: five, five squarings at most as a rule, and the columns, which are
half of the whole at order 16 (AMD EPYC, AVX-512: 3.6 without a squaring at order 256, 8.6 at order 32)."""
_PRODUCTS: Final = 15.0
"""That price without symmetry, where a product takes up to twice as long: 11 to 13 with two squarings."""
_ANOTHER: Final = 1
"""The fallback that computes what is left, in `Findings.escalated`."""


@dataclass(frozen=True, slots=True)
class NativeExponential:
    """The exponential of real matrices in C; the key of a batch.

    Attributes:
        order: n.
        t: factor of the matrices.
        dtype: of the inputs and outputs.
        is_symmetric: whether the exponential is that of the symmetric part.
        usual: the program that computes what is left.
    """

    order: int
    t: float
    dtype: torch.dtype
    is_symmetric: bool
    usual: Program

    method: ClassVar[str] = "scaling_squaring"
    kernel: ClassVar[Kernel] = Kernel.NATIVE
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    @classmethod
    def serving(cls, order: int, t: float, usual: Program, *, symmetric: bool) -> Sequence[Self]:
        """The program beside the usual one, if the kernels in C take such matrices."""
        serves = native.is_built() and order <= _LARGEST and not usual.dtype.is_complex
        fits = serves and usual.ceiling is cls.ceiling
        return (cls(order, t, usual.dtype, symmetric, usual),) if fits else ()

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input a (batch, n, n)."""
        a = inputs["a"].to(working(self.precision, self.dtype))
        value, found = native.exponentials(a, self.t, symmetric=self.is_symmetric)
        is_open = (found.open != 0) | self._misses(found) | self._exact(inputs["a"])
        answered = self._findings(value, found)
        if not bool(is_open.any()):
            return answered
        left = self.usual.run({"a": inputs["a"][is_open]})
        if self.usual.method != self.method:
            left = replace(left, escalated=torch.full_like(left.error, _ANOTHER))
            answered = replace(answered, rank=torch.full_like(found.error, -1))
        return replaced(answered, is_open, left)

    def _misses(self, found: native.ExponentialFindings) -> Tensor:
        """Of which matrices the bound of the error is above what is usual, (batch,): together others take less time."""
        eps = torch.finfo(self.dtype).eps
        return found.error > default_tolerance(eps, 1.0, found.condition, eps)

    def _exact(self, a: Tensor) -> Tensor:
        """Which symmetric matrices (batch, n, n) have numbers that are alone, whose exponentials are known."""
        alone = may_be_isolated(a) if self.is_symmetric else torch.zeros(len(a), dtype=torch.bool)
        if bool(alone.any()):
            alone[alone.clone()] = isolated(a[alone]).any(-1)
        return alone

    def _findings(self, value: Tensor, found: native.ExponentialFindings) -> Findings:
        exponent = found.exponent.nan_to_num(0.0).to(torch.int64)
        return Findings(
            outputs=(value,),
            exponents=(exponent if bool(exponent.any()) else None,),
            residual_name="X_(k+1) - X_k^2, from X_0 = e^(t A / 2^s)",
            residual=found.residual,
            error=found.error,
            condition=found.condition,
            steps=found.steps.nan_to_num(0.0),
            failures={"over_range": overflows(value, exponent, self.dtype)},
            remarks={"asymmetric": found.asymmetry > FLOOR * torch.finfo(self.dtype).eps},
        )

    def fallbacks(self) -> tuple[Program, ...]:
        """The usual program, and those that it falls back on."""
        return (self.usual, *self.usual.fallbacks())

    @property
    def pinned(self) -> bool:
        """Whether the caller asked for the method, so that no other may answer."""
        return self.usual.method == self.method and isinstance(self.usual, Pinned) and self.usual.pinned

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return self.usual.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: products of iterations in C, priced by the profile."""
        products = _SYMMETRIC_PRODUCTS if self.is_symmetric else _PRODUCTS
        return products * profile.cost("native", self.precision, self.order)


@dataclass(frozen=True, slots=True)
class SymmetricPart:
    """A program for matrices without symmetry that is given the symmetric part of each.

    Attributes:
        program: the program.
    """

    program: Program

    @property
    def method(self) -> str:
        """That of the program."""
        return self.program.method

    @property
    def precision(self) -> Precision:
        """That of the program."""
        return self.program.precision

    @property
    def ceiling(self) -> Precision:
        """That of the program."""
        return self.program.ceiling

    @property
    def dtype(self) -> torch.dtype:
        """That of the program."""
        return self.program.dtype

    @property
    def pinned(self) -> bool:
        """That of the program."""
        return isinstance(self.program, Pinned) and self.program.pinned

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input a (batch, n, n)."""
        a = inputs["a"].to(working(self.precision, self.dtype))
        part = (a / 2 + a.mH / 2).resolve_conj()
        skew, size = (invariant.matrix_norm(x, torch.float64) for x in (a - part, a))
        found = self.program.run({"a": part})
        return replace(found, remarks={"asymmetric": 2 * skew > FLOOR * torch.finfo(self.dtype).eps * size})

    def fallbacks(self) -> tuple[Program, ...]:
        """Those of the program, likewise."""
        return tuple(SymmetricPart(program) for program in self.program.fallbacks())

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """That of the program."""
        return self.program.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """Those of the program."""
        return self.program.seconds(profile)
