"""The programs that may solve a Sylvester or Lyapunov equation in continuous time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.methods.equations.native_sylvester import NativeSylvester
from matfn_kernels.methods.equations.sylvester import SylvesterProgram

if TYPE_CHECKING:
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates"]


def candidates(call: Signature) -> list[SylvesterProgram | NativeSylvester]:
    """One matrix after the other by numpy and LAPACK, and a batch in C where that serves the call."""
    call.require_double()
    b = call.shape("b")
    usual = SylvesterProgram(call.sizes("a")[-1], None if b is None else b[-1], call.given, call.dtype)
    return [usual, *NativeSylvester.serving(usual)]
