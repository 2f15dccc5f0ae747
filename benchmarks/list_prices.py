"""Methods and their prices by function, dtype and order, for docs/functions: python benchmarks/list_prices.py.

Nothing is timed: these are the predictions by which the planner chooses, from a profile that was measured
(scripts/measure_profiles.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from accuracy_cases import CASES
from matfn_kernels import FUNCTIONS, Limits, make_plan, parse_call
from matfn_kernels.programs.profile_loading import shipped
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accuracy_cases import Case
    from matfn_kernels import Plan, Program

RESULTS: Final = Path(__file__).parent / "results" / "prices.md"
PROFILE: Final = "other-avx512"
ORDERS: Final = (16, 64, 128, 256, 1024)
DTYPES: Final = (torch.float32, torch.float64)
WIDTH: Final = 16
"""Of keys, values, heads and low-rank factors."""
HEADS: Final = 4
_LONG: Final = {"n", "t", "s"}
_HEADS: Final = {"h", "hk"}


def size(function: str, label: str, order: int) -> int:
    """A dimension by its name in the catalogue."""
    if label in _LONG or (label == "m" and function != "qk_clip"):
        is_tall = function in {"msign", "mclip", "polar", "norm2", "cond"} and label == "n"
        is_control = function in {"solve_care", "solve_dare"} and label == "m"
        return 3 * order // 4 if is_tall else order // 4 if is_control else order
    return HEADS if label in _HEADS else order if label in {"m", "m'"} else WIDTH


def plan_of(case: Case, dtype: torch.dtype, order: int) -> Plan:
    """The plan of a call, made from its shapes."""
    inputs = {
        entry.name: torch.zeros([1, *(size(case.function, label, order) for label in entry.shape)], dtype=dtype)
        for entry in FUNCTIONS[case.function].inputs
        if entry.name in case.makers
    }
    return make_plan(parse_call(case.function, inputs, case.parameters, {}, Limits()), shipped(PROFILE))


def words(program: Program, seconds: float) -> str:
    """A method, its arithmetic and its price."""
    return f"`{program.method}` in {program.precision}, {float(f'{seconds * 1e3:.2g}'):g} ms"


def rivals(plan: Plan) -> str:
    """The cheapest program of each other method and arithmetic, cheapest first."""
    seen = {(plan.program.method, str(plan.program.precision))}
    found = []
    for program, seconds in plan.considered:
        kind = (program.method, str(program.precision))
        if kind not in seen and np.isfinite(seconds):
            seen.add(kind)
            found.append(words(program, seconds))
    return "; ".join(found)


def table() -> Iterator[str]:
    """The lines of the table."""
    yield "| function | parameters | dtype | order | chosen | instead of |"
    yield "|---|---|---|---|---|---|"
    for case in CASES:
        for dtype in DTYPES:
            for order in ORDERS:
                plan = plan_of(case, dtype, order)
                kind, chosen = str(dtype).removeprefix("torch."), words(plan.program, plan.seconds)
                yield f"| {case.function} | {case.words} | {kind} | {order} | {chosen} | {rivals(plan)} |"


def main() -> None:
    """Writes the table."""
    head = (
        f"# Methods and prices\n\n{provenance()}\n\n"
        f"Predicted milliseconds a matrix on one core, certificate included, by the profile `{PROFILE}` that ships\n"
        "for processors with AVX-512 that are not Intel's, measured by `python scripts/measure_profiles.py`. Tall\n"
        "matrices have three quarters as many columns as rows; low-rank factors, keys, values and heads are 16 wide,\n"
        "of 4 heads; control problems have a quarter as many inputs as states. The call is the default one. A matrix\n"
        "that misses its tolerance is computed again by another method, which is not in a price.\n\n"
    )
    RESULTS.write_text(head + "\n".join(table()) + "\n")


if __name__ == "__main__":
    main()
