"""Certificates of claimed eigenvalues w and eigenvectors V of Hermitian A: the three errors of eigh, measured.

Claims of any size, order and kind are measured (`eigenpairs`). With s the real parts of w in ascending order, d = max
|w_i - s_i| counts the order of the values, and what is imaginary in them, in the errors of values and residual:

    |w_i - lambda_i| <= |s_i - lambda_i| + d,    ||A V - V diag(w)|| <= ||A V - V diag(Re w)|| + d n^(1/2) ||V||_2,

with ||A||_2 >= n^(-1/2) ||A||_F and ||V||_2^2 <= 1 + ||V^H V - I||. Factors of modulus 1 of the columns of V, and the
basis of a cluster, are as free as they are of eigh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from matfn_kernels.linalg.backward_error import asymmetric
from matfn_kernels.linalg.decompositions import scaled
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.linalg.scaling import norm, rescale
from matfn_kernels.methods.hermitian.eigenpairs import Measured, double, forming_seconds
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.profile import Profile

__all__ = ["ClaimedEigenpairs"]


@dataclass(frozen=True, slots=True)
class ClaimedEigenpairs:
    """Claimed eigenpairs: the values that all matrices in a batch share.

    Attributes:
        order: n.
        dtype: of the inputs and claims.
        claims: names of the inputs that are the eigenvalues and the vectors.
        precision: the arithmetic of eigh in such a call; claims are measured in double precision.
        ceiling: the arithmetic that no fallback exceeds.
    """

    kernel: ClassVar[Kernel] = Kernel.LIBRARY

    order: int
    dtype: torch.dtype
    claims: tuple[str, ...]
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "eigh"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Measures a batch: input a (batch, n, n) and the claims (batch, n) and (batch, n, n)."""
        values, vectors = (inputs[name] for name in self.claims)
        given, exponent = scaled([inputs["a"]], double(self.dtype))
        a = symmetrise(given)
        w, rest = (rescale(part.to(torch.float64), -exponent) for part in _parts(values))
        measured = Measured.wholly(a, w, vectors.to(a.dtype))
        return Findings(
            outputs=(),
            residual_name="A V - V diag(w)",
            residual=measured.residual,
            error=_error(measured, norm(a), w, rest),
            condition=torch.ones_like(measured.error),
            remarks={"asymmetric": asymmetric(given, a, torch.finfo(self.dtype).eps)},
        )

    def fallbacks(self) -> tuple[ClaimedEigenpairs, ...]:
        """None: the measurement has no better one."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """No outputs."""
        del inputs
        return ()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return forming_seconds(profile, self.order)


def _parts(values: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts (batch, n)."""
    if not values.dtype.is_complex:
        return values, torch.zeros_like(values)
    real, imaginary = torch.view_as_real(values.resolve_conj()).unbind(-1)
    return real, imaginary


def _error(measured: Measured, size: Tensor, w: Tensor, rest: Tensor) -> Tensor:
    """The largest of the three errors of w + i rest and V for A of norm `size`, (batch,); infinite beyond all range."""
    n = math.sqrt(w.shape[-1])
    astray = ((w - w.sort(-1).values).abs() + rest.abs()).amax(-1)
    moved = measured.error + n * astray * (1 + n * measured.skew).sqrt() / size
    is_zero = torch.maximum(w.abs(), rest.abs()).amax(-1) == 0
    of_nothing = torch.where(is_zero, measured.error, math.inf)  # A = 0, whose eigenvalues are exact or infinitely off
    return torch.where(size > 0, moved, of_nothing).nan_to_num(math.inf, math.inf)
