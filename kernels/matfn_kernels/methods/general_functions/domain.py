"""Whether a matrix has a principal logarithm or power, as far as rounding lets know."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.methods.roots.negative_axis import NegativeAxis, Singularity
from matfn_kernels.methods.roots.semisimple import Core
from matfn_kernels.methods.roots.triangular_power import norm
from matfn_kernels.numbers.arrays import EPS
from matfn_kernels.numbers.modular import is_singular

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["Domain"]


@dataclass(frozen=True, slots=True)
class Domain:
    """Why a matrix has no answer, or why one without an estimate, and the condition number that says so.

    Attributes:
        failure: reason of `running.hints`, or "".
        remark: likewise.
        condition: at least that, where there is a remark.
        core: the nonsingular part of a singular matrix whose power is that of the part.
    """

    failure: str = ""
    remark: str = ""
    condition: float = 0.0
    core: Core | None = None

    @classmethod
    def of(cls, exact: Array, a: Array, t: Array, lost: float, *, vanishes: bool) -> Self:
        """The verdict on A, given exactly and scaled, with a Schur form T that is off by `lost` beyond its law.

        Args:
            exact: A as it was sent.
            a: A scaled near 1.
            t: T.
            lost: a norm.
            vanishes: whether the function is 0 at 0, as positive powers are.
        """
        singularity = Singularity.of(a, EPS)
        if singularity.is_singular and is_singular(exact):
            return cls._of_core(exact, a) if vanishes else cls(failure="exactly_singular")
        axis = NegativeAxis.of(exact, t, singularity, max(BACKWARD_ERROR * EPS * norm(t), lost))
        if axis is NegativeAxis.MET:
            return cls(failure="on_negative_axis")
        if singularity.is_singular:
            return cls(remark="ill_conditioned", condition=singularity.condition)
        return cls(remark="near_negative_axis", condition=math.inf) if axis is NegativeAxis.UNKNOWN else cls()

    @classmethod
    def _of_core(cls, exact: Array, a: Array) -> Self:
        core = Core.of(exact, a, EPS, 0.0)
        if core is None:
            return cls(failure="defective_zero")
        if core.axis is NegativeAxis.MET:
            return cls(failure="on_negative_axis")
        known = core.axis is NegativeAxis.CLEAR
        return cls(core=core) if known else cls(core=core, remark="near_negative_axis", condition=math.inf)
