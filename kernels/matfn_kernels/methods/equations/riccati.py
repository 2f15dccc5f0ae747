"""The stabilising solutions X of Riccati equations in continuous and in discrete time.

    A^H X E + E^H X A - (E^H X B + S) R^-1 (B^H X E + S^H) + Q = 0,    the pencil A - B K - s E to the left of the axis;
    A^H X A - E^H X E - (A^H X B + S) (R + B^H X B)^-1 (B^H X A + S^H) + Q = 0,    inside the unit circle.

Method: `riccati_terms` scales, `newton_kleinman` finds a solution and refines it. Domain: Q and R Hermitian, E
nonsingular, in continuous time R too; the answer is Hermitian. `stabilisability` decides whether there is none; where X
is so large that B^H X keeps no digit of its feedback, none is found and no reason given.
The error estimate is Newton's step from X, rounding of the residual included; there is none where the closed loop is
too near an unstable one to trust that step, or the step too large to be certain of a solution nearby (Kantorovich).
Padding: -1 on the diagonal of A in continuous time and 0 in discrete time, 1 on that of E.
References: Kleinman, IEEE Trans. Autom. Control 13 (1968); Hewer, IEEE Trans. Autom. Control 16 (1971); Sun, SIAM J.
Matrix Anal. Appl. 19 (1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.methods.equations.continuous import Continuous
from matfn_kernels.methods.equations.discrete import Discrete
from matfn_kernels.methods.equations.gains import gain_of
from matfn_kernels.methods.equations.linear import HOPELESS
from matfn_kernels.methods.equations.newton_kleinman import stabilising
from matfn_kernels.methods.equations.riccati_terms import scaled
from matfn_kernels.methods.equations.stabilisability import unstabilisable
from matfn_kernels.methods.equations.sylvester import descriptor_failure
from matfn_kernels.numbers.arrays import EPS, adjoint, gaussian, growth, norm, shifted, solved
from matfn_kernels.numbers.extended_product import CANCELLING, EXTENDED
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.per_matrix import Found, each, failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.equations.newton_kleinman import Solution
    from matfn_kernels.methods.equations.riccati_terms import Riccati
    from matfn_kernels.numbers.arrays import Array
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["RESIDUALS", "RiccatiProgram", "asymmetric_weights"]

_ASYMMETRIC: Final = 8.0
"""||Q - Q^H|| / ||Q|| in units of eps above which there is a remark, as for other symmetric inputs."""
_MARGIN: Final = 4.0
"""Of the estimate over the Newton step, as in `linear`: the condition in it is a lower bound."""
_ROUNDING: Final = 4.0
"""Units of eps in the estimate beside the Newton step: storing X rounds each entry by half of one."""
_SCHUR: Final = 40.0
"""Cost of a Riccati equation in units of eigh of its order."""
_REFINED: Final = 1e9
"""Condition of W up to which its refined quotient has no error but those of H and W (`riccati_terms`)."""
_CALLS: Final = 1e-3
"""Seconds that some 150 calls of numpy and LAPACK take for an equation of any order: a price, as `_SCHUR` is."""
RESIDUALS: Final = {
    "solve_care": "A^H X E + E^H X A - (E^H X B + S) R^-1 (B^H X E + S^H) + Q",
    "solve_dare": "A^H X A - E^H X E - (A^H X B + S) (R + B^H X B)^-1 (B^H X A + S^H) + Q",
}
"""Names of the residuals."""


@dataclass(frozen=True, slots=True)
class RiccatiProgram:
    """Riccati equations: the values that all items in a batch share.

    Attributes:
        function: solve_care or solve_dare.
        order: n.
        columns: of B.
        given: names of the optional inputs that a call gives.
        dtype: of the inputs and outputs.
        gain: whether K is the second output.
        method: newton_kleinman.
        precision: fp64.
        ceiling: fp64.
    """

    function: str
    order: int
    columns: int
    given: tuple[str, ...]
    dtype: torch.dtype
    gain: bool = False
    method: Literal["newton_kleinman"] = "newton_kleinman"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a, q and perhaps e (batch, n, n), b and perhaps s (batch, n, m), r (batch, m, m)."""
        kind = Discrete if self.function == "solve_dare" else Continuous
        solve = partial(_solve, kind, self.dtype, gain=self.gain)
        beside = ((self.columns, self.order),) if self.gain else ()
        findings = each(solve, inputs, (self.order, self.order), RESIDUALS[self.function], beside)
        remarks = {**findings.remarks, "asymmetric_weights": asymmetric_weights(inputs)}
        return replace(findings, rank=None, remarks=remarks)

    def fallbacks(self) -> tuple[RiccatiProgram, ...]:
        """No fallback: the method tries every route by itself."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        x, k = inputs["q"].shape, inputs["b"].mT.shape
        return tuple(torch.zeros(shape, dtype=self.dtype) for shape in ((x, k) if self.gain else (x,)))

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return _CALLS + _SCHUR * profile.cost("eigh", Precision.FP64, self.order)


def asymmetric_weights(inputs: Mapping[str, Tensor]) -> Tensor:
    """Whether Q or R is asymmetric beyond rounding, (batch,)."""
    limit = _ASYMMETRIC * torch.finfo(inputs["q"].dtype).eps
    return torch.stack([_asymmetry(inputs[key]) > limit for key in ("q", "r")]).any(0)


def _asymmetry(a: Tensor) -> Tensor:
    wide = a.to(torch.complex128 if a.dtype.is_complex else torch.float64)
    wide = wide / invariant.peak(wide)[:, None, None].clamp_min(torch.finfo(torch.float64).tiny)
    size = invariant.matrix_norm(wide).clamp_min(torch.finfo(torch.float64).tiny)
    ratio: Tensor = invariant.matrix_norm(wide - wide.mH) / size
    return ratio


def _solve(kind: type[Continuous | Discrete], dtype: torch.dtype, *, gain: bool, **matrices: Array) -> Found:
    """X of one equation, and K if it is asked for, to be released in a given dtype."""
    a, b, q, r = (matrices[name] for name in ("a", "b", "q", "r"))
    e, s = (matrices.get(name) for name in ("e", "s"))
    q, r = q / 2 + adjoint(q) / 2, r / 2 + adjoint(r) / 2
    failure = None if e is None else descriptor_failure(e)
    if kind is Continuous and not math.isfinite(_spread(r)):
        failure = "singular_weight"
    if failure:
        return failed(a.shape, failure)
    sent = kind(a, b, q, r, s, e, np.zeros(len(a), dtype=int), 0)
    equation = scaled(sent)
    found = stabilising(equation)
    if found is None:
        return failed(a.shape, "not_stabilisable" if unstabilisable(equation) else None)
    value, exponent = _unscaled(found)
    fits = not exponent and bool((np.abs(value) <= torch.finfo(dtype).max).all())
    if fits and torch.finfo(dtype).bits < torch.finfo(torch.float64).bits and not _stable(sent, value, dtype):
        return failed(a.shape, "unstable_once_rounded")
    condition, error = _certified(found)
    beside: tuple[Array, ...] = ()
    if gain and exponent:
        beside = (np.zeros(adjoint(b).shape),)  # no output counts where one is out of range
    elif gain:
        feedback = gain_of(sent, found, value, error)
        beside, condition = (feedback.k,), max(condition, feedback.condition(_term_sizes(found)))
        error = max(error, feedback.error) if math.isfinite(error) else error
    remarks = ("ill_conditioned",) if math.isnan(error) else ()
    residual = _residual(found)
    return Found(value, residual, error, condition, found.steps, remarks=remarks, beside=beside, exponent=exponent)


def _unscaled(found: Solution) -> tuple[Array, int]:
    """The caller's X and 0, or, beyond the range of float64, X 2^-e with a largest entry near 1 and e."""
    equation = found.equation
    value = equation.unscaled(found.x)
    if np.isfinite(value).all():
        return value, 0
    states = equation.states + equation.states[:, None]
    top = int((np.frexp(np.abs(found.x))[1] + states)[found.x != 0].max())
    return shifted(found.x, states - top), equation.exponent + top


