"""Polar factor U V^H and singular-value clipping U clip(S, lo, hi) V^H of matrices of any shape and rank.

Three methods give the same answers on tall M (a wide one is transposed, exactly):

* `svd`: the singular value decomposition;
* `gram`: M h(M^H M) with h from eigh of the Gram matrix in float64. Squaring costs half the digits, which float64 has
  to spare for inputs of single precision or less;
* `newton_schulz`: the iteration, for matrices without singular values that rounding could have made.

Singular values at or below 8 eps sigma_max are noise: the polar factor is 0 there and `lo` does not lift them. For half
precision eps is that of float32, and where a precision is named that is coarser than the dtype, that of the precision.
References: kexue.fm/archives/10922, 10996, 11006, 11059; Amsel et al., arXiv 2505.16932.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from matfn_kernels.linalg.iteration import ENGINE_REACH
from matfn_kernels.methods.polar.gram import GramPolar
from matfn_kernels.methods.polar.newton_schulz import SHARE, IteratedPolar
from matfn_kernels.methods.polar.question import Polar
from matfn_kernels.methods.polar.schedule import Obeyed, obeyed_rows
from matfn_kernels.methods.polar.svd import SvdPolar
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates", "question_of"]

_LOOSE: Final = 1e-3
"""Tolerance from which the iteration may leave an error on purpose; it saves a step at 1e-2 and two at 0.2.

The default tolerance of float32 matrices is never above it, so only callers who named a tolerance get fewer digits."""


def candidates(call: Signature) -> list[Program]:
    """The programs that may serve a call."""
    low, ceiling = call.precisions()
    question, obeyed, pinned = question_of(call), _obeyed_of(call), call.is_pinned
    loose = call.tol is not None and call.tol >= _LOOSE and question.bounds is None and obeyed is None
    allowed = SHARE * min(1.0, call.tol or 0.0) if loose else 0.0
    iterated = IteratedPolar(question, low, ceiling, obeyed, allowed, pinned=pinned)
    if obeyed is not None or ceiling is Precision.BF16:
        return [iterated]
    candidates: list[Program] = [SvdPolar(question, ceiling, pinned=pinned)]
    if low is not Precision.FP64 and ceiling is Precision.FP64:
        candidates.append(GramPolar(question, pinned=pinned))
    if not call.dtype.is_complex and (low is Precision.FP64 or call.tolerates(ENGINE_REACH)):
        candidates.append(iterated)
    return candidates


def question_of(call: Signature) -> Polar:
    """The question that a call asks."""
    rows, columns = call.sizes("m")
    return Polar(rows, columns, _bounds_of(call), call.dtype)


def _bounds_of(call: Signature) -> tuple[float, float] | None:
    if call.subject == "msign":
        return None
    lo, hi = call.parameter("lo"), call.parameter("hi")
    assert isinstance(lo, float)
    assert hi is None or isinstance(hi, float)
    return lo, float("inf") if hi is None else hi


def _obeyed_of(call: Signature) -> Obeyed | None:
    """The steps that the call names; coefficients of others are made for matrices divided by the Frobenius norm."""
    steps, coefficients = call.parameter("steps"), call.parameter("coefficients")
    assert steps is None or isinstance(steps, int)
    assert coefficients is None or isinstance(coefficients, tuple)
    rows = obeyed_rows(steps, cast("tuple[tuple[float, float, float], ...] | None", coefficients))
    scale = call.parameter("scale") or ("schatten4" if coefficients is None else "frobenius")
    return None if rows is None else Obeyed(rows, scale == "frobenius")
