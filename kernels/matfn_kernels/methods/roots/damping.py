"""Rules of damping: which symmetric matrices have roots, and the shift that is added to them, for every method.

With w = lambda_min / lambda_max and eps the coarser of the input's dtype and the arithmetic:

* w < -sqrt(eps), any explicit damping added, or lambda_max < 0: not positive. Negative eigenvalues above count as 0.
* damping = None: inverse roots use max(0, 8 eps - w), continuous in A; roots never damp.
* damping = d: A + d lambda_max I. damping = 0: never; a singular matrix is then refused by inverse roots.
* shift = s > 0: A + s I; if w < -8 eps beyond the rounding of eigh, negative eigenvalues count as 0 before. For the
  rest it is a damping of s / lambda_max, but the zero matrix has powers of s.
* inverse roots of an A + shift I that is not positive definite beyond rounding count eigenvalues of A that rounding
  cannot tell from 0, and negative ones, as 0 before the shift is added, and have no error estimate.
* damping = "range": 0 on eigenvalues below 8 eps lambda_max.
* the inverse root of the zero matrix is singular, whatever the damping, but for a shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.numbers.precision import FLOOR

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.numbers.precision import Precision

__all__ = ["NEAR", "Damped", "Regularised", "added", "regularise"]

NEAR: Final = 1 / 4
"""Part of the noise, 8 eps of the largest eigenvalue, within which "range" cannot tell an eigenvalue from the
threshold, 8 eps too: some LAPACK leaves 4 eps in zeros of a null space, which must still be told from it."""
_LOST: Final = 1 / 2
"""Part of the noise below which an inverse root cannot tell an eigenvalue of A + shift I from zero: 4 eps, as much as
LAPACK was seen to leave in zeros of a null space, and half of the default damping's threshold."""


class Damped(Protocol):
    """A question about symmetric matrices to which the rules apply."""

    @property
    def damping(self) -> float | str | None:
        """As the caller gave it."""

    @property
    def shift(self) -> float | None:
        """The number to add to the diagonal, where the caller gave one in place of a damping."""

    @property
    def signs(self) -> tuple[int, ...]:
        """One an output: -1 where an eigenvalue 0 has no value, as of inverse powers, and else +1."""

    @property
    def drops(self) -> bool:
        """Whether it is 0 on eigenvalues below the threshold of rank."""

    @property
    def damps_by_default(self) -> bool:
        """Whether matrices that are not positive definite to rounding are shifted, as far as they need it."""

    @property
    def is_shifted(self) -> bool:
        """Whether the caller adds something to the diagonal."""

    def eps(self, precision: Precision) -> float:
        """The coarser spacing of the dtype and of the arithmetic in which eigenvalues are known."""


@dataclass(frozen=True, slots=True)
class Regularised:
    """A spectrum with its damping, all (batch,) but `spectrum` and `keep` (batch, n).

    Attributes:
        spectrum: eigenvalues of A + shift I, those that are not positive counted as described above.
        keep: eigenvalues above the threshold of numerical rank.
        damping: shift relative to the largest eigenvalue.
        shift: what is added to the diagonal, in the units of the eigenvalues.
        condition: largest over smallest eigenvalue of A + shift I, or with "range" that of the function on the range.
        failures: matrices without an answer, by reason.
        remarks: matrices whose answer is approximate for its damping or sign.
        ambiguous: matrices of which "range" cannot say what to keep, or whose inverse roots rounding leaves open.
    """

    spectrum: Tensor
    keep: Tensor
    damping: Tensor
    shift: Tensor
    condition: Tensor
    failures: dict[str, Tensor]
    remarks: dict[str, Tensor]
    ambiguous: Tensor


