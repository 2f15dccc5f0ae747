"""The programs that may solve a Riccati equation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.methods.equations.doubling_together import DoublingProgram
from matfn_kernels.methods.equations.riccati import RiccatiProgram

if TYPE_CHECKING:
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates"]

_LINEAR: Final = {
    "solve_care": "solve_lyapunov with A^H and -Q",
    "solve_dare": "solve_discrete_lyapunov with A^H and Q",
}


_LARGEST: Final = 256
"""Largest order of which doubling is tried for a batch: errors of larger ones are bounded too loosely by norms."""


def candidates(call: Signature) -> list[Program]:
    """The programs that may serve a call: doubling alone takes plain equations in discrete time only, without a gain.

    Raises:
        Rejection: for a system without inputs, which is another equation.
    """
    call.require_double()
    order, columns = call.sizes("b")
    if order and not columns:
        raise Rejection("invalid_shape", "b has no columns", f"use {_LINEAR[call.subject]}")
    gain = call.parameter("gain") is True
    general = RiccatiProgram(call.subject, order, columns, call.given, call.dtype, gain)
    plain = call.shape("e") is None and call.shape("s") is None and not gain
    if call.subject == "solve_dare" and plain and order <= _LARGEST:
        return [DoublingProgram(general), general]
    return [general]
