"""Optimal coefficients of x <- x (a + b x^r + c x^2r), the scalar form of every iteration here.

The polynomial of each step is the minimax approximation of 1 on the interval [l, u] that the step before left: the
error equioscillates at l, at the two stationary points and at u. Greedy steps compose to the optimum (Polar Express,
arXiv 2505.16932; roots of any r: kexue.fm/archives/11175). Two things differ from the bare optimum, both measured:

* cushion: the interval is widened to [max(l, 0.1 u), u] and the result rescaled to be centred at 1, or else large
  singular values are mapped to about l and drown in fp32 rounding;
* tail: as soon as the cubic-order Taylor step loses nothing visible, it is used instead, for it is exact at 1.

The unknowns are solved in the basis x, x(x^r - 1), x(x^r - 1)^2, which stays well conditioned as the interval shrinks
to the point 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "BOUNDS",
    "CUSHION",
    "ROOTS",
    "Coefficient",
    "Row",
    "Step",
    "minimax_step",
    "safe",
    "schedule",
    "taylor_step",
]

Coefficient: TypeAlias = "float | Tensor"
"""A number, or a (batch, 1, 1) tensor with one for each matrix."""

Row: TypeAlias = "tuple[Coefficient, Coefficient, Coefficient]"
"""Coefficients a, b and c of one step."""

CUSHION: Final = 0.1
"""Widening of each interval: without it fp32 polar factors of well-conditioned matrices by a schedule down to 1e-7 are
off by 9e-4, with it by 2e-6 (512 x 128). Values from 0.05 to 0.3 serve as well, and no step is added."""
ROOTS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
"""Roots of the tables that are compared with references."""
BOUNDS: Final = (1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
"""Bounds of the same tables."""
_EXCHANGES: Final = 100
"""Most exchanges of a step: the median is 5; on intervals within 1e-5 of 1 the points may never settle."""
_TAIL_ENTRY: Final = 5e-6
"""Distance from 1 at which the Taylor step leaves 1e-16 (r = 1) to 3e-15 (r = 8); a larger one would leave more."""
_SAFETY_UNTIL: Final = 1e-2
"""Error of a step above which it has a safety factor: one on the last steps would leave a floor, 2.5e-6 for 1.01."""
_ROUNDING: Final = 1e-15
"""Relative to u: points that move by less have settled; a few eps, below which rounding moves them."""
_NEAR: Final = 1e-9
"""Relative to u: points that move by less, and by no less than in the exchange before, move by rounding only."""
_MAX_STEPS: Final = 64
"""Longest schedule: that for singular values from 1e-7 has 15 steps, for eigenvalues from 1e-8 at most 12."""


@dataclass(frozen=True, slots=True)
class Step:
    """Coefficients of one step and the worst |x - 1| on the whole interval after it."""

    a: float
    b: float
    c: float
    error: float


def taylor_step(r: int) -> tuple[float, float, float]:
    """Coefficients of the cubically convergent step at 1, the [2/0] expansion of z^(-1/r)."""
    return (r + 1) * (2 * r + 1) / (2 * r * r), -(2 * r + 1) / (r * r), (r + 1) / (2 * r * r)


def minimax_step(r: int, l: float, u: float) -> tuple[float, float, float]:
    """Coefficients of the best approximation of 1 by x (a + b x^r + c x^2r) on [l, u]."""
    inner = l + (u - l) * np.array([0.25, 0.75])
    points = np.array([l, *inner, u])
    local, moved = np.zeros(3), np.inf
    for _ in range(_EXCHANGES):
        local = _equioscillating(r, points)
        before, points = points, _stationary_points(r, local, l, u)
        last, moved = moved, float(np.abs(points - before).max())
        if moved <= _ROUNDING * u or (moved <= _NEAR * u and moved >= last):
            break
    alpha, beta, gamma = (float(value) for value in local)
    return alpha - beta + gamma, beta - 2 * gamma, gamma


def _equioscillating(r: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Local coefficients whose error alternates in sign with equal size at the four points."""
    z = np.expm1(r * np.log(points))
    width = float(np.abs(z).max())
    scaled = z / width
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    system = np.stack([points, points * scaled, points * scaled**2, signs], axis=1)
    alpha, beta, gamma, _ = np.linalg.solve(system, np.ones(4))
    return np.array([alpha, beta / width, gamma / width**2])


def _stationary_points(r: int, local: NDArray[np.float64], l: float, u: float) -> NDArray[np.float64]:
    """The interval's ends and the two roots of p', from its quadratic in z = x^r - 1."""
    alpha, beta, gamma = local
    quadratic, linear, constant = (1 + 2 * r) * gamma, (1 + r) * beta + 2 * r * gamma, alpha + r * beta
    root = np.sqrt(max(linear * linear - 4 * quadratic * constant, 0.0))
    larger = -0.5 * (linear + np.copysign(root, linear))
    zs = np.sort(np.array([larger / quadratic, constant / larger]))
    inner = np.exp(np.log1p(np.maximum(zs, -1 + 1e-300)) / r)
    points: NDArray[np.float64] = np.clip(np.array([l, inner[0], inner[1], u]), l, u)
    return points


def _value(coefficients: tuple[float, float, float], r: int, x: float) -> float:
    a, b, c = coefficients
    return x * (a + b * x**r + c * x ** (2 * r))


def _taylor_error(r: int, l: float, u: float) -> float:
    step = taylor_step(r)
    return max(abs(_value(step, r, l) - 1), abs(_value(step, r, u) - 1))


@lru_cache(maxsize=512)
def schedule(r: int, bound: float, *, cushion: float = CUSHION, target: float = 2e-16) -> tuple[Step, ...]:
    """Steps that take every x in [bound, 1] to within `target` of 1.

    For roots x = lambda^(1/r), so an eigenvalue bound of l asks for bound = l^(1/r); for the polar factor r = 2 and
    `bound` is that of the singular values. The last step may be replaced by the Taylor step where it is as good.

    Args:
        r: the root.
        bound: smallest x, relative to the largest.
        cushion: widening of each interval, see the module's head.
        target: error at which to stop.
    """
    steps: list[Step] = []
    l, u = bound, 1.0
    error = 1.0
    while error > target and len(steps) < _MAX_STEPS:
        if 1 - l < _TAIL_ENTRY and u - 1 < _TAIL_ENTRY:
            worst = _taylor_error(r, l, u)
            steps.append(Step(*taylor_step(r), worst))
            break
        raw = minimax_step(r, max(l, cushion * u), u)
        # Equioscillation: the largest value mirrors the one at the widened interval's lower end.
        low, high = _value(raw, r, l), 2 - _value(raw, r, max(l, cushion * u))
        scale = 2 / (low + high)
        a, b, c = (scale * value for value in raw)
        l, u = scale * low, scale * high
        error = max(1 - l, u - 1)
        steps.append(Step(a, b, c, error))
    return tuple(steps)


def safe(steps: tuple[Step, ...], r: int, factor: float) -> tuple[tuple[float, float, float], ...]:
    """Coefficients whose early steps tolerate x up to `factor` above the interval.

    Rounding just above u grows by 5 to 13 in each step that has not converged; the converging steps need no factor
    and would be left with a floor by one.
    """
    return tuple(
        (step.a / factor, step.b / factor ** (r + 1), step.c / factor ** (2 * r + 1))
        if step.error >= _SAFETY_UNTIL
        else (step.a, step.b, step.c)
        for step in steps
    )
