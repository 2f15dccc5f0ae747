"""Roots by the coupled iteration in C, which takes one matrix after the other through all of it."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.scaling import narrowed, power_of_two
from matfn_kernels.methods.roots.by_iteration import Product, judged, least_eigenvalue, multiplied, rows_from
from matfn_kernels.numbers.precision import FLOOR, at_least_single, spacing
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.roots.program import RootProgram

__all__ = ["natively"]


def natively(program: RootProgram, given: Tensor, g: Tensor | None) -> Findings:
    """The powers of A (batch, n, n) as it came, multiplied by G if there is one."""
    fits = torch.promote_types(given.dtype, program.working) == program.working
    a, left = (given.to(program.working), None) if fits else narrowed(given, program.working)
    values, found = native.powers(_wanted(program), a.resolve_neg().contiguous())
    products = [
        multiplied(*_scaled_back(program, value, exponent, left, sign), g)
        for value, exponent, sign in zip(values, (found.exponent, found.other_exponent), program.signs, strict=False)
    ]
    condition = (found.largest / found.smallest).clamp_min(1.0)
    proof = judged(program, condition, found.definite > 0, found.residual, found.missing)
    rounded = 0.5 * spacing(at_least_single(program.precision)) * condition * program.s / program.r
    error = proof.error if g is None else proof.error * torch.stack([product.amplified for product in products]).amax(0)
    return Findings(
        outputs=tuple(product.value for product in products),
        exponents=tuple(_unless_zero(product) for product in products),
        residual_name="X^r - A^s" if program.signs == (1,) else "X^r A^s - I",
        residual=proof.residual,
        error=error + torch.where(found.asymmetry > 0, rounded, 0.0),
        condition=proof.condition,
        steps=found.steps,
        rank=torch.where(proof.definite, program.order, -1),
        remarks={"asymmetric": found.asymmetry > FLOOR * program.eps},
    )


@lru_cache(maxsize=256)
def _wanted(program: RootProgram) -> native.Powers:
    """What the kernels in C need to know."""
    least = least_eigenvalue(program)
    return native.Powers(
        exponents=program.negative,
        whole=(program.s, program.r),
        pair=program.pair,
        floor=FLOOR * program.eps,
        bound=least,
        schedules=native.Schedules.down_to(least, partial(rows_from, program)),
    )


def _scaled_back(
    program: RootProgram, value: Tensor, exponent: Tensor, left: Tensor | None, sign: int
) -> tuple[Tensor, Tensor]:
    """A power and the power of two it lacks, where A had been scaled by 2^-left."""
    if left is None:
        return value, exponent.to(torch.int64)
    value, whole = power_of_two(value, left, sign * program.s, program.r)
    return value, whole + exponent.to(torch.int64)


def _unless_zero(product: Product) -> Tensor | None:
    return product.exponent if bool(product.exponent.any()) else None
