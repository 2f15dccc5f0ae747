"""The matrix sign A (A^2)^(-1/2), and the projectors (I + S) / 2 and (I - S) / 2 that it gives.

Domain: square matrices, real or complex, without an eigenvalue on the imaginary axis. Always double precision, whatever
the input's dtype: the sign of a nonsymmetric matrix may be far worse conditioned than the matrix. Two methods: `newton`
takes the batch at once; matrices that it cannot vouch for, among them all without a sign, go one by one to
`newton_schur`, whose certificate has more digits. An answer is without an estimate where rounding of A alone could
carry an eigenvalue across the axis. Padding: ones on the diagonal of A.
References: Su, kexue.fm/archives/11056; Higham, Functions of Matrices (2008), chapter 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from matfn_kernels.methods.sign.newton import NewtonSign
from matfn_kernels.methods.sign.one_by_one import SchurSign
from matfn_kernels.methods.sign.question import SignQuestion

if TYPE_CHECKING:
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates"]


def candidates(call: Signature) -> list[Program]:
    """The program that serves a call, and if a method was asked for those of all methods."""
    call.require_double()
    half = call.parameter("half")
    side: Literal["right", "left"] | None = None if half is None else "right" if half == "right" else "left"
    question = SignQuestion(call.sizes("a")[-1], side, call.dtype)
    if call.is_pinned:
        return [NewtonSign(question, pinned=True), SchurSign(question, pinned=True)]
    return [NewtonSign(question)]
