"""Which method a call runs, decided from the call alone and from measured costs, before any matrix is touched.

Every candidate that can meet the call's tolerance is priced with the profile and the cheapest wins. The decision rests
on the function, shapes, dtype, parameters, tolerance and precision only, never on content or on the company a call will
keep in its batch: the same call gets the same plan for as long as the profile stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from matfn_kernels.low_rank import CHUNK, LowRankProgram
from matfn_kernels.polar import PolarProgram, rows_of
from matfn_kernels.precision import Precision, natural
from matfn_kernels.rejection import Rejection
from matfn_kernels.roots import RootProgram, schedule_for
from matfn_kernels.triangular import TriangularProgram

if TYPE_CHECKING:
    from matfn_kernels.calibration import Profile
    from matfn_kernels.evaluation import Program
    from matfn_kernels.validation import Call

__all__ = ["Plan", "explain", "make_plan"]

_POLAR_STEPS: Final = 14
_PROOF_PRODUCTS: Final = {"root": 3.0, "polar": 4.0}
_ENGINE_REACH: Final = 5e-6
"""Tightest tolerance at which the fp32 iteration is worth trying: below, its rounding alone misses it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run.

    Attributes:
        program: the method and all that calls must share to be batched; the batch key.
        seconds: predicted device seconds a matrix, on one lane.
        bytes: of inputs and outputs, a matrix.
        considered: the other candidates with their predicted seconds, cheapest first.
    """

    program: Program
    seconds: float
    bytes: int
    considered: tuple[tuple[Program, float], ...] = ()


def make_plan(call: Call, profile: Profile) -> Plan:
    """The cheapest program for a call.

    Raises:
        Rejection: if the named precision has no method for the function.
    """
    candidates = _CANDIDATES[call.function](call)
    priced = sorted(((program, _seconds(program, profile)) for program in candidates), key=lambda pair: pair[1])
    program, seconds = priced[0]
    return Plan(program, seconds, _bytes(call), tuple(priced[1:]))


def explain(plan: Plan) -> str:
    """The plan in words: what was chosen, at what price, and what it was chosen over."""
    chosen = f"{plan.program.method} in {plan.program.precision}: {plan.seconds * 1e3:.3g} ms a matrix"
    others = [f"{p.method} in {p.precision} {seconds * 1e3:.3g} ms" for p, seconds in plan.considered]
    return f"{chosen}; instead of {', '.join(others)}" if others else f"{chosen}; the only method"


def _bytes(call: Call) -> int:
    itemsize = call.dtype.itemsize
    elements = sum(tensor[0].numel() if call.items else 0 for tensor in call.inputs.values())
    widest = max((tensor[0].numel() for tensor in call.inputs.values()), default=0) if call.items else 0
    return itemsize * (elements + 2 * widest)


def _precisions(call: Call) -> tuple[Precision, Precision]:
    """(cheapest, ceiling): equal where the caller named one."""
    if call.options.precision != "auto":
        named = Precision(call.options.precision)
        if named is Precision.BF16 and call.dtype.is_complex:
            raise Rejection(
                "invalid_parameter", "there is no complex bf16 arithmetic", 'use precision="fp32" or "auto"'
            )
        return named, named
    return natural(call.dtype), Precision.FP64


# --- candidates ----------------------------------------------------------------------------------------------------


def _roots(call: Call) -> list[Program]:
    a, g = call.inputs["a"], call.inputs.get("g")
    low, ceiling = _precisions(call)
    pair = call.function == "sqrt_pair"
    r, s, damping = call.parameters.get("r", 2), call.parameters.get("s", 1), call.parameters["damping"]
    assert isinstance(r, int)
    assert isinstance(s, int)
    assert damping is None or isinstance(damping, float | str)
    eigh = RootProgram(
        order=a.shape[-1],
        rows=None if g is None else g.shape[-2],
        r=r,
        s=s,
        inverse=call.function == "inv_root",
        pair=pair,
        damping=damping,
        dtype=call.dtype,
        method="eigh",
        precision=ceiling,
        ceiling=ceiling,
    )
    engine = replace(eigh, method="engine", precision=low)
    if ceiling is Precision.BF16:
        return [engine]
    undamped = damping is None or damping == 0
    return [eigh, engine] if undamped and not call.dtype.is_complex and _reachable(call, low) else [eigh]


def _reachable(call: Call, precision: Precision) -> bool:
    return call.options.tol is None or precision is Precision.FP64 or call.options.tol >= _ENGINE_REACH


def _polar(call: Call) -> list[Program]:
    m = call.inputs["m"]
    low, ceiling = _precisions(call)
    svd = PolarProgram(
        rows=m.shape[-2],
        columns=m.shape[-1],
        bounds=_bounds(call),
        dtype=call.dtype,
        method="svd",
        precision=ceiling,
        ceiling=ceiling,
        obeyed=_obeyed(call),
    )
    iteration = replace(svd, method="newton_schulz", precision=low)
    if svd.obeyed is not None or ceiling is Precision.BF16:
        return [iteration]
    candidates: list[Program] = [svd]
    if low is not Precision.FP64 and ceiling is Precision.FP64:
        candidates.append(replace(svd, method="gram"))
    if not call.dtype.is_complex and _reachable(call, low):
        candidates.append(iteration)
    return _forced(call, candidates)


def _forced(call: Call, candidates: list[Program]) -> list[Program]:
    method = call.parameters.get("method")
    chosen = [program for program in candidates if method in {None, program.method}]
    if not chosen:
        known = ", ".join(program.method for program in candidates)
        raise Rejection(
            "invalid_parameter",
            f"method={method!r} does not serve {call.dtype} at this tolerance and precision",
            f"here: {known}",
        )
    return chosen


def _bounds(call: Call) -> tuple[float, float] | None:
    if call.function == "msign":
        return None
    lo, hi = call.parameters["lo"], call.parameters["hi"]
    assert isinstance(lo, float)
    assert hi is None or isinstance(hi, float)
    return lo, float("inf") if hi is None else hi


def _obeyed(call: Call) -> tuple[tuple[float, float, float], ...] | None:
    steps, coefficients = call.parameters.get("steps"), call.parameters.get("coefficients")
    assert steps is None or isinstance(steps, int)
    assert coefficients is None or isinstance(coefficients, tuple)
    return rows_of(steps, coefficients)


def _triangular(call: Call) -> list[Program]:
    t, b = call.inputs["t"], call.inputs.get("b")
    low, ceiling = _triangular_precisions(call)
    return [
        TriangularProgram(
            order=t.shape[-1],
            columns=None if b is None else b.shape[-1],
            lower=bool(call.parameters["lower"]),
            unit=bool(call.parameters["unit_diagonal"]),
            transpose=bool(call.parameters.get("transpose", False)),
            dtype=call.dtype,
            precision=low,
            ceiling=ceiling,
        )
    ]


def _low_rank(call: Call) -> list[Program]:
    q, b = call.inputs["q"], call.inputs.get("b")
    low, ceiling = _triangular_precisions(call)
    return [
        LowRankProgram(
            order=q.shape[-2],
            rank=q.shape[-1],
            columns=None if b is None else b.shape[-1],
            transpose=bool(call.parameters.get("transpose", False)),
            dtype=call.dtype,
            precision=low,
            ceiling=ceiling,
        )
    ]


def _triangular_precisions(call: Call) -> tuple[Precision, Precision]:
    low, ceiling = _precisions(call)
    if ceiling is Precision.BF16:
        raise Rejection(
            "invalid_parameter",
            f"{call.function}() has no bf16 arithmetic: substitution would lose every digit",
            'use precision="fp32" or "auto"; bf16 inputs are fine',
        )
    return low, ceiling


_CANDIDATES: Final = {
    "root": _roots,
    "inv_root": _roots,
    "sqrt_pair": _roots,
    "msign": _polar,
    "mclip": _polar,
    "tri_inv": _triangular,
    "tri_solve": _triangular,
    "dplr_inv": _low_rank,
    "dplr_solve": _low_rank,
}


# --- prices ----------------------------------------------------------------------------------------------------------


def _seconds(program: Program, profile: Profile) -> float:
    match program:
        case RootProgram():
            return _root_seconds(program, profile)
        case PolarProgram():
            return _polar_seconds(program, profile)
        case TriangularProgram():
            return _triangular_seconds(program, profile)
        case LowRankProgram():
            return _low_rank_seconds(program, profile)


def _triangular_seconds(program: TriangularProgram, profile: Profile) -> float:
    share = 1.0 if program.columns is None else program.columns / max(1, program.order)
    return profile.cost("gemm", program.precision, program.order) * (0.5 + share)


def _low_rank_seconds(program: LowRankProgram, profile: Profile) -> float:
    """Per chunk: the block's Gram product, its solve with the columns, and two products with the state."""
    chunk = profile.cost("gemm", program.precision, CHUNK)
    columns = (program.order if program.columns is None else program.columns) / CHUNK
    rank = program.rank / CHUNK
    return chunk * (1 + program.order / CHUNK) * (rank + columns * (1 + 2 * rank))


