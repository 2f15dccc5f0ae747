"""The stabilising solution X of the Riccati equation A^T X + X A - X B R^-1 B^T X + Q = 0.

Method: `riccati_terms` scales, `newton_kleinman` finds a solution and refines it. Domain: Q symmetric, R symmetric and
nonsingular; the answer is symmetric and A - B R^-1 B^T X is stable. `stabilisability` decides whether there is none;
where X is so large that B^T X keeps no digit of its feedback, none is found and no reason given.
The error estimate is Newton's step from X, rounding of the residual included; there is none where the closed loop is
too near an unstable one to trust that step, or the step too large to be certain of a solution nearby (Kantorovich).
Padding: -1 on the diagonal of A.
References: Kleinman, IEEE Trans. Autom. Control 13 (1968); Sun, SIAM J. Matrix Anal. Appl. 19 (1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg import invariant
from matfn_kernels.methods.equations.linear import HOPELESS
from matfn_kernels.methods.equations.newton_kleinman import stabilising
from matfn_kernels.methods.equations.riccati_terms import scaled
from matfn_kernels.methods.equations.stabilisability import unstabilisable
from matfn_kernels.numbers.arrays import EPS, gaussian, growth, norm, solved
from matfn_kernels.numbers.extended_product import CANCELLING, EXTENDED
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.per_matrix import Found, each, failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.equations.newton_kleinman import Solution
    from matfn_kernels.numbers.arrays import Array
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["RiccatiProgram", "candidates"]

_ASYMMETRIC: Final = 8.0
"""||Q - Q^T|| / ||Q|| in units of eps above which there is a remark, as for other symmetric inputs."""
_MARGIN: Final = 4.0
"""Of the estimate over the Newton step, as in `sylvester`: the condition in it is a lower bound."""
_ROUNDING: Final = 4.0
"""Units of eps in the estimate beside the Newton step: storing X rounds each entry by half of one."""
_SCHUR: Final = 40.0
"""Cost of a Riccati equation in units of eigh of its order."""


@dataclass(frozen=True, slots=True)
class RiccatiProgram:
    """Riccati equations: the values that all items in a batch share.

    Attributes:
        order: n.
        columns: of B.
        dtype: of the inputs and outputs.
        method: newton_kleinman.
        precision: fp64.
        ceiling: fp64.
    """

    order: int
    columns: int
    dtype: torch.dtype
    method: Literal["newton_kleinman"] = "newton_kleinman"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n), b (batch, n, m), q (batch, n, n), r (batch, m, m)."""
        name = "A^T X + X A - X B R^-1 B^T X + Q"
        findings = each(partial(_solve, dtype=self.dtype), inputs, (self.order, self.order), name)
        limit = _ASYMMETRIC * torch.finfo(self.dtype).eps
        asymmetric = torch.stack([_asymmetry(inputs[key]) > limit for key in ("q", "r")]).any(0)
        return replace(
            findings,
            rank=None,
            remarks={**findings.remarks, "asymmetric_weights": asymmetric},
        )

    def fallbacks(self) -> tuple[RiccatiProgram, ...]:
        """No fallback: the method tries every route by itself."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["q"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return _SCHUR * profile.cost("eigh", Precision.FP64, self.order)


def candidates(call: Signature) -> list[RiccatiProgram]:
    """The one program that serves a call.

    Raises:
        Rejection: for a system without inputs, which is another equation.
    """
    call.require_double()
    order, columns = call.sizes("b")
    if order and not columns:
        raise Rejection("invalid_shape", "b has no columns", "use solve_lyapunov with A^T and -Q")
    return [RiccatiProgram(order=order, columns=columns, dtype=call.dtype)]


def _asymmetry(a: Tensor) -> Tensor:
    wide = a.to(torch.float64)
    wide = wide / wide.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    size = invariant.matrix_norm(wide).clamp_min(torch.finfo(torch.float64).tiny)
    ratio: Tensor = invariant.matrix_norm(wide - wide.mT) / size
    return ratio


def _solve(a: Array, b: Array, q: Array, r: Array, dtype: torch.dtype) -> Found:
    """X of one equation, to be released in a given dtype."""
    q, r = q / 2 + q.T / 2, r / 2 + r.T / 2
    spread = _spread(r)
    if not math.isfinite(spread):
        return failed(a.shape, "singular_weight")
    equation = scaled(a, b, q, r)
    found = stabilising(equation)
    if found is None:
        return failed(a.shape, "not_stabilisable" if unstabilisable(equation) else None)
    value = found.equation.unscaled(found.x)
    if dtype != torch.float64 and not _stable(a, b, r, torch.from_numpy(value).to(dtype)):
        return failed(a.shape, None)
    condition, error = _certified(found, spread)
    remarks = ("ill_conditioned",) if math.isnan(error) else ()
    return Found(value, _residual(found), error, condition, found.steps, remarks=remarks)


def _stable(a: Array, b: Array, r: Array, x: Tensor) -> bool:
    """Whether A - B R^-1 B^T X is stable for an X that has been rounded."""
    loop = a - b @ solved(r, b.T @ x.to(torch.float64).numpy())
    return bool(np.linalg.eigvals(loop).real.max() < 0)


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


def _certified(found: Solution, spread: float) -> tuple[float, float]:
    """(condition, relative error); NaN where Newton's method is not certain to find a solution nearby."""
    equation, x = found.equation, found.x
    size = norm(equation.weighed(x))
    if size == 0:
        return 1.0, 0.0
    sizes = 2 * norm(equation.a) * norm(x) + spread * norm(found.terms[2]) + norm(equation.q)
    gain = growth(found.correction, found.correction_adjoint, x.shape)
    condition = max(1.0, gain * sizes / size)
    step = norm(equation.weighed(found.change)) + EXTENDED * condition * size + _cancelled(found, gain)
    error = _MARGIN * step / size + _ROUNDING * EPS
    trusted = gain * norm(found.loop) * norm(x) * EPS <= HOPELESS * size
    return condition, error if trusted and 4 * _curvature(found) * step < 1 else math.nan


def _cancelled(found: Solution, gain: float) -> float:
    """Size of the change of X by the rounding of B^T X in the residual, which may be small beside |B|^T |X|."""
    equation, x = found.equation, found.x
    feedback = solved(equation.r, equation.b.T @ x)
    sizes = CANCELLING * (np.abs(x) @ np.abs(equation.b) @ np.abs(feedback))
    bound = 2 * gain * norm(sizes)
    if bound <= EPS / 8 * norm(equation.weighed(x)):
        return bound
    noise = sizes * gaussian(x.shape)
    return norm(found.correction(noise + noise.T))


def _curvature(found: Solution) -> float:
    """||D|| / ||E||^2, D the Newton step from X + E for an error E as rounding makes it (Kantorovich)."""
    noise = gaussian(found.x.shape)
    error = found.operator.solve(noise + noise.T)
    step = found.correction(error @ found.equation.g @ error)
    return norm(step) / norm(found.equation.weighed(error)) ** 2
