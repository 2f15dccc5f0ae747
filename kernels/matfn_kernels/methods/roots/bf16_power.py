"""Powers by the coupled iteration in bf16, where the caller allows no other arithmetic and there is no fallback.

LAPACK has no bf16. The damping still comes from eigenvalues, of A in float64, since nothing stands behind the iteration
that would find it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.decompositions import scaled
from matfn_kernels.linalg.invariant import eigh
from matfn_kernels.linalg.kernel_choice import Kernel, fitting
from matfn_kernels.linalg.products import add_diagonal, symmetrise
from matfn_kernels.methods.roots.by_iteration import by_iteration, seconds, with_asymmetry
from matfn_kernels.methods.roots.coupled_iteration import CoupledIteration
from matfn_kernels.methods.roots.damping import Regularised, regularise
from matfn_kernels.methods.roots.power import PowerProgram
from matfn_kernels.numbers.precision import Precision, spacing

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
        given, exponent = scaled([inputs["a"]], self.iteration.working)
        a = symmetrise(given)
        rules = self._rules(a, exponent)
        damped = add_diagonal(a.clone(), rules.shift[:, None, None].to(a.dtype))
        found = by_iteration(self.iteration, self.kernel, damped, exponent, inputs.get("g"))
        found = replace(
            found,
            damping=rules.damping,
            shift=invariant.ldexp(rules.shift, exponent),
            failures=rules.failures,
            remarks=rules.remarks,
        )
        return with_asymmetry(self.iteration, found, given, a)

    def _rules(self, a: Tensor, exponent: Tensor) -> Regularised:
        """Damping and verdicts from eigenvalues in float64."""
        values = eigh(a.to(torch.float64))[0]
        noise = BACKWARD_ERROR * spacing(Precision.FP64) * values.abs().amax(-1)
        return regularise(self.power, self.iteration.eps, values, noise, exponent)

    def fallbacks(self) -> tuple[Bf16Power, ...]:
        """None: every other method exceeds bf16."""
        return ()

    def variants(self) -> tuple[Bf16Power, ...]:
        """The program by every kernel that can run it."""
        return tuple(replace(self, kernel=kernel) for kernel in fitting(self.dtype, self.power.order))

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: steps, proof and products, priced by the profile."""
        return seconds(self.iteration, self.kernel, profile)
