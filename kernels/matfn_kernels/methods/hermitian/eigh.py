"""Eigenvalues, ascending, and orthonormal eigenvectors of Hermitian matrices: A V = V diag(w).

Eigenvectors are determined up to a factor of modulus 1, and within a cluster of eigenvalues that rounding does not tell
apart up to the basis of its space: any is right. Of each column the entry of largest modulus, the first of several, is
made real and positive; entries that are equal to rounding leave the sign open.

Error: the largest of max |w_i - lambda_i| / ||A||_2, ||A V - V diag(w)||_F / ||A||_F and ||V^H V - I||_F / n^(1/2), all
measured on the numbers that are returned (`eigenpairs`). The condition of the three is 1: what separates eigenvalues
counts for single vectors only.
Reference: Parlett, The Symmetric Eigenvalue Problem (1998).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import asymmetric
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.linalg.scaling import real_dtype, rescale
from matfn_kernels.methods.hermitian.claimed_eigenpairs import ClaimedEigenpairs
from matfn_kernels.methods.hermitian.eigenpairs import Measured, double, measuring_seconds, turned
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["EighProgram", "candidates", "largest_rows", "phase", "sent"]


@dataclass(frozen=True, slots=True)
class EighProgram:
    """Eigenpairs: the values that all matrices in a batch share.

    Attributes:
        order: n.
        dtype: of the inputs and vectors.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    kernel: ClassVar[Kernel] = Kernel.LIBRARY

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
        """Real eigenvalues, and vectors."""
        return real_dtype(self.dtype), self.dtype

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
        """Measures the eigenpairs of matrices that have been diagonalised."""
        assert isinstance(decomposition, Eigen)
        a = sent(decomposition, inputs["a"])
        w = decomposition.w.to(real_dtype(self.dtype))
        v = turned(decomposition.v, phase(decomposition.v)).to(self.dtype)
        measured = Measured.of(a, w.to(torch.float64), v.to(a.dtype))
        return Findings(
            outputs=(w, v),
            exponents=(decomposition.exponent, None),
            residual_name="A V - V diag(w)",
            residual=measured.residual,
            error=measured.error,
            condition=torch.ones_like(measured.error),
            remarks={"asymmetric": asymmetric(decomposition.given, decomposition.a, torch.finfo(self.dtype).eps)},
        )

    def fallbacks(self) -> tuple[EighProgram, ...]:
        """Itself in the highest precision that the call allows."""
        higher = spacing(self.ceiling) < spacing(self.precision)
        return (replace(self, precision=self.ceiling),) if higher else ()

    def judging(self, claims: tuple[str, ...]) -> ClaimedEigenpairs:
        """Claimed eigenpairs are measured as its own are."""
        return ClaimedEigenpairs(self.order, self.dtype, claims, self.precision, self.ceiling)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """No values and empty matrices."""
        vectors = torch.zeros(inputs["a"].shape, dtype=self.dtype)
        return torch.zeros(vectors.shape[:-1], dtype=real_dtype(self.dtype)), vectors

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, and what measures it."""
        return profile.cost("eigh", self.precision, self.order) + measuring_seconds(profile, self.order)


def sent(eigen: Eigen, a: Tensor) -> Tensor:
    """The Hermitian part of A as it was sent, in double precision and scaled as it was diagonalised."""
    return symmetrise(rescale(a.to(double(a.dtype)), -eigen.exponent))


def largest_rows(v: Tensor) -> Tensor:
    """The row of the largest entry of each column, the first of several, (batch, n)."""
    return torch.from_numpy(invariant.magnitude(v).cpu().numpy().argmax(-2)).to(v.device)  # numpy's is the first


def phase(v: Tensor) -> Tensor:
    """Numbers (batch, n) of modulus 1 that make the largest entry of each column real and positive."""
    rows = largest_rows(v)
    entry, length = (x.gather(-2, rows[:, None, :])[:, 0] for x in (v.resolve_conj(), invariant.magnitude(v)))
    return invariant.divided(entry.conj().resolve_conj(), torch.where(length > 0, length, 1.0))


def candidates(call: Signature) -> list[EighProgram]:
    """The one program that serves a call."""
    low, ceiling = call.direct_precisions()
    return [EighProgram(call.sizes("a")[-1], call.dtype, low, ceiling)]
