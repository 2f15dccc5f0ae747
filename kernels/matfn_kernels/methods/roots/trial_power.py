"""Powers through eigh in float32 where float64 is allowed, for matrices that promise to need no more.

They must be positive definite far beyond float32's rounding. The measured error in their smallest eigenvalues is
corrected, and every verdict on other matrices is left to float64, in the same run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.decompositions import Eigen, scaled
from matfn_kernels.linalg.products import add_diagonal
from matfn_kernels.methods.roots import prices
from matfn_kernels.methods.roots.by_eigh import Diagonalised, by_eigh
from matfn_kernels.methods.roots.eigh_power import EighPower
from matfn_kernels.methods.roots.escalation import by_fallback
from matfn_kernels.methods.roots.isolated import exact_where_isolated
from matfn_kernels.methods.roots.power import PowerProgram
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.findings import merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["LOOSE", "TrialPower"]

LOOSE: Final = 1e-3
"""Tightest tolerance for which float32 is worth trying where float64 is allowed, and the largest estimate that is
taken: errors of inverse fourth roots at condition 1e4 are near 3e-5 (geometric spectra of order 128 to 512)."""

_PASSES: Final = 20.0
"""Passes (`prices.passes`), the backward error and its correction among them, of which eigh in float64 has none: an
estimate of which no measurement is recorded."""
_DEFINITE: Final = 64.0
"""Smallest eigenvalue, in eps of the largest, whose sign and place beside the default damping float32 knows. It is
eight times the damping's threshold and the usual backward error, both 8 eps; eigh in float32 may exceed the latter."""
_CORRECTED: Final = 8
"""One in so many eigenvalues, the smallest, has its error corrected: they carry most of it. Errors of inverse fourth
roots at condition 1e4 fall from 2.7e-4 to 3e-5 with it (geometric spectra of order 128 to 512)."""
_NORM_ROUNDS: Final = 2
"""Rounds of power iteration for the largest eigenvalue: one that is too small lets a matrix be tried in vain, no more,
since the spectrum that is found decides."""


@dataclass(frozen=True, slots=True)
class TrialPower(PowerProgram):
    """A power by eigh in float32 that leaves what it cannot answer to float64."""

    method: ClassVar[Literal["eigh"]] = "eigh"
    precision: ClassVar[Precision] = Precision.FP32
    ceiling: ClassVar[Precision] = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes the matrices for which float32 does, and at once the others, each as if all were alike."""
        return exact_where_isolated(self.power, inputs, self._run(inputs))

    def _run(self, inputs: Mapping[str, Tensor]) -> Findings:
        working = self.power.working(self.precision)
        good = _promising(self.power, scaled([inputs["a"]], working)[0])
        tried = self._tried(Eigen.of([inputs["a"]], working, good), inputs) if bool(good.any()) else None
        if tried is not None:
            good = good & (tried.error <= LOOSE)
            if bool(good.all()):
                return tried
        found = by_fallback(self, 1, ~good, inputs)
        return found if tried is None else merged(good, tried, found)

    def _tried(self, eigen: Eigen, inputs: Mapping[str, Tensor]) -> Findings:
        """Findings in float32, without an estimate where it cannot know a sign, and without verdicts."""
        matrices = Diagonalised.of(self.power, self.precision, eigen)
        found = by_eigh(matrices, matrices.corrected(-(-self.power.order // _CORRECTED)), inputs.get("g"))
        least = _DEFINITE * matrices.eps * matrices.values.abs().amax(-1)
        doubtful = matrices.rules.spectrum.amin(-1) <= least
        return replace(found, error=torch.where(doubtful, math.inf, found.error), failures={})

    def fallbacks(self) -> tuple[EighPower, ...]:
        """Eigh in float64."""
        return (EighPower(self.power, self.pinned, self.ceiling),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, products and passes, priced by the profile."""
        return prices.by_eigh(self.power, self.precision, _PASSES, profile)


def _promising(power: Power, a: Tensor) -> Tensor:
    """Whether a Cholesky factorisation gives hope for A (batch, n, n), Hermitian but for rounding, in float32."""
    eps = power.eps(TrialPower.precision)
    least = _DEFINITE * eps
    if -1 in power.signs:
        least = max(least, power.s / power.r * eps / LOOSE)
    damping = power.part
    if damping >= least:
        return torch.ones(len(a), dtype=torch.bool, device=a.device)
    z = probes.gaussian(a, power.order).to(a.dtype)
    largest = probes.growth(lambda y: probes.times(a, y), z, _NORM_ROUNDS)
    shifted = add_diagonal(a.clone(), ((damping - least) * largest)[:, None, None])
    return invariant.cholesky(shifted)[1]
