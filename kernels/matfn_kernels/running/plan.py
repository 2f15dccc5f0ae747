"""Plans: the method of a call, chosen from the call and from measured costs before any matrix is read.

Every candidate that can meet the call's tolerance is priced with the profile and the cheapest wins. The decision rests
on the function, shapes, dtype, parameters, tolerance and precision only, never on content or on other calls in the
batch: the same call gets the same plan for as long as the profile stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from matfn_kernels.contract.functions import ENTRIES
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.methods.candidates import CANDIDATES as FUNCTIONS
from matfn_kernels.methods.gradients.candidates import CANDIDATES as GRADIENTS
from matfn_kernels.programs.kernel_prices import fastest, proof_cost
from matfn_kernels.programs.signature import Signature
from matfn_kernels.programs.verification import verifying

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn_kernels.linalg.backends import Backends
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.validation import Call

__all__ = ["Plan", "explain", "make_plan"]


_CANDIDATES: Final = {**FUNCTIONS, **GRADIENTS}


@dataclass(frozen=True, slots=True)
class Plan:
    """The program that a call runs, with its price.

    Attributes:
        program: the method and all that calls in one batch have in common; the batch key.
        seconds: predicted device seconds a matrix, on one worker.
        bytes: of inputs and outputs, a matrix.
        answer_bytes: of outputs, a matrix.
        backends: the libraries that compute products and decompositions, those of the profile.
        considered: the other candidates with their predicted seconds, cheapest first.
    """

    program: Program
    seconds: float
    bytes: int
    answer_bytes: int
    backends: Backends
    considered: tuple[tuple[Program, float], ...] = ()


def make_plan(call: Call, profile: Profile) -> Plan:
    """The cheapest program for a call.

    Raises:
        Rejection: if the function has no method in the named precision, or the named method does not serve the call.
    """
    plan = _plan(Signature.of(call), profile)
    entry = ENTRIES[call.function]
    if entry.claims:
        plan = _verifying(plan, entry.claims, profile)
    if call.options.certify == "proved" and entry.verifiability == "bound":
        proof = proof_cost(profile, call.dtype, _order(call))
        considered = tuple((program, seconds + proof) for program, seconds in plan.considered)
        plan = replace(plan, seconds=plan.seconds + proof, considered=considered)
    return plan


def _verifying(plan: Plan, claims: tuple[str, ...], profile: Profile) -> Plan:
    """The plan of the verification of answers that a plan computes."""
    considered = tuple((verifying(program, claims), seconds) for program, seconds in plan.considered)
    program = verifying(plan.program, claims)
    return replace(plan, program=program, seconds=program.seconds(profile), considered=considered)


@lru_cache(maxsize=4096)
def _plan(call: Signature, profile: Profile) -> Plan:
    candidates = [fastest(program, profile) for program in _serving(call)]
    priced = sorted(((program, program.seconds(profile)) for program in candidates), key=lambda pair: pair[1])
    if call.is_pinned and not math.isfinite(priced[0][1]):  # kernels that this device has not
        raise _unserved(call, _CANDIDATES[call.function](call))
    program, seconds = priced[0]
    return Plan(program, seconds, _bytes(call), _answer_bytes(call), profile.backends, tuple(priced[1:]))


def _serving(call: Signature) -> Sequence[Program]:
    """The programs that may serve a call, by the named method alone if one is named.

    Raises:
        Rejection: if that one does not serve it.
    """
    candidates = _CANDIDATES[call.function](call)
    found = [program for program in candidates if call.method in {"auto", program.method}]
    if not found:
        raise _unserved(call, candidates)
    return found


def _unserved(call: Signature, candidates: Sequence[Program]) -> Rejection:
    others = dict.fromkeys(program.method for program in candidates if program.method != call.method)
    return Rejection(
        "invalid_parameter",
        f"{call.function}(): method={call.method!r} does not serve this dtype with these parameters and options",
        f"methods that serve it: {', '.join(others)}",
    )


def explain(plan: Plan) -> str:
    """The plan in words: what was chosen, at what price, and what it was chosen over."""
    chosen = f"{plan.program.method} in {plan.program.precision}: {plan.seconds * 1e3:.3g} ms a matrix"
    others = [f"{p.method} in {p.precision} {seconds * 1e3:.3g} ms" for p, seconds in plan.considered]
    return f"{chosen}; instead of {', '.join(others)}" if others else f"{chosen}; the only method"


def _order(call: Call) -> float:
    """The order of a square matrix with as many entries as the largest input."""
    return math.sqrt(max(math.prod(tensor.shape[1:]) for tensor in call.inputs.values()))


def _answer_bytes(call: Signature) -> int:
    return call.dtype.itemsize * sum(ENTRIES[call.function].output_elements(call.dimensions, dict(call.parameters)))


def _bytes(call: Signature) -> int:
    """Bytes of inputs and outputs, a matrix: two outputs, each as large as the largest of all."""
    inputs = [math.prod(shape) for _, shape in call.shapes]
    outputs = ENTRIES[call.function].output_elements(call.dimensions, dict(call.parameters))
    return call.dtype.itemsize * (sum(inputs) + 2 * max(*inputs, *outputs))
