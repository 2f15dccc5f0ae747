"""Coefficients of the polar iteration, and the law that its rounding obeys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

from matfn_kernels.numbers.coefficients import CUSHION, safe, schedule, taylor_step
from matfn_kernels.numbers.precision import Precision, spacing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BOUND", "HALF_BOUND", "Obeyed", "Row", "floor_of", "half_rows", "law", "obeyed_rows", "rows_from"]

BOUND: Final = 1e-7
"""Smallest singular value that the schedule resolves, relative to a bound of the norm.

It is near eps of float32, below which an iteration cannot tell a singular value from rounding; 14 steps lead there."""
_FLOOR: Final = 10 * BOUND
"""Smallest singular value that is answered for: with a margin of ten above what the schedule resolves."""
_NOISE: Final = 2.0
"""Smallest singular value that is answered for, in units of the threshold of rank: a nearer one may be noise."""
_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
"""How far above the interval rounding may carry a singular value: it grows 5 to 13 times in a step not yet converged.

In fp32 a matrix dominated by one singular value came out as NaN without this factor, and 1.0001 cured it; in bf16, with
far coarser rounding, 1.01 to 1.05 served."""
_ROUNDING: Final = 20.0
"""Error in eps of factors of well-conditioned matrices: at most 8 in fp32 and 2 in bf16 at conditions up to 30."""
_LOSS_IN_BF16: Final = 0.6
"""Error in bf16 by eps times the condition: at most 0.52 at conditions 3 to 300 and orders up to 128."""
_LOSS_OF_SUMS: Final = 0.25
"""Loss in sums of n terms, by sqrt(n) eps ||M||_F ||M^+||_F / n: up to 0.13 in any spectrum and shape."""
_LOOSE: Final = 1e-2
"""Tolerance from which a smaller cushion serves."""
_LOOSE_CUSHION: Final = 0.02
"""A cushion costs a step, and the rounding that it saves is far below so loose a tolerance."""
HALF_BOUND: Final = 2e-5
"""Smallest singular value that schedules for products in bf16 resolve, half of the smallest that is answered for."""
_HALF_CUSHION: Final = 0.2
"""A cushion of 0.1 saves a step and adds a third to the error of random matrices, one of 0.02 triples it."""
_FIRST_BOUND: Final = 0.3
"""Where the search for the widest interval starts: two steps take singular values in [0.3, 1] to 1e-3 from 1."""
_OBEYED_TARGET: Final = 1e-2
"""Error at which a schedule of so many steps counts as converged; it was not found by measuring."""
_OBEYED_SAFETY: Final = 1.001
"""The safety factor of fp32, whatever the arithmetic."""

Row: TypeAlias = tuple[float, float, float]
"""Coefficients a, b and c of one step."""


@dataclass(frozen=True, slots=True)
class Obeyed:
    """Steps that a caller named.

    Attributes:
        rows: their coefficients.
        by_frobenius: whether matrices are divided by their Frobenius norm, not by that of order 4.
    """

    rows: tuple[Row, ...]
    by_frobenius: bool


def rows_from(precision: Precision, allowed: float = 0.0, bound: float = BOUND) -> tuple[Row, ...]:
    """The coefficients for singular values in [bound, 1], to a quarter of the spacing or to what is allowed."""
    cushion = _LOOSE_CUSHION if allowed >= _LOOSE else CUSHION
    steps = schedule(2, bound, cushion=cushion, target=max(spacing(precision) / 4, allowed))
    return safe(steps, 2, _SAFETY[precision])


def half_rows(allowed: float, bound: float = HALF_BOUND) -> tuple[Row, ...]:
    """The coefficients for an iteration kept in float32 whose products are of bf16 numbers."""
    return safe(schedule(2, bound, cushion=_HALF_CUSHION, target=allowed), 2, _SAFETY[Precision.BF16])


def obeyed_rows(steps: int | None, coefficients: tuple[Row, ...] | None) -> tuple[Row, ...] | None:
    """The coefficients that explicit `steps` and `coefficients` of a call mean, None where neither is given.

    Coefficients alone are run once each; with steps, cut or the last row repeated. Steps alone take the schedule of
    the widest interval that converges to 1e-2 in that many, and Taylor steps once it is used up.
    """
    if coefficients is not None:
        wanted = len(coefficients) if steps is None else steps
        return (*coefficients[:wanted], *[coefficients[-1]] * (wanted - len(coefficients)))
    if steps is None:
        return None
    bound = _FIRST_BOUND
    while bound > BOUND and len(schedule(2, bound / 2, target=_OBEYED_TARGET)) <= steps:
        bound /= 2
    found = safe(schedule(2, bound, target=_OBEYED_TARGET), 2, _OBEYED_SAFETY)[:steps]
    return (*found, *[taylor_step(2)] * (steps - len(found)))


def floor_of(threshold: float) -> float:
    """Smallest singular value for which the iteration answers, relative to a bound of the norm."""
    return max(_NOISE * threshold, _FLOOR)


def law(order: int, precision: Precision, left: float | Tensor, condition: Tensor, spread: Tensor) -> Tensor:
    """Error of the iteration: a multiple of the rounding that was measured, and what the iteration may have left.

    Args:
        order: n.
        precision: the arithmetic.
        left: relative error beside rounding, of all matrices or (batch,).
        condition: of the matrices, (batch,).
        spread: ||M||_F ||M^+||_F / n of the matrices, (batch,): what rounding does to the whole factor.
    """
    loss = _LOSS_OF_SUMS * math.sqrt(order) * spread
    if precision is Precision.BF16:
        loss = torch.maximum(loss, _LOSS_IN_BF16 * condition)
    return spacing(precision) * (_ROUNDING + loss) + left
