"""Which method a call runs, decided from the call alone and from measured costs, before any matrix is touched.

Every candidate that can meet the call's tolerance is priced with the profile and the cheapest wins. The decision rests
on the function, shapes, dtype, parameters, tolerance and precision only, never on content or on other calls in the
batch: the same call gets the same plan for as long as the profile stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.methods.attention import delta_rule, qk_clip
from matfn_kernels.methods.attention import max_logit as logits
from matfn_kernels.methods.equations import riccati, sylvester
from matfn_kernels.methods.hermitian import eig_clip, geometric_mean
from matfn_kernels.methods.hermitian import frechet_distance as frechet
from matfn_kernels.methods.polar import program as polar
from matfn_kernels.methods.roots import candidates as roots
from matfn_kernels.methods.sign import program as sign
from matfn_kernels.methods.triangular import low_rank
from matfn_kernels.methods.triangular import program as triangular
from matfn_kernels.programs.signature import Signature
from matfn_kernels.programs.variants import fastest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.validation import Call

__all__ = ["Plan", "explain", "make_plan"]

_CANDIDATES: Final[Mapping[str, Callable[[Signature], Sequence[Program]]]] = {
    "root": roots.candidates,
    "inv_root": roots.candidates,
    "sqrt_pair": roots.candidates,
    "msign": polar.candidates,
    "mclip": polar.candidates,
    "mcsgn": sign.candidates,
    "solve_sylvester": sylvester.candidates,
    "solve_lyapunov": sylvester.candidates,
    "solve_care": riccati.candidates,
    "spectral_projector": sign.candidates,
    "tri_inv": triangular.candidates,
    "tri_solve": triangular.candidates,
    "dplr_inv": low_rank.candidates,
    "dplr_solve": low_rank.candidates,
    "frechet_distance": frechet.candidates,
    "eig_clip": eig_clip.candidates,
    "geometric_mean": geometric_mean.candidates,
    "max_logit": logits.candidates,
    "qk_clip": qk_clip.candidates,
    "delta_rule": delta_rule.candidates,
}


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
        Rejection: if the function has no method in the named precision, or the named method does not serve the call.
    """
    return _plan(Signature.of(call), profile)


@lru_cache(maxsize=4096)
def _plan(call: Signature, profile: Profile) -> Plan:
    candidates = [fastest(program, profile) for program in _serving(call)]
    priced = sorted(((program, program.seconds(profile)) for program in candidates), key=lambda pair: pair[1])
    program, seconds = priced[0]
    return Plan(program, seconds, _bytes(call), tuple(priced[1:]))


def _serving(call: Signature) -> Sequence[Program]:
    """The programs that may serve a call, by the named method alone if one is named.

    Raises:
        Rejection: if that one does not serve it.
    """
    candidates = _CANDIDATES[call.function](call)
    found = [program for program in candidates if call.method in {"auto", program.method}]
    if not found:
        raise Rejection(
            "invalid_parameter",
            f"{call.function}(): method={call.method!r} does not serve this dtype with these parameters and options",
            f"here: {', '.join(dict.fromkeys(program.method for program in candidates))}",
        )
    return found


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