def _stable(equation: Riccati, x: Array, dtype: torch.dtype) -> bool:
    """Whether the closed loop is stable for an X that has been rounded."""
    rounded = torch.from_numpy(x).to(dtype).to(torch.complex128 if dtype.is_complex else torch.float64).numpy()
    loop = equation.closed_loop(rounded)
    values = np.linalg.eigvals(loop if equation.e is None else solved(equation.e, loop))
    return bool(equation.instability(values).max() < 0)


def _spread(r: Array) -> float:
    """Condition number of R with its diagonal scaled to ones where possible; infinite if singular to rounding."""
    r = r / (np.abs(r).max() or 1.0)
    diagonal = np.sqrt(np.abs(r.diagonal()))
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    values = np.abs(np.linalg.eigvalsh(r / diagonal / diagonal[:, None]))
    return float(values.max() / values.min()) if values.min() > len(r) * EPS * values.max() else math.inf


def _residual(found: Solution) -> float:
    """Norm of the residual over the sum of its terms' norms."""
    terms = [found.equation.weighed(term) for term in found.terms]
    sizes = sum(norm(term) for term in terms)
    return norm(sum(terms, start=np.zeros_like(terms[0]))) / sizes if sizes else 0.0


def _certified(found: Solution) -> tuple[float, float]:
    """(condition, relative error); NaN where Newton's method is not certain to find a solution nearby."""
    equation, x = found.equation, found.x
    size = norm(equation.weighed(x))
    if size == 0:
        return 1.0, 0.0
    sizes = _term_sizes(found)
    gain = growth(found.correction, found.correction_adjoint, (len(x), len(x)))
    condition = max(1.0, gain * sizes / size)
    step = norm(equation.weighed(found.change)) + EXTENDED * condition * size + _cancelled(found, gain)
    error = _MARGIN * step / size + _ROUNDING * EPS
    trusted = gain * equation.loop_size(found.loop) * norm(x) * EPS <= HOPELESS * size
    return condition, error if trusted and 4 * _curvature(found) * step < 1 else math.nan


