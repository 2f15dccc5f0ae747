"""Plans: the method of a call, chosen from the call and from measured costs before any matrix is read.

Every candidate that can meet the call's tolerance is priced with the profile and the cheapest wins. The decision rests
on the function, shapes, dtype, parameters, tolerance and precision only, never on content or on other calls in the
batch: the same call gets the same plan for as long as the profile stands.
"""

from __future__ import annotations

import math
from contextlib import suppress
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
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

    from matfn_kernels.linalg.backends import Backends
    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.call import Call
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["Plan", "Varying", "explain", "make_plan"]


_CANDIDATES: Final = {**FUNCTIONS, **GRADIENTS}
_TYPICAL: Final = (0.5, 2.0)
"""Values in the domain of every parameter that may vary: for whole exponents there are cheaper methods, for others none
but the first."""
_RUN: Final = 2e-3
"""Seconds that a program takes beside its arithmetic, measured of one matrix of order 8 on an Intel Xeon."""


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
    signature, entry = Signature.of(call), ENTRIES[call.function]
    if signature.varying:
        plan = _varying(Varying(signature, profile, entry.claims))
    elif entry.claims:
        plan = _verifying(_plan(signature, profile), entry.claims, profile)
    else:
        plan = _plan(signature, profile)
    if call.options.certify == "proved" and entry.verifiability == "bound":
        proof = proof_cost(profile, call.dtype, _order(call))
        considered = tuple((program, seconds + proof) for program, seconds in plan.considered)
        plan = replace(plan, seconds=plan.seconds + proof, considered=considered)
    return plan


@dataclass(frozen=True, slots=True)
class Varying:
    """The programs of a call of which each matrix has parameters of its own, one for each of their values.

    Their values are among the inputs; `evaluation` gives each matrix to the program of its own, which is that of a
    call of the matrix alone.

    Attributes:
        signature: of the call.
        profile: by which a method is chosen for each value.
        claims: names of the inputs that are claimed outputs.
    """

    signature: Signature
    profile: Profile
    claims: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs that are parameters."""
        return self.signature.varying

    def at(self, values: tuple[float, ...]) -> Program:
        """The program of matrices with these values.

        Raises:
            Rejection: if a method was asked for that does not serve them.
        """
        program = _plan(self.signature.at(values), self.profile).program
        return verifying(program, self.claims) if self.claims else program

    @property
    def typical(self) -> Program:
        """The program of typical values.

        Raises:
            Rejection: if a method was asked for that serves none.
        """
        return self.at(_typical(self.signature, self.profile))

    @property
    def method(self) -> str:
        """The method of typical values."""
        return self.typical.method

    @property
    def precision(self) -> Precision:
        """The arithmetic of typical values."""
        return self.typical.precision

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the inputs and outputs."""
        return self.signature.dtype

    @property
    def ceiling(self) -> Precision:
        """The arithmetic that no fallback exceeds."""
        return self.typical.ceiling

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes matrices that have the values of the first."""
        values = tuple(inputs[name][0].item() for name in self.names)
        return self.at(values).run({name: tensor for name, tensor in inputs.items() if name not in self.names})

    def fallbacks(self) -> tuple[Program, ...]:
        """None: each program has its own."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs where some dimension is zero."""
        return self.typical.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix, with those of a run for each, since all may differ."""
        return self.typical.seconds(profile) + _RUN


def _typical(signature: Signature, profile: Profile) -> tuple[float, ...]:
    """Typical values of the varying parameters, which the method that was asked for serves.

    Raises:
        Rejection: if it serves none.
    """
    *others, last = ((value,) * len(signature.varying) for value in _TYPICAL)
    for values in others:
        with suppress(Rejection):
            _plan(signature.at(values), profile)
            return values
    _plan(signature.at(last), profile)
    return last


def _varying(program: Varying) -> Plan:
    """The plan of matrices with parameters of their own: the price is that of typical values."""
    signature, profile = program.signature, program.profile
    plan = _plan(signature.at(_typical(signature, profile)), profile)
    return replace(plan, program=program, seconds=program.seconds(profile), considered=())


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
    return call.dtype.itemsize * sum(call.entry.output_elements(call.dimensions, dict(call.parameters)))


def _bytes(call: Signature) -> int:
    """Bytes of inputs and outputs, a matrix: two outputs, each as large as the largest of all."""
    inputs = [math.prod(shape) for _, shape in call.shapes]
    outputs = call.entry.output_elements(call.dimensions, dict(call.parameters))
    return call.dtype.itemsize * (sum(inputs) + 2 * max(*inputs, *outputs))
