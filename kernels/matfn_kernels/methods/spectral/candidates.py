"""The programs that may serve a logarithm, an exponential or a power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.methods.general_functions import candidates as general_functions
from matfn_kernels.methods.spectral.maps import Exponential, Logarithm, RealPower, WholePower
from matfn_kernels.methods.spectral.program import SpectralProgram
from matfn_kernels.methods.spectral.question import Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn_kernels.methods.spectral.maps import Scalar
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates", "question_of"]


def candidates(call: Signature) -> Sequence[Program]:
    """The programs that may serve a call: those of the structure that was declared."""
    return general_functions.candidates(call) if call.parameter("structure") == "general" else _symmetric(call)


def _symmetric(call: Signature) -> list[SpectralProgram]:
    """The one program, in the highest precision that the call allows."""
    _, ceiling = call.direct_precisions()
    return [SpectralProgram(question_of(call), ceiling)]


def question_of(call: Signature) -> Question:
    """The question that a call asks about symmetric matrices."""
    g = call.shape("g")
    damping, shift = call.parameter("damping"), call.parameter("shift")
    assert damping is None or isinstance(damping, float | str)
    assert shift is None or isinstance(shift, float)
    return Question(
        function=_function(call),
        order=call.sizes("a")[-1],
        rows=None if g is None else g[-2],
        damping=0.0 if shift == 0 else damping,
        shift=shift or None,
        dtype=call.dtype,
    )


def _function(call: Signature) -> Scalar:
    if call.subject == "log":
        return Logarithm()
    if call.subject == "exp":
        t = call.parameter("t")
        assert isinstance(t, float)
        return Exponential(t)
    p = call.parameter("p")
    assert isinstance(p, float)
    return WholePower(int(p)) if p.is_integer() else RealPower(p)