def regularise(power: Damped, eps: float, values: Tensor, noise: Tensor, exponent: Tensor) -> Regularised:
    """Applies the rules to eigenvalues (batch, n) ascending, scaled by 2^-exponent, known to within `noise` (batch,).

    The shift has no bit that is lost when it is scaled back and subnormal: certificates state it exactly. `eps` is the
    spacing in which eigenvalues are known.
    """
    bottom, top = values[:, 0], values[:, -1]
    largest = top.clamp_min(0)
    relative = torch.where(top > 0, bottom / top, torch.where(bottom < 0, -math.inf, 0.0))
    damping, shift, far = added(power, eps, (relative, largest), exponent)
    lifted = (bottom < -FLOOR * eps * largest - noise) & (power.shift is not None)
    spectrum, lost = _shifted(power, torch.where(lifted[:, None], values.clamp_min(0), values), shift, noise)
    cut = FLOOR * eps * largest
    keep = spectrum > cut[:, None]
    near = (spectrum - cut[:, None]).abs() <= noise[:, None] * NEAR
    negative = (relative < -FLOOR * eps) & (damping == 0) & (power.shift is None) | lifted
    remarks = {"negative": negative, "semidefinite": lost}
    failures = _failures(power, eps, (relative, top, damping), spectrum[:, 0] <= noise)
    return Regularised(
        spectrum=spectrum,
        keep=keep,
        damping=damping,
        shift=shift,
        condition=_condition(spectrum, keep) if power.drops else spectrum[:, -1] / spectrum.amin(-1),
        failures={**failures, "far_shift": far} if power.shift is not None else failures,
        remarks={**remarks, "damped": damping > 0} if power.damps_by_default else remarks,
        ambiguous=near.any(-1) if power.drops else lost,
    )


def _condition(spectrum: Tensor, keep: Tensor) -> Tensor:
    """Largest over smallest eigenvalue of the k that are kept, times (n/k)^(1/2), (batch,); 1 where none is.

    A backward error is spread over all n columns, and the value over k.
    """
    smallest = torch.where(keep, spectrum, math.inf).amin(-1)
    share = spectrum.shape[-1] / keep.sum(-1).clamp_min(1).to(spectrum.dtype)
    return (spectrum[:, -1] / smallest * share.sqrt()).clamp_min(1)


def _shifted(power: Damped, values: Tensor, shift: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of A + shift I, and whether an inverse root has to count one of them as something else."""
    shifted = values + shift[:, None]
    if -1 not in power.signs:
        return shifted.clamp_min(0), torch.zeros_like(shift, dtype=torch.bool)
    lost = shifted <= noise[:, None] * _LOST
    counted = torch.where(shift[:, None] > 0, shift[:, None], values.clamp_min(0))
    return torch.where(lost, counted, shifted), lost.any(-1) & (shift > 0)


def added(
    power: Damped, eps: float, spectrum: tuple[Tensor, Tensor], exponent: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The shift relative to the largest eigenvalue and in the units of the eigenvalues, and where it is out of range.

    Args:
        power: the question.
        eps: the spacing in which eigenvalues are known.
        spectrum: the smallest eigenvalue over the largest, and the largest or 0, (batch,) each.
        exponent: of the power of two by which the eigenvalues are smaller than those of the matrices as sent.
    """
    damping, shift = _wanted(power, eps, spectrum, exponent)
    stated = invariant.ldexp(invariant.ldexp(shift, exponent), -exponent)
    shift = torch.where(torch.isfinite(stated), stated, shift)
    far = ~torch.isfinite(shift) | ~torch.isfinite(damping)
    return damping.masked_fill(far, 0.0), shift.masked_fill(far, 0.0), far


def _wanted(power: Damped, eps: float, spectrum: tuple[Tensor, Tensor], exponent: Tensor) -> tuple[Tensor, Tensor]:
    """The shift relative to the largest eigenvalue, 0 where that is 0, and in the units of the eigenvalues."""
    relative, largest = spectrum
    if power.shift is not None:
        shift = invariant.ldexp(torch.full_like(largest, power.shift), -exponent)
        return torch.where(largest > 0, shift / largest, torch.zeros_like(shift)), shift
    damping = torch.where(largest > 0, _damping(power, eps, relative), torch.zeros_like(relative))
    return damping, damping * largest


def _damping(power: Damped, eps: float, relative: Tensor) -> Tensor:
    if isinstance(power.damping, float):
        return torch.full_like(relative, power.damping)
    if power.damps_by_default:
        return (FLOOR * eps - relative).clamp_min(0)
    return torch.zeros_like(relative)


def _failures(power: Damped, eps: float, known: tuple[Tensor, Tensor, Tensor], vanishing: Tensor) -> dict[str, Tensor]:
    relative, top, damping = known
    added = damping if power.is_shifted else torch.zeros_like(damping)
    failures = {"not_positive": relative + added < -math.sqrt(eps)}
    if -1 in power.signs:
        if power.shift is None:
            failures["zero_matrix"] = top <= 0
        if power.damping == 0:
            failures["singular"] = vanishing
    return failures
