"""Powers of symmetric matrices by eigendecompositions in float64, all of it in C.

One call decomposes matrices, to order 64 as many at once as a vector has lanes and by LAPACK above, applies the rules
of damping, takes the powers and measures what the decomposition left. Matrices about which the rules need more than
that (`damping`): not positive, singular, on a threshold of rank, or near one in the last digits, are left to
`EighPower`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.measured import laws, orthogonality, row_error
from matfn_kernels.linalg.native import lapack, lockstep
from matfn_kernels.methods.roots.by_eigh import LEAST, NEGLIGIBLE
from matfn_kernels.methods.roots.damping import NEAR
from matfn_kernels.methods.roots.isolated import exact_where_isolated
from matfn_kernels.methods.roots.power import PowerProgram
from matfn_kernels.methods.roots.prices import passes
from matfn_kernels.numbers.precision import FLOOR, Precision, natural, spacing, working
from matfn_kernels.programs.findings import Findings, merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.roots.escalation import Fallback
    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["NativeEighPower"]

_PASSES: Final = 6.0
"""Passes (`prices.passes`) beside decomposition and product above order 64: 5 at 128 and 7 at 256 on an Intel Xeon."""
_LARGEST: Final = 1024
"""Largest order that is computed in C as a whole: eight matrices of it are the workspace of a thread."""


@dataclass(frozen=True, slots=True)
class NativeEighPower(PowerProgram):
    """A power by eigh in float64, in C.

    Attributes:
        usual: the program that computes what is left.
    """

    method: ClassVar[Literal["eigh"]] = "eigh"
    kernel: ClassVar[Kernel] = Kernel.NATIVE
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    usual: Fallback

    @staticmethod
    def serves(power: Power) -> bool:
        """Whether the kernels in C take such a power: real, and not multiplied by G."""
        is_small = lockstep.serves(torch.float64, power.order)
        return power.rows is None and not power.dtype.is_complex and (is_small or _by_lapack(power.order))

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n)."""
        return self._run(inputs, inputs["a"], None)

    def run_some(self, inputs: Mapping[str, Tensor], wanted: Tensor) -> Findings:
        """Computes the matrices that are wanted (batch,), each as if all were."""
        return self._run(inputs, inputs["a"].where(wanted[:, None, None], math.nan), wanted)

    def _run(self, inputs: Mapping[str, Tensor], a: Tensor, wanted: Tensor | None) -> Findings:
        values, found = native.spectral_powers(_settings(self.power), a.to(working(natural(a.dtype), a.dtype)))
        # before others are beside them, in double precision: the rounding to the dtype is counted already
        answered = exact_where_isolated(self.power, inputs, _findings(self.power, values, found))
        is_open = found.open != 0 if wanted is None else (found.open != 0) & wanted
        if not bool(is_open.any()):
            return answered
        return merged(~is_open, answered, self.usual.run_some(inputs, is_open))

    def variants(self) -> tuple[NativeEighPower, ...]:
        """Itself alone."""
        return (self,)

    def fallbacks(self) -> tuple[Program, ...]:
        """None: nothing serves more matrices."""
        return ()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the kernel and passes, priced by the profile."""
        order, number = self.power.order, 1 + self.power.pair / 2
        if order <= lockstep.LARGEST:
            return number * profile.cost("spectral", natural(self.dtype), order)
        product = number * profile.cost("native", Precision.FP64, order)
        if not math.isfinite(product):
            return product
        return profile.cost("eigh", Precision.FP64, order) + product + passes(_PASSES, order, profile)


def _by_lapack(order: int) -> bool:
    """Whether C calls LAPACK for matrices of that order."""
    return lockstep.LARGEST < order <= _LARGEST and native.is_built() and lapack.is_ready()


@lru_cache(maxsize=256)
def _settings(power: Power) -> native.SpectralPowers:
    """The plan of a power in C: its numbers are those of `damping` and `by_eigh`."""
    eps, own = power.eps(Precision.FP64), spacing(Precision.FP64)
    law, skew_law = laws(torch.float64, power.order, power.order)
    return native.SpectralPowers(
        order=power.order,
        exponent=(power.s, power.r),
        inverse=power.inverse,
        pair=power.pair,
        rule=_rule(power),
        refine=eps == own and power.damps_by_default,
        added=power.part if power.shift is None else power.shift,
        floor=FLOOR * eps,
        negative=eps**0.5,
        noise=row_error(power.order) * own,
        skew=orthogonality(power.order) * own,
        laws=(law, skew_law),
        near=NEAR,
        least=LEAST,
        negligible=NEGLIGIBLE * torch.finfo(power.dtype).eps,
    )


def _rule(power: Power) -> native.Rule:
    if power.drops:
        return native.Rule.RANGE_KEPT
    if power.shift is not None:
        return native.Rule.NUMBER_ADDED
    if isinstance(power.damping, float):
        return native.Rule.PART_ADDED
    return native.Rule.LEAST_ADDED if power.damps_by_default else native.Rule.NOTHING_ADDED


def _findings(power: Power, values: tuple[Tensor, ...], found: native.SpectralFindings) -> Findings:
    remarks = {"asymmetric": found.asymmetry > FLOOR * power.eps(Precision.FP64)}
    if power.damps_by_default:
        remarks["damped"] = found.damping > 0
    return Findings(
        outputs=values,
        exponents=(None,) * len(values),
        residual_name=power.equation,
        residual=found.residual,
        error=found.error + found.rounding * (1 + found.error),
        condition=found.condition,
        rank=found.rank,
        damping=found.damping,
        shift=found.shift,
        finite=found.open == 0 if values[0].dtype == power.dtype else None,
        remarks=remarks,
    )
