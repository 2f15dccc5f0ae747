"""A call through the kernels in one line: validated, planned, computed and settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from matfn_kernels import reference
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.validation import Call, Limits, parse_call
from matfn_kernels.running.evaluation import batch_of, evaluate, settle
from matfn_kernels.running.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from matfn_kernels.contract.certificate import Certificate
    from matfn_kernels.programs.program import Program

__all__ = ["EPS", "Answer", "answer", "candidates", "run", "truth"]

Array: TypeAlias = "NDArray[Any]"
EPS = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}
EPS |= {"complex64": EPS["float32"], "complex128": EPS["float64"]}

_OPTIONS: Final = ("method", "certify", "tol", "precision", "on_failure")


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs as numpy arrays with one certificate a matrix."""

    outputs: tuple[Array, ...]
    certificates: tuple[Certificate, ...]


def parsed(function: str, inputs: Mapping[str, Array | torch.Tensor], keywords: Mapping[str, object]) -> Call:
    """The call that numpy or torch inputs and keyword arguments make."""
    options = {key: keywords[key] for key in _OPTIONS if key in keywords}
    params = {key: value for key, value in keywords.items() if key not in options}
    tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
    return screen(parse_call(function, tensors, params, options, Limits()))


def _profile() -> Profile:
    """The made-up machine, whose kernels in C, if it has them, take a third of torch's time for a product."""
    rows = Profile.nominal().seconds
    products = [(kind, order, seconds / 3) for name, kind, order, seconds in rows if name == "gemm" and kind != "bf16"]
    has_kernels = native.is_built() and torch.get_default_device().type == "cpu"
    names = ("native", "native_triangle", "spectral") if has_kernels else ()
    return Profile("made up", (*rows, *((name, *row) for name in names for row in products)))


def answer(function: str, inputs: Mapping[str, Array | torch.Tensor], **keywords: object) -> Answer:
    """What the planner's choice answers."""
    call = parsed(function, inputs, keywords)
    return run(make_plan(call, _profile()).program, call)


def candidates(function: str, inputs: Mapping[str, Array], **keywords: object) -> list[tuple[Program, Call]]:
    """Every program that the planner would consider for a call, by every kernel that serves a CPU."""
    call = parsed(function, inputs, keywords)
    profiles = {_profile(), Profile.nominal()}
    plans = [make_plan(call, profile) for profile in profiles]
    programs = [program for plan in plans for program in (plan.program, *(other for other, _ in plan.considered))]
    return [(program, call) for program in dict.fromkeys(programs)]


def run(program: Program, call: Call) -> Answer:
    """A call computed by a given program."""
    evaluation = evaluate(program, batch_of(call))
    return Answer(tuple(_array(output) for output in settle(call, evaluation)), evaluation.certificates)


def _array(output: torch.Tensor) -> Array:
    """The numbers as numpy has them, which lacks bfloat16."""
    found: Array = (output.float() if output.dtype is torch.bfloat16 else output).cpu().numpy()
    return found


def truth(
    function: str, inputs: Mapping[str, Array], certificates: tuple[Certificate, ...], **keywords: Any
) -> tuple[Array, ...]:
    """The float64 definition of each output, for the matrices that the certificates say were answered."""
    parameters = {key: one for key, one in keywords.items() if key not in _OPTIONS}
    return reference.value(function, inputs, parameters, np.array([c.shift for c in certificates]))
