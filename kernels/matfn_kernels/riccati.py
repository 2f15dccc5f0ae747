"""The stabilising solution X of the Riccati equation A^T X + X A - X B R^-1 B^T X + Q = 0.

Method: scaling by powers of two so that Q and G = B R^-1 B^T are alike, then `riccati_start`: the sign of the
Hamiltonian matrix, else an ordered Schur form, and Newton-Kleinman while the residual falls. Domain: Q symmetric, R
symmetric and nonsingular; the answer is symmetric and A - B R^-1 B^T X is stable, or there is none. The error estimate
is the residual, rounding included, over the separation of the closed loop times ||X||; there is none where that is not
small enough for Newton's method to be certain of a solution nearby (Kantorovich). Padding: -1 on the diagonal of A.
References: Roberts, Int. J. Control 32 (1980); Kleinman, IEEE Trans. Autom. Control 13 (1968); Sun, SIAM J. Matrix
Anal. Appl. 19 (1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from matfn_kernels.extended_product import EXTENDED
from matfn_kernels.per_matrix import Found, each, failed
from matfn_kernels.precision import Precision
from matfn_kernels.rejection import Rejection
from matfn_kernels.riccati_equation import scaled
from matfn_kernels.riccati_start import stabilising
from matfn_kernels.stabilisability import unstabilisable
from matfn_kernels.sylvester import HOPELESS
from matfn_kernels.sylvester_operator import EPS, gaussian, growth, norm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.calibration import Profile
    from matfn_kernels.findings import Findings
    from matfn_kernels.riccati_equation import Riccati
    from matfn_kernels.riccati_start import Solution
    from matfn_kernels.signature import Signature
    from matfn_kernels.sylvester_operator import Array

__all__ = ["RiccatiProgram", "candidates"]

_ASYMMETRIC: Final = 8.0
_MARGIN: Final = 4.0
_ROUNDING: Final = 4.0
_SCHUR: Final = 30.0
"""A Riccati equation in units of eigh of its order."""


@dataclass(frozen=True, slots=True)
class RiccatiProgram:
    """What a batch of equations must have in common to be computed together.

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
        findings = each(_solve, inputs, (self.order, self.order), name)
        limit = _ASYMMETRIC * torch.finfo(self.dtype).eps
        asymmetric = torch.stack([_asymmetry(inputs[key]) > limit for key in ("q", "r")]).any(0)
        return replace(
            findings,
            rank=None,
            remarks={**findings.remarks, "asymmetric_weights": asymmetric},
        )

    def fallbacks(self) -> tuple[RiccatiProgram, ...]:
        """None: the method tries every route by itself."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
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
    size = torch.linalg.matrix_norm(wide).clamp_min(torch.finfo(torch.float64).tiny)
    ratio: Tensor = torch.linalg.matrix_norm(wide - wide.mT) / size
    return ratio


def _solve(a: Array, b: Array, q: Array, r: Array) -> Found:
    """X of one equation."""
    q, r = q / 2 + q.T / 2, r / 2 + r.T / 2
    spread = _spread(r)
    if not math.isfinite(spread):
        return failed(a.shape, "singular_weight")
    equation = scaled(a, b, q, r)
    found = stabilising(equation)
    if found is None:
        return failed(a.shape, "not_stabilisable" if unstabilisable(equation) else None)
    equation = found.equation
    condition, error = _certified(found, spread)
    remarks = ("ill_conditioned",) if math.isnan(error) else ()
    value, residual = equation.unscaled(found.x), equation.residual(found.x)
    return Found(value, residual, error, condition, found.steps, remarks=remarks)


def _spread(r: Array) -> float:
    """Condition number of R with its diagonal scaled to ones where possible; infinite if singular to rounding."""
    r = r / (np.abs(r).max() or 1.0)
    diagonal = np.sqrt(np.abs(r.diagonal()))
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    values = np.abs(np.linalg.eigvalsh(r / diagonal / diagonal[:, None]))
    return float(values.max() / values.min()) if values.min() > len(r) * EPS * values.max() else math.inf


def _certified(found: Solution, spread: float) -> tuple[float, float]:
    """(condition, relative error); NaN where Newton's method is not certain to find a solution nearby."""
    equation, operator, x = found.equation, found.operator, found.x
    size = norm(equation.weighed(x))
    if size == 0:
        return 1.0, 0.0
    sizes = 2 * norm(equation.a) * norm(x) + spread * norm(equation.terms(x)[2]) + norm(equation.q)
    spill = growth(
        lambda y: equation.weighed(operator.solve(y)), lambda y: operator.solve_adjoint(equation.weighed(y)), x.shape
    )
    condition = max(1.0, spill * sizes / size)
    error = _MARGIN * norm(equation.weighed(found.change)) / size + _ROUNDING * (EXTENDED * condition + EPS)
    return condition, error if _certain(found, sizes) else math.nan


def _certain(found: Solution, sizes: float) -> bool:
    """Whether Newton's step can be trusted, and shrinks from here on (Kantorovich)."""
    operator, g = found.operator, found.equation.g
    gain = operator.inverse_norm()
    step = norm(found.change) + EXTENDED * gain * sizes
    likely = operator.solve(gaussian(g.shape) + gaussian(g.shape).T)
    curvature = norm(operator.solve(likely @ g @ likely)) / norm(likely) ** 2
    return gain * norm(found.loop) * EPS <= HOPELESS and 4 * curvature * step < 1
