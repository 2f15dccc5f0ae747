"""Signs and spectral projectors of one matrix after the other, by whichever way can vouch for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from matfn_kernels.methods.sign.by_parts import sign_by_parts
from matfn_kernels.methods.sign.newton_schur import certified_sign
from matfn_kernels.methods.sign.question import RESIDUAL, SignProgram
from matfn_kernels.numbers.arrays import EPS, norm, shifted
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.per_matrix import Found, each, failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.sign.newton_schur import Sign
    from matfn_kernels.numbers.arrays import Array
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["SchurSign"]

_SCHUR: Final = 12.0
"""Price of all that this method does, in units of eigh; no method competes with it, so it chooses nothing."""


@dataclass(frozen=True, slots=True)
class SchurSign(SignProgram):
    """Signs and projectors of one matrix after the other."""

    method: ClassVar[str] = "newton_schur"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input a (batch, n, n)."""
        asked = self.question
        answer = _sign if asked.half is None else partial(_projector, asked.side)
        findings = each(answer, inputs, (asked.order, asked.order), RESIDUAL)
        return replace(findings, rank=None if asked.half is None else findings.rank)

    def fallbacks(self) -> tuple[Program, ...]:
        """None: this method is the last resort."""
        return ()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return _SCHUR * profile.cost("eigh", Precision.FP64, self.question.order)


def _vouched(a: Array) -> Sign | None:
    """The sign of A of any scale: as a whole, or by parts where that cannot be vouched for."""
    sign = certified_sign(shifted(a, -int(np.frexp(np.abs(a).max())[1])))
    if sign is not None and math.isfinite(sign.error):
        return sign
    return sign_by_parts(a) or sign


def _sign(a: Array) -> Found:
    """S of one matrix."""
    sign = _vouched(a)
    if sign is None:
        return failed(a.shape, "sign_undefined")
    return Found(sign.value, sign.residual, sign.error, sign.condition, sign.steps, remarks=_remarks(sign))


def _projector(side: float, a: Array) -> Found:
    """(I + side S) / 2; an involution whose trace is n or -n is I or -I, to the last bit."""
    sign = _vouched(a)
    if sign is None:
        return failed(a.shape, "sign_undefined")
    order = len(a)
    rank = round((order + side * float(np.trace(sign.value).real)) / 2)
    if rank in {0, order}:
        value, larger = np.eye(order) * (rank > 0), 1.0
    else:
        value = (np.eye(order) + side * sign.value) / 2
        larger = norm(sign.value) / (2 * norm(value))
    error, condition = sign.error * larger + EPS, max(1.0, sign.condition * larger)
    return Found(value, sign.residual, error, condition, sign.steps, rank, remarks=_remarks(sign))


def _remarks(sign: Sign) -> tuple[str, ...]:
    return ("near_axis",) if math.isnan(sign.error) else ()
