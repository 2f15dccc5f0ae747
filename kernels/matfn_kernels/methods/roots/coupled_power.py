"""Powers by the coupled iteration, for matrices that Cholesky factorisation proves positive definite in their dtype.

One that has no proof has an infinite error estimate and is handed on to a fallback.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self

import torch

from matfn_kernels.linalg.kernel_choice import Kernel, fitting
from matfn_kernels.methods.roots import by_iteration, natively
from matfn_kernels.methods.roots.coupled_iteration import CoupledIteration
from matfn_kernels.methods.roots.eigh_power import EighPower
from matfn_kernels.methods.roots.escalation import completed
from matfn_kernels.methods.roots.isolated import exact_where_isolated
from matfn_kernels.methods.roots.native_eigh_power import NativeEighPower
from matfn_kernels.methods.roots.power import PowerProgram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["CoupledPower", "IteratedPower", "NativePower"]

_SHARE_OF_EPS: Final = 1 / 32
"""Of the spacing of an output in fewer digits: what an iteration in float64 may leave of it, a sixteenth of the
output's own rounding."""
_DOUBLE_ORDER: Final = 128
"""Largest order at which the iteration in float64 takes less time than eigh does. At order 32 and condition 1e6 it is
60 microseconds of a core, and eigh with all that stands around it 160 (Intel Xeon)."""

_IN_VAIN: Final = 1 / 2
"""Part of the matrices with default damping that are taken to be singular: factors of Shampoo mostly are, covariances
of many samples are not."""


@dataclass(frozen=True, slots=True)
class CoupledPower(PowerProgram):
    """The part that the coupled iteration's programs have in common, one for each kind of kernels.

    Attributes:
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
        allowed: relative error that the iteration may leave beside rounding.
    """

    method: ClassVar[Literal["engine"]] = "engine"

    precision: Precision
    ceiling: Precision
    allowed: float = 0.0

    @property
    def iteration(self) -> CoupledIteration:
        """Its steps and the law of its error."""
        return CoupledIteration(self.power, self.precision, self.allowed)

    def variants(self) -> tuple[CoupledPower, ...]:
        """The iteration by every kernel that can run it."""
        fields = (self.power, self.pinned, self.precision, self.ceiling, self.allowed)
        iterated = tuple(IteratedPower(*fields, kernel) for kernel in fitting(self.dtype, self.power.order))
        return (*iterated, NativePower(*fields)) if self.power.negative[1] and not self.power.is_shifted else iterated

    def widened(self) -> Self:
        """The iteration in the highest precision, to a part of the spacing of the output."""
        return replace(self, precision=self.ceiling, allowed=_SHARE_OF_EPS * torch.finfo(self.dtype).eps)

    def _seconds_after(self, profile: Profile) -> float:
        """Seconds of the eigendecompositions of those matrices that turn out to be singular."""
        may_fail = self.power.damps_by_default and not self.pinned
        return _IN_VAIN * sum(fallback.seconds(profile) for fallback in self._diagonalised()) if may_fail else 0.0

    def _diagonalised(self) -> tuple[EighPower | NativeEighPower, ...]:
        """Eigh in the highest precision allowed, on any device; none where the caller asked for the iteration."""
        return () if self.pinned else (EighPower(self.power, self.pinned, self.ceiling),)


@dataclass(frozen=True, slots=True)
class IteratedPower(CoupledPower):
    """A power by the coupled iteration with torch's kernels or a GPU's.

    Attributes:
        kernel: whose products it uses.
    """

    kernel: Kernel = Kernel.LIBRARY

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the power has rows, g (batch, m, n)."""
        matrices = by_iteration.Sent.of(inputs["a"], self.iteration.working)
        run = by_iteration.shifted_by_iteration if self.power.is_shifted else by_iteration.by_iteration
        found = run(self.iteration, self.kernel, matrices, inputs.get("g"))
        return exact_where_isolated(self.power, inputs, completed(self, found, inputs))

    @property
    def is_recordable(self) -> bool:
        """Always: a run is launches of kernels alone."""
        return True

    def fallbacks(self) -> tuple[EighPower | NativeEighPower, ...]:
        """Eigh in the highest precision allowed, unless the caller asked for the iteration."""
        return self._diagonalised()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: steps, proof and products, priced by the profile."""
        return by_iteration.seconds(self.iteration, self.kernel, profile) + self._seconds_after(profile)


@dataclass(frozen=True, slots=True)
class NativePower(CoupledPower):
    """A power by the coupled iteration in C."""

    kernel: ClassVar[Kernel] = Kernel.NATIVE

    def variants(self) -> tuple[CoupledPower, ...]:
        """Itself alone with a shift, whose largest part is another one by torch's kernels."""
        return (self,) if self.power.is_shifted else CoupledPower.variants(self)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the power has rows, g (batch, m, n)."""
        found, hopeless = natively.natively(self.iteration, inputs["a"], inputs.get("g"))
        return exact_where_isolated(self.power, inputs, completed(self, found, inputs, hopeless))

    def run_some(self, inputs: Mapping[str, Tensor], wanted: Tensor) -> Findings:
        """Computes the matrices that are wanted (batch,), each as if all were."""
        a = inputs["a"].to(self.iteration.working).where(wanted[:, None, None], math.nan)
        return natively.natively(self.iteration, a, inputs.get("g"))[0]

    def _diagonalised(self) -> tuple[EighPower | NativeEighPower, ...]:
        """Eigh in the highest precision allowed, in C where that serves: the iteration in C runs on a CPU alone."""
        return () if self.pinned else EighPower(self.power, self.pinned, self.ceiling).variants()[-1:]

    def fallbacks(self) -> tuple[NativePower | EighPower | NativeEighPower, ...]:
        """The iteration in the highest precision where it is faster than eigh, then eigh as `IteratedPower` has it."""
        wider = self.in_double()
        return self._diagonalised() if wider is None else (wider, *self._diagonalised())

    def in_double(self) -> NativePower | None:
        """The iteration in the highest precision, where that is another one and the iteration faster than eigh."""
        eigh_in_c = NativeEighPower.serves(self.power) and self.ceiling is NativeEighPower.precision and not self.pinned
        if self.precision is self.ceiling or self.power.order > _DOUBLE_ORDER or eigh_in_c:
            return None
        return self.widened()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: steps and products, priced by the profile, and what may follow them."""
        return natively.seconds(self.iteration, profile) + self._seconds_after(profile)
