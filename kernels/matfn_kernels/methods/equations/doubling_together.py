"""Discrete Riccati equations by doubling, for all matrices of a batch at once.

X comes from `doubling`'s recursion with inverses in place of systems. With K = W^-1 B^H X A, W = R + B^H X B, and the
closed loop A_c = A - B K the residual is A_c^H X A_c - X + K^H R K + Q, in which an error of K counts by its square.
Smith's doubling (`smith`) of the loop gives Newton's step from that residual, shows that the loop is stable, and bounds
the norm of the inverse of the derivative. With that and a bound c of the curvature, the error is at most
2 s / (1 + sqrt(1 - 4 c s)) of a step s (Kantorovich). What cannot be shown to have all this is left to `riccati`.
Reference: Chu, Fan, Lin and Wang, Int. J. Control 77 (2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.methods.equations.riccati import RESIDUALS, RiccatiProgram, asymmetric_weights
from matfn_kernels.methods.equations.smith import largest, summed
from matfn_kernels.numbers.arrays import EPS
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["DoublingProgram"]

_STEPS: Final = 16
"""Most doublings: 3400 random equations took no more; others are left to the other method."""
_SETTLED: Final = 1e-8
"""A relative change after which the next, its square, is rounding."""
_TRUSTED: Final = 1e-6
"""Condition times eps up to which rounding changes the bounds by a small part of them."""
_MARGIN: Final = 1.1
"""Of the estimate over Kantorovich's bound, for the rounding of what is in it."""
_ROUNDING: Final = 4.0
"""Units of eps beside: X is stored with half of one."""
_PRODUCTS: Final = 250.0
"""Products in ten steps of both doublings, inverses among them: a price, on which no answer rests."""


@dataclass(frozen=True, slots=True)
class DoublingProgram:
    """Discrete Riccati equations without descriptor and cross term: the values that all items in a batch share.

    Attributes:
        general: the program for every equation.
        method: doubling.
        precision: fp64.
        ceiling: fp64.
    """

    general: RiccatiProgram
    method: Literal["doubling"] = "doubling"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.general.dtype

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a and q (batch, n, n), b (batch, n, m), r (batch, m, m)."""
        a, b, q, r = (inputs[name].to(working(self.precision, self.dtype)) for name in ("a", "b", "q", "r"))
        equation = _Equation(a, b, _hermitian(q), _hermitian(r))
        x, steps = _doubled(equation)
        loop = equation.loop(x)
        residual, condition, error = _judged(equation, x, loop)
        stored = equation.loop(x.to(self.dtype).to(x.dtype))
        stable = summed(stored.matrix, torch.zeros_like(x))[2] & x.isfinite().flatten(1).all(-1)
        good = stable & (condition * EPS <= _TRUSTED) & error.isfinite()
        return Findings(
            outputs=(torch.where(good[:, None, None], x, 0),),
            residual_name=RESIDUALS["solve_dare"],
            residual=residual,
            error=torch.where(good, error, torch.inf),
            condition=torch.where(good, condition, torch.inf),
            steps=steps,
            remarks={"asymmetric_weights": asymmetric_weights(inputs)},
        )

    def fallbacks(self) -> tuple[Program, ...]:
        """The method for every equation."""
        return (self.general,)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return self.general.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return _PRODUCTS * profile.cost("gemm", Precision.FP64, self.general.order)


class _Loop(NamedTuple):
    """K and H (batch, m, n), W and W^-1 (batch, m, m) and A - B K (batch, n, n)."""

    gain: Tensor
    held: Tensor
    weight: Tensor
    inverse: Tensor
    matrix: Tensor


class _Equation(NamedTuple):
    """A, B, and Hermitian Q and R in double precision."""

    a: Tensor
    b: Tensor
    q: Tensor
    r: Tensor

    def loop(self, x: Tensor) -> _Loop:
        """The closed loop of X."""
        pressed = invariant.product(self.b.mH, x)
        weight = _hermitian(self.r + invariant.product(pressed, self.b))
        inverse, held = invariant.inverse(weight), invariant.product(pressed, self.a)
        gain = invariant.product(inverse, held)
        return _Loop(gain, held, weight, inverse, self.a - invariant.product(self.b, gain))


def _hermitian(x: Tensor) -> Tensor:
    return (x + x.mH) / 2


def _doubled(equation: _Equation) -> tuple[Tensor, Tensor]:
    """X and the steps of each matrix; NaN where it does not settle."""
    e, b, x = equation.a, equation.b, equation.q.clone()
    g = _hermitian(invariant.product(b, invariant.product(invariant.inverse(equation.r), b.mH)))
    one = torch.eye(e.shape[-1], dtype=e.dtype, device=e.device)
    live, steps = e.isfinite().flatten(1).all(-1), torch.zeros(len(e), dtype=torch.float64, device=e.device)
    for _ in range(_STEPS):
        middle = invariant.inverse(one + invariant.product(g, x))
        ahead = invariant.product(middle, e)
        change = _hermitian(invariant.product(e.mH, invariant.product(x, ahead)))
        growth = _hermitian(invariant.product(invariant.product(invariant.product(e, middle), g), e.mH))
        after = invariant.product(e, ahead)
        x = torch.where(live[:, None, None], x + change, x)
        g, e = (torch.where(live[:, None, None], *pair) for pair in ((g + growth, g), (after, e)))
        steps = steps + live
        live = live & ~(norm(change) <= _SETTLED * norm(x))
        if not live.any():
            break
    return torch.where(live[:, None, None], torch.nan, x), steps


def _judged(equation: _Equation, x: Tensor, loop: _Loop) -> tuple[Tensor, Tensor, Tensor]:
    """Relative residual, condition and relative error, (batch,) each; the error is infinite where nothing is shown."""
    (a, b, q, r), (gain, held, weight, inverse, matrix) = equation, loop
    image = invariant.product(invariant.product(matrix.mH, x), matrix)
    cost = invariant.product(invariant.product(gain.mH, r), gain)
    (change, h, y), _, settled = summed(matrix.mH, left := _hermitian(image - x + cost + q))
    reach = (largest(h) * largest(y)).sqrt()
    na, nb, nq, nr, nx, nk, nw, ni, nc = map(norm, (a, b, q, r, x, gain, weight, inverse, matrix))
    unit = orthogonality(a.shape[-1] + b.shape[-1]) * EPS
    moved = na + nb * nk
    rounding = unit * (3 * (nc.square() * nx + nk.square() * nr) + nx + nq + 2 * nc * nx * moved)
    missed = norm(invariant.product(weight, gain) - held) + unit * nw * nk
    rounding = rounding + ni * missed.square()
    step = norm(change) + reach * rounding
    curvature = reach * nc.square() * norm(invariant.product(invariant.product(b, inverse), b.mH))
    parts = 2 * nk * na * nx * nb + nk.square() * (nr + nb.square() * nx)
    whole = torch.where(nx > 0, nx, 1.0)
    condition = (reach * ((na.square() + 1) * nx + nq + parts) / whole).clamp_min(1.0)
    near = 1 - 4 * curvature * step
    error = _MARGIN * 2 * step / (1 + near.clamp_min(0).sqrt()) / whole + _ROUNDING * EPS
    error = torch.where(settled & (near > 0), error, torch.inf)
    return norm(left) / (norm(image) + nx + norm(cost) + nq).clamp_min(EPS * EPS), condition, error
