"""The report of a call's plan: the method that would answer it, and every other that could, with their prices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matfn_kernels import Call, Plan, Program

__all__ = ["plan_report"]


def plan_report(call: Call, plan: Plan, profile: str) -> dict[str, object]:
    """The plan of a call as JSON has it; seconds are of one matrix on one worker, null for what this device has not."""
    return {
        "function": call.function,
        **_priced(plan.program, plan.seconds),
        "bytes": plan.bytes,
        "considered": [_priced(program, seconds) for program, seconds in plan.considered],
        "profile": profile,
    }


def _priced(program: Program, seconds: float) -> dict[str, object]:
    return {
        "method": program.method,
        "precision": program.precision,
        "seconds": seconds if math.isfinite(seconds) else None,
    }
