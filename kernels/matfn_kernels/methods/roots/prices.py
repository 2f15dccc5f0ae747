"""Predicted device seconds of the parts that the programs of a power are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.programs.kernel_prices import pass_cost

if TYPE_CHECKING:
    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.profile import Profile

__all__ = ["by_eigh", "last_products", "passes"]


def by_eigh(power: Power, precision: Precision, number: float, profile: Profile) -> float:
    """Seconds of a power by eigh with so many passes."""
    decomposition = profile.cost("eigh", precision, power.order)
    return decomposition + last_products(power, precision, profile) + passes(number, power.order, profile)


def last_products(power: Power, precision: Precision, profile: Profile) -> float:
    """Seconds of the product with G, or of one in its place, and of one more for a pair."""
    number = (1 if power.rows is None else power.rows / max(1, power.order)) + power.pair
    return number * profile.cost("gemm", precision, power.order)


def passes(number: float, order: int, profile: Profile) -> float:
    """Seconds of so many passes over a matrix (`kernel_prices.pass_cost`)."""
    return number * pass_cost(profile, order)
