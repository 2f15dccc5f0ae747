"""Which method a call runs, decided from the call alone and from measured costs, before any matrix is touched.

Every candidate that can meet the call's tolerance is priced with the profile and the cheapest wins. The decision rests
on the function, shapes, dtype, parameters, tolerance and precision only, never on content or on the company a call will
keep in its batch: the same call gets the same plan for as long as the profile stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from matfn_kernels.low_rank import CHUNK, LowRankProgram
from matfn_kernels.polar import PolarProgram, rows_of
from matfn_kernels.precision import Precision, natural
from matfn_kernels.rejection import Rejection
from matfn_kernels.roots import RootProgram, schedule_for
from matfn_kernels.triangular import TriangularProgram

if TYPE_CHECKING:
    import torch

    from matfn_kernels.calibration import Profile
    from matfn_kernels.evaluation import Program
    from matfn_kernels.functions import Value
    from matfn_kernels.validation import Call

__all__ = ["Plan", "Signature", "explain", "make_plan"]

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


@dataclass(frozen=True, slots=True)
class Signature:
    """All that a plan may depend on: no tensor, and no number of matrices.

    Attributes:
        function: a name of the catalogue.
        shapes: trailing shape of each input that is given.
        dtype: of the inputs.
        parameters: the function's parameters.
        tol: the tolerance asked for, or None.
        precision: the precision asked for.
    """

    function: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    dtype: torch.dtype
    parameters: tuple[tuple[str, Value], ...]
    tol: float | None
    precision: str

    @classmethod
    def of(cls, call: Call) -> Signature:
        """The signature of a call."""
        shapes = tuple((name, tuple(tensor.shape[1:])) for name, tensor in call.inputs.items())
        options = call.options
        return cls(call.function, shapes, call.dtype, tuple(call.parameters.items()), options.tol, options.precision)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Trailing shape of an input, None if it is not given."""
        return dict(self.shapes).get(name)

    def sizes(self, name: str) -> tuple[int, ...]:
        """Trailing shape of an input that is given."""
        return dict(self.shapes)[name]

    def parameter(self, name: str) -> Value:
        """A parameter's value, None if the function has none of that name."""
        return dict(self.parameters).get(name)


def make_plan(call: Call, profile: Profile) -> Plan:
    """The cheapest program for a call.

    Raises:
        Rejection: if the named precision has no method for the function.
    """
    return _plan(Signature.of(call), profile)


@lru_cache(maxsize=4096)
def _plan(call: Signature, profile: Profile) -> Plan:
    candidates = _CANDIDATES[call.function](call)
    priced = sorted(((program, _seconds(program, profile)) for program in candidates), key=lambda pair: pair[1])
    program, seconds = priced[0]
    return Plan(program, seconds, _bytes(call), tuple(priced[1:]))


def explain(plan: Plan) -> str:
    """The plan in words: what was chosen, at what price, and what it was chosen over."""
    chosen = f"{plan.program.method} in {plan.program.precision}: {plan.seconds * 1e3:.3g} ms a matrix"
    others = [f"{p.method} in {p.precision} {seconds * 1e3:.3g} ms" for p, seconds in plan.considered]
    return f"{chosen}; instead of {', '.join(others)}" if others else f"{chosen}; the only method"


def _bytes(call: Signature) -> int:
    """Of inputs and outputs: at most two outputs, each as large as the largest input or n x n."""
    elements = [math.prod(shape) for _, shape in call.shapes]
    square = math.prod(call.sizes("diag")) ** 2 if call.function == "dplr_inv" else 0
    return call.dtype.itemsize * (sum(elements) + 2 * max(square, *elements))


def _precisions(call: Signature) -> tuple[Precision, Precision]:
    """(cheapest, ceiling): equal where the caller named one."""
    if call.precision != "auto":
        named = Precision(call.precision)
        if named is Precision.BF16 and call.dtype.is_complex:
            raise Rejection(
                "invalid_parameter", "there is no complex bf16 arithmetic", 'use precision="fp32" or "auto"'
            )
        return named, named
    return natural(call.dtype), Precision.FP64


# --- candidates ----------------------------------------------------------------------------------------------------


def _roots(call: Signature) -> list[Program]:
    g = call.shape("g")
    low, ceiling = _precisions(call)
    pair = call.function == "sqrt_pair"
    r, s = (2, 1) if pair else (call.parameter("r"), call.parameter("s"))
    damping = call.parameter("damping")
    assert isinstance(r, int)
    assert isinstance(s, int)
    assert damping is None or isinstance(damping, float | str)
    eigh = RootProgram(
        order=call.sizes("a")[-1],
        rows=None if g is None else g[-2],
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


def _reachable(call: Signature, precision: Precision) -> bool:
    return call.tol is None or precision is Precision.FP64 or call.tol >= _ENGINE_REACH


def _polar(call: Signature) -> list[Program]:
    rows, columns = call.sizes("m")
    low, ceiling = _precisions(call)
    svd = PolarProgram(
        rows=rows,
        columns=columns,
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


def _forced(call: Signature, candidates: list[Program]) -> list[Program]:
    method = call.parameter("method")
    chosen = [program for program in candidates if method in {None, program.method}]
    if not chosen:
        known = ", ".join(program.method for program in candidates)
        raise Rejection(
            "invalid_parameter",
            f"method={method!r} does not serve {call.dtype} at this tolerance and precision",
            f"here: {known}",
        )
    return chosen


def _bounds(call: Signature) -> tuple[float, float] | None:
    if call.function == "msign":
        return None
    lo, hi = call.parameter("lo"), call.parameter("hi")
    assert isinstance(lo, float)
    assert hi is None or isinstance(hi, float)
    return lo, float("inf") if hi is None else hi


def _obeyed(call: Signature) -> tuple[tuple[float, float, float], ...] | None:
    steps, coefficients = call.parameter("steps"), call.parameter("coefficients")
    assert steps is None or isinstance(steps, int)
    assert coefficients is None or isinstance(coefficients, tuple)
    return rows_of(steps, coefficients)


def _triangular(call: Signature) -> list[Program]:
    b = call.shape("b")
    low, ceiling = _triangular_precisions(call)
    return [
        TriangularProgram(
            order=call.sizes("t")[-1],
            columns=None if b is None else b[-1],
            lower=bool(call.parameter("lower")),
            unit=bool(call.parameter("unit_diagonal")),
            transpose=bool(call.parameter("transpose")),
            dtype=call.dtype,
            precision=low,
            ceiling=ceiling,
        )
    ]


def _low_rank(call: Signature) -> list[Program]:
    (order, rank), b = call.sizes("q"), call.shape("b")
    low, ceiling = _triangular_precisions(call)
    return [
        LowRankProgram(
            order=order,
            rank=rank,
            columns=None if b is None else b[-1],
            transpose=bool(call.parameter("transpose")),
            dtype=call.dtype,
            precision=low,
            ceiling=ceiling,
        )
    ]


def _triangular_precisions(call: Signature) -> tuple[Precision, Precision]:
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