def _term_sizes(found: Solution) -> float:
    """Change of the equation by a relative change of its matrices."""
    return found.equation.linear_size(found.x) + _quadratic_size(found) + norm(found.equation.q)


def _quadratic_size(found: Solution) -> float:
    """Change of -H^H W^-1 H by a relative change of the matrices: by norms of its parts, or by the spread of W."""
    equation, spread = found.equation, _spread(found.equation.weight(found.x))
    feedback, (held, weight) = norm(equation.feedback(found.x)), equation.part_sizes(found.x)
    parts = 2 * feedback * held + feedback**2 * weight
    whole = spread * (norm(found.terms[2]) + 2 * equation.cross_size * feedback)
    return min(parts, whole) if spread < _REFINED else whole


def _cancelled(found: Solution, gain: float) -> float:
    """Size of the change of X by the rounding of H in the residual, which may be small beside |B|^H |X|."""
    equation, x = found.equation, found.x
    sizes = CANCELLING * equation.rounding(x)
    bound = 2 * gain * norm(sizes)
    if bound <= EPS / 8 * norm(equation.weighed(x)):
        return bound
    noise = sizes * gaussian(sizes.shape)
    return norm(found.correction(noise + noise.T))


def _curvature(found: Solution) -> float:
    """||D|| / ||F||^2, D the Newton step from X + F for an error F as rounding makes it (Kantorovich)."""
    noise = gaussian((len(found.x), len(found.x)))
    error = found.operator.solve(noise + noise.T)
    step = found.correction(found.equation.remainder(found.x, error))
    return norm(step) / norm(found.equation.weighed(error)) ** 2
