"""One call computed in this process, from its arguments to its answers, without a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.linalg.single_thread import one_thread
from matfn_kernels.programs.call import Limits
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.validation import parse_call
from matfn_kernels.running.evaluation import batch_of, evaluate, settle
from matfn_kernels.running.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.contract.certificate import Certificate
    from matfn_kernels.programs.profile import Profile

__all__ = ["compute"]

_DEFAULT = Limits()


def compute(
    function: str,
    inputs: Mapping[str, Tensor],
    parameters: Mapping[str, object],
    options: Mapping[str, object],
    *,
    profile: Profile,
    limits: Limits = _DEFAULT,
) -> tuple[tuple[Tensor, ...], tuple[Certificate, ...]]:
    """Returns the outputs of a call, (*lead, ...) each, and one certificate for each matrix.

    Args:
        function: a name in `FUNCTIONS`.
        inputs: tensors on one device, by name.
        parameters: of the function; the others have their defaults.
        options: such as tol, precision, method and on_failure.
        profile: the prices by which a method is chosen.
        limits: sizes that the call may not exceed.

    Raises:
        Rejection: for an argument that is wrong, or, under on_failure="raise", a matrix without an answer.
        torch.OutOfMemoryError: if the device has too little memory.
    """
    call = parse_call(function, inputs, parameters, options, limits)
    with one_thread():  # from the first operation on: a forked child hangs in OpenMP's threads, which it has not
        call = screen(call)
        plan = make_plan(call, profile)
        evaluation = evaluate(plan.program, batch_of(call), plan.backends)
    return settle(call, evaluation), evaluation.certificates
