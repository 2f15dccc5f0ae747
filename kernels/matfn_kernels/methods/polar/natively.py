"""Polar factors by Newton-Schulz in C, which takes one matrix after the other through all of it.

The Gram matrix in double precision proves the rank before anything is iterated, and its smallest eigenvalue chooses the
schedule: a matrix takes the steps that its own condition needs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.methods.polar.by_iteration import BOUND, law, rows_from
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.polar.program import PolarProgram

__all__ = ["natively"]


def natively(program: PolarProgram, m: Tensor) -> Findings:
    """Polar factors of tall M (batch, m, n) as it came."""
    floor = max(2 * program.threshold, 10 * BOUND)
    value, found = native.polar_factors(m.to(torch.float32).resolve_neg().contiguous(), floor, _schedules(program))
    condition = (found.largest / found.smallest).clamp_min(1.0)
    error = torch.maximum(law(program, condition, found.spread), found.gap)
    return Findings(
        outputs=(value,),
        exponents=(None,),
        residual_name=program.residual_name,
        residual=found.residual,
        error=torch.where((found.definite > 0) & error.isfinite(), error, torch.inf),
        condition=condition,
        steps=found.steps,
        rank=torch.where(found.definite > 0, program.small, -1),
    )


@lru_cache(maxsize=64)
def _schedules(program: PolarProgram) -> native.Schedules:
    return native.Schedules.down_to(BOUND, lambda bound: rows_from(program.precision, program.allowed, bound))
