"""The coupled iteration in C, which takes one matrix after the other through all of it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.scaling import narrowed
from matfn_kernels.methods.roots.coupled_iteration import Established, multiplied
from matfn_kernels.methods.roots.prices import last_products, passes
from matfn_kernels.numbers.precision import FLOOR
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.roots.coupled_iteration import CoupledIteration, Product
    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.numbers.coefficients import Step
    from matfn_kernels.programs.profile import Profile

__all__ = ["natively", "seconds"]

_PASSES: Final = 2.0
"""Passes (`prices.passes`) of certificates: an estimate of which no measurement is recorded."""
_USUAL_BOUND: Final = 1e-4
"""Least eigenvalue of the matrix that is priced: of condition 1e4, as in benchmarks. The error that an iteration is
allowed to leave is estimated by the last step of that schedule too."""
_LANCZOS_PASSES: Final = 6.0
"""Passes (`prices.passes`) of the largest eigenvalue, where a part of it is added: 9 at order 32, 5 at 64 and 4 at 128
on an Intel Xeon."""
_SHALLOW: Final = 0.1
"""Largest eigenvalue that a priced schedule starts from."""
_CLEAR: Final = 1 / 2
"""Part of the noise, 8 eps of the largest eigenvalue, below which no negative eigenvalue lies where a number is added:
those below all of it count as 0 (`damping`)."""


def _usual_steps(iteration: CoupledIteration) -> tuple[Step, ...]:
    """The steps for a singular matrix that is damped, or one of no special condition; each matrix has its own."""
    damping = iteration.power.part
    return iteration.steps(min(max(damping, iteration.bound), _SHALLOW) if damping else _USUAL_BOUND)


def natively(iteration: CoupledIteration, given: Tensor, g: Tensor | None) -> tuple[Findings, Tensor]:
    """The powers of A (batch, n, n) as it came, multiplied by G if there is one, and which A no iteration answers."""
    power = iteration.power
    a, left = _fitting(given, iteration.working)
    values, found = native.powers(_wanted(iteration), a.resolve_neg().contiguous())
    parts = [
        _scaled_back(power, value, exponent, left, sign)
        for value, exponent, sign in zip(values, (found.exponent, found.other_exponent), power.signs, strict=False)
    ]
    products = [multiplied(value, exponent, g) for value, exponent in parts]
    condition = (found.largest / found.smallest).clamp_min(1.0)
    established = Established(found.residual, found.missing, condition, found.definite > 0)
    error = iteration.error(established, _usual_steps(iteration))
    error = error + torch.where(found.asymmetry > 0, iteration.symmetrised(condition), 0.0)
    if left is not None:
        error = error + iteration.narrowed(given, a, condition)
    if power.is_shifted:
        error = error + iteration.symmetrised(condition)  # the diagonal is rounded once more
    findings = Findings(
        outputs=tuple(product.value for product in products),
        exponents=tuple(_unless_zero(product) for product in products),
        residual_name=power.equation,
        residual=established.residual,
        error=error if g is None else torch.stack([product.error(error) for product in products]).amax(0),
        condition=established.known_condition(),
        steps=found.steps,
        rank=torch.full_like(error, -1) if power.is_shifted else established.rank(power.order),
        damping=found.damping if power.is_shifted else None,
        shift=_in_units(found.shift, left) if power.is_shifted else None,
        remarks={"asymmetric": found.asymmetry > FLOOR * iteration.eps},
    )
    return findings, found.definite < 0


def _in_units(shift: Tensor, left: Tensor | None) -> Tensor:
    """Shifts of matrices that had been scaled by 2^-left, in the units of the matrices."""
    return shift if left is None else invariant.ldexp(shift, left)


def _fitting(given: Tensor, working: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Matrices in the working dtype, scaled by 2^-exponent first if it has fewer digits."""
    if torch.promote_types(given.dtype, working) == working:
        return given.to(working), None
    return narrowed(given, working)


@lru_cache(maxsize=256)
def _wanted(iteration: CoupledIteration) -> native.Powers:
    """The plan of the iteration in C."""
    power, least = iteration.power, iteration.bound
    return native.Powers(
        exponents=power.negative,
        whole=(power.s, power.r),
        pair=power.pair,
        floor=iteration.floor,
        bound=least,
        schedules=native.Schedules.down_to(least, iteration.rows),
        rule=_rule(power),
        added=power.part if power.shift is None else power.shift,
        negative=_CLEAR * FLOOR * iteration.eps,
    )


def _rule(power: Power) -> native.Rule:
    if power.shift is not None:
        return native.Rule.NUMBER_ADDED
    return native.Rule.PART_ADDED if power.part else native.Rule.NOTHING_ADDED


def _scaled_back(
    power: Power, value: Tensor, exponent: Tensor, left: Tensor | None, sign: int
) -> tuple[Tensor, Tensor]:
    """A power and the power of two it lacks, where A had been scaled by 2^-left."""
    if left is None:
        return value, exponent.to(torch.int64)
    value, whole = power.turned(value, left, sign)
    return value, whole + exponent.to(torch.int64)


def _unless_zero(product: Product) -> Tensor | None:
    return product.exponent if bool(product.exponent.any()) else None


def seconds(iteration: CoupledIteration, profile: Profile) -> float:
    """Predicted device seconds a matrix: the products of its steps, products and passes, priced by the profile."""
    order, precision, steps = iteration.power.order, iteration.precision, len(_usual_steps(iteration))
    # The last step contracts nothing; the first takes P^2 from the norm, and multiplies nothing by W.
    made = steps * (2 + iteration.other_products) - 2 - iteration.contraction_products
    products = last_products(iteration.power, precision, profile)
    number = _PASSES + (_LANCZOS_PASSES if iteration.power.is_shifted else 0.0)
    return made * profile.cost("native", precision, order) + products + passes(number, order, profile)