def _root_seconds(program: RootProgram, profile: Profile) -> float:
    gemm = profile.cost("gemm", program.precision, program.order)
    wide = profile.cost("gemm", Precision.FP64, program.order)
    products = (1 if program.rows is None else program.rows / max(1, program.order)) + program.pair
    if program.method == "eigh":
        return profile.cost("eigh", program.precision, program.order) + (1 + products) * wide
    _, s, r = program.negative
    per_step = 1 + _power_products(s) + (1 if s else 0) + _contraction_products(r)
    return per_step * len(schedule_for(r, program.precision)) * gemm + _PROOF_PRODUCTS["root"] * wide + products * gemm


def _power_products(exponent: int) -> int:
    return max(0, exponent.bit_length() - 1 + exponent.bit_count() - 1)


def _contraction_products(r: int) -> int:
    return 1 if r == 1 else 2 + r % 2 + _power_products(r // 2)


def _polar_seconds(program: PolarProgram, profile: Profile) -> float:
    small, aspect = program.small, max(program.rows, program.columns) / max(1, program.small)
    wide = profile.cost("gemm", Precision.FP64, small)
    match program.method:
        case "svd":
            return profile.cost("svd", program.precision, small) * math.sqrt(aspect) + 2 * aspect * wide
        case "gram":
            return profile.cost("eigh", Precision.FP64, small) + (1 + 2 * aspect) * wide
        case "newton_schulz":
            steps = _POLAR_STEPS if program.obeyed is None else len(program.obeyed)
            step = (1 + 2 * aspect) * profile.cost("gemm", program.precision, small)
            signs = 0.0 if program.bounds is None else 2.0 * _POLAR_STEPS * 3 * wide
            return steps * step + signs + (_PROOF_PRODUCTS["polar"] + aspect) * wide
