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
"""Largest order, and number of inputs, of which doubling is tried: errors of larger ones are bounded too loosely."""


def candidates(call: Signature) -> list[Program]:
    """The programs that may serve a call: doubling takes plain equations only.

    Raises:
        Rejection: for a system without inputs, which is another equation.
    """
    call.require_double()
    order, columns = call.sizes("b")
    if order and not columns:
        raise Rejection("invalid_shape", "b has no columns", f"use {_LINEAR[call.subject]}")
    general = RiccatiProgram(call.subject, order, columns, call.given, call.dtype, call.parameter("gain") is True)
    plain = call.shape("e") is None and call.shape("s") is None
    if plain and max(order, columns) <= _LARGEST:
        return [DoublingProgram(general), general]
    return [general]
