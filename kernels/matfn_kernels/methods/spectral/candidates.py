"""The programs that may serve a logarithm, an exponential or a power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.methods.general_functions import candidates as general_functions
from matfn_kernels.methods.general_functions.exponential import ExponentialProgram
from matfn_kernels.methods.general_functions.native_exponential import NativeExponential, SymmetricPart
from matfn_kernels.methods.spectral.maps import Exponential, Logarithm, RealPower, WholePower
from matfn_kernels.methods.spectral.program import SpectralProgram
from matfn_kernels.methods.spectral.question import Question
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn_kernels.methods.spectral.maps import Scalar
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates", "question_of"]


def candidates(call: Signature) -> Sequence[Program]:
    """The programs that may serve a call: those of the structure that was declared."""
    return general_functions.candidates(call) if call.parameter("structure") == "general" else _symmetric(call)


def _symmetric(call: Signature) -> list[Program]:
    """Eigenvalues in the highest precision that the call allows, and for an exponential products in C."""
    _, ceiling = call.direct_precisions()
    usual, t = SpectralProgram(question_of(call), ceiling), call.parameter("t")
    if call.subject != "exp" or ceiling is not Precision.FP64:
        return [usual]
    assert isinstance(t, float)
    order = call.sizes("a")[-1]
    by_products = SymmetricPart(ExponentialProgram(order, t, call.dtype, call.is_pinned))
    left = by_products if call.is_pinned else usual
    return [usual, *NativeExponential.serving(order, t, left, symmetric=True)]


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
