"""The programs that serve exp, log and power of matrices without symmetry.

e^(t A) by scaling and squaring, of real matrices in C too; log A and powers by the Schur form, whole powers by repeated
squaring. Always float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.methods.general_functions.by_schur import SchurProgram
from matfn_kernels.methods.general_functions.exponential import ExponentialProgram
from matfn_kernels.methods.general_functions.native_exponential import NativeExponential
from matfn_kernels.methods.general_functions.whole_power import WholePowerProgram

if TYPE_CHECKING:
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates"]


def candidates(call: Signature) -> list[Program]:
    """The programs that serve a call with structure="general".

    Raises:
        Rejection: for the pseudo-inverse power, which needs orthogonal eigenvectors, and for a precision below fp64.
    """
    call.require_double()
    order = call.sizes("a")[-1]
    if call.subject == "exp":
        t = call.parameter("t")
        assert isinstance(t, float)
        usual = ExponentialProgram(order, t, call.dtype, call.is_pinned)
        return [usual, *NativeExponential.serving(order, t, usual, symmetric=False)]
    damping, shift, p = (call.parameter(name) for name in ("damping", "shift", "p"))
    if isinstance(damping, str):
        raise Rejection(
            "invalid_parameter",
            f'{call.function}(): damping="{damping}" with structure="general"',
            "give a number; the pseudo-inverse power is defined for symmetric matrices",
        )
    assert shift is None or isinstance(shift, float)
    assert p is None or isinstance(p, float)
    assert damping is None or isinstance(damping, float)
    g = call.shape("g")
    rows = None if g is None else g[-2]
    if p is not None and p.is_integer():
        return [WholePowerProgram(order, rows, int(p), damping or 0.0, shift, call.dtype, call.is_pinned)]
    return [SchurProgram(order, rows, p, damping or 0.0, shift, call.dtype, call.is_pinned)]
