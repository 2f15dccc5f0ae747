"""Powers by the coupled iteration in bf16, where the caller allows no other arithmetic and there is no fallback.

LAPACK has no bf16. The damping still comes from eigenvalues, of A in float64, since nothing stands behind the iteration
that would find it. The same eigenvectors give the power in float64, with which the answer is compared: a law of the
rounding in bf16 would call nearly every answer wrong that is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from matfn_kernels.linalg import probes
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.kernel_choice import Kernel, fitting
from matfn_kernels.linalg.products import add_diagonal
from matfn_kernels.linalg.scaling import rescale
from matfn_kernels.methods.roots.by_eigh import Diagonalised, by_eigh
from matfn_kernels.methods.roots.by_iteration import Sent, by_iteration, seconds
from matfn_kernels.methods.roots.coupled_iteration import DISTRUST, CoupledIteration
from matfn_kernels.methods.roots.power import PowerProgram
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["Bf16Power"]


@dataclass(frozen=True, slots=True)
class Bf16Power(PowerProgram):
    """A power by the coupled iteration in bf16, its damping found by eigh in float64.

    Attributes:
        kernel: whose products it uses.
    """

    method: ClassVar[Literal["engine"]] = "engine"
    precision: ClassVar[Precision] = Precision.BF16
    ceiling: ClassVar[Precision] = Precision.BF16

    kernel: Kernel = Kernel.LIBRARY

    @property
    def iteration(self) -> CoupledIteration:
        """Its steps and the law of its error."""
        return CoupledIteration(self.power, self.precision)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the power has rows, g (batch, m, n)."""
        matrices, left = Sent.of(inputs["a"], self.iteration.working), inputs.get("g")
        diagonalised = Diagonalised.of(
            self.power, Precision.FP64, Eigen.of([inputs["a"]], torch.float64), self.precision
        )
        exact = by_eigh(diagonalised, diagonalised.lawful(), left)
        damped = add_diagonal(matrices.a.clone(), diagonalised.rules.shift[:, None, None].to(matrices.a.dtype))
        found = by_iteration(self.iteration, self.kernel, replace(matrices, a=damped), left)
        return replace(
            found,
            error=_error(found, exact),
            condition=exact.condition,
            rank=exact.rank,
            damping=exact.damping,
            shift=exact.shift,
            failures=exact.failures,
            remarks={**exact.remarks, **matrices.asymmetric(self.iteration)},
        )

    def fallbacks(self) -> tuple[Bf16Power, ...]:
        """None: every other method exceeds bf16."""
        return ()

    def variants(self) -> tuple[Bf16Power, ...]:
        """The program by every kernel that can run it."""
        return tuple(replace(self, kernel=kernel) for kernel in fitting(self.dtype, self.power.order))

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: steps, proof and products, priced by the profile."""
        return seconds(self.iteration, self.kernel, profile)


def _error(found: Findings, exact: Findings) -> Tensor:
    """Distance from the exact power, which has an error too, (batch,); infinite where no digit is left."""
    distance = torch.stack(_distances(found, exact)).amax(0)
    return torch.where(distance < DISTRUST, distance + exact.error, math.inf)


def _distances(found: Findings, exact: Findings) -> list[Tensor]:
    """||X - X*||_F / ||X*||_F of each output, (batch,); infinite where X is not finite."""
    columns = zip(found.outputs, found.exponents, exact.outputs, exact.exponents, strict=True)
    return [_distance(value, exponent, truth, other) for value, exponent, truth, other in columns]


def _distance(value: Tensor, exponent: Tensor | None, truth: Tensor, other: Tensor | None) -> Tensor:
    """The distance of X 2^exponent from X* 2^other."""
    assert exponent is not None
    assert other is not None
    wide = rescale(value.to(truth.dtype), exponent - other)
    return probes.ratio(wide - truth, truth).nan_to_num(math.inf, math.inf)
