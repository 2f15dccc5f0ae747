"""The coupled iteration by torch's or a GPU's kernels, batch by batch, and its proof."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.backward_error import asymmetric
from matfn_kernels.linalg.cholesky import inverse_norm
from matfn_kernels.linalg.decompositions import scaled
from matfn_kernels.linalg.iteration import coupled, tiles
from matfn_kernels.linalg.products import add_diagonal, product, symmetrise
from matfn_kernels.linalg.scaling import power_of_two
from matfn_kernels.methods.roots.coupled_iteration import Established, multiplied
from matfn_kernels.methods.roots.prices import last_products, passes
from matfn_kernels.methods.roots.shifted import SQUARINGS, Shifted
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.kernel_prices import step_cost

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.linalg.kernel_choice import Kernel
    from matfn_kernels.methods.roots.coupled_iteration import CoupledIteration
    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.programs.profile import Profile

__all__ = ["Sent", "by_iteration", "seconds", "shifted_by_iteration"]

_PASSES: Final = 7.0
"""Passes (`prices.passes`) of scaling, symmetrising and certifying: an estimate of which no measurement is recorded."""
_PROOF_PRODUCTS: Final = 1.0
"""Products in float64 that a proof costs: its Cholesky factorisation is n^3/3 operations of 2 n^3, at less speed."""
_POWER_ROUNDS: Final = 3
"""Rounds of power iteration for the smallest eigenvalue, on four columns: with `_NORM_ROUNDS` the condition was between
1.4 times too small (condition 3, order 96) and 1.005 times too large (orders 16 to 96, conditions 3 to 3e5)."""
_NORM_ROUNDS: Final = 3
"""Rounds of power iteration for the largest eigenvalue."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Matrices (batch, n, n) as they were sent, scaled by 2^-exponent and rounded, and A, their Hermitian parts.

    Attributes:
        sent: as they were sent.
        given: scaled and rounded.
        exponent: of the power of two that was taken out.
        a: Hermitian parts.
    """

    sent: Tensor
    given: Tensor
    exponent: Tensor
    a: Tensor

    @classmethod
    def of(cls, sent: Tensor, dtype: torch.dtype) -> Self:
        """Scales the matrices and rounds them to a dtype."""
        given, exponent = scaled([sent], dtype)
        return cls(sent, given, exponent, symmetrise(given))

    def asymmetric(self, iteration: CoupledIteration) -> dict[str, Tensor]:
        """The remark on matrices that are not symmetric beyond rounding."""
        return {"asymmetric": asymmetric(self.given, self.a, iteration.eps)}

    def error(self, iteration: CoupledIteration, condition: Tensor) -> Tensor:
        """Error of the power from the rounding of what was sent and of (A + A^H) / 2."""
        return iteration.narrowed(self.sent, self.given, condition) + self._symmetrised(iteration, condition)

    def _symmetrised(self, iteration: CoupledIteration, condition: Tensor) -> Tensor:
        """Error from the rounding of (A + A^H) / 2, none of a matrix that is symmetric."""
        given, a = self.given, self.a
        if given.device.type == "cpu" and torch.equal(given, a):
            return torch.zeros_like(condition)
        return torch.where(torch.eq(given, a).flatten(1).all(-1), 0.0, iteration.symmetrised(condition))


def by_iteration(iteration: CoupledIteration, kernel: Kernel, matrices: Sent, g: Tensor | None) -> Findings:
    """The powers of A, multiplied by G if there is one."""
    power, bound, exponent = iteration.power, iteration.bound, matrices.exponent
    size = _size(matrices.a)
    p = invariant.divided(matrices.a, size[:, None, None])
    values = _iterated(iteration, kernel, p)
    found = _established(iteration, p, values)
    unit = torch.frexp(size.to(torch.float64))
    scale = _Scale(unit.mantissa, exponent + unit.exponent)
    parts = [_finished(power, value, scale, sign) for value, sign in zip(values, power.signs, strict=True)]
    products = [multiplied(value, whole, g) for value, whole in parts]
    steps = iteration.steps(bound)
    error = iteration.error(found, steps) + matrices.error(iteration, found.condition)
    return Findings(
        outputs=tuple(product.value for product in products),
        exponents=tuple(product.exponent for product in products),
        residual_name=power.equation,
        residual=found.residual,
        error=torch.stack([product.error(error) for product in products]).amax(0),
        condition=found.known_condition(),
        steps=len(steps),
        rank=found.rank(power.order),
        remarks=matrices.asymmetric(iteration),
    )


def shifted_by_iteration(iteration: CoupledIteration, kernel: Kernel, matrices: Sent, g: Tensor | None) -> Findings:
    """The powers of A + shift I, multiplied by G if there is one."""
    shifted = Shifted.of(iteration, kernel, matrices.a, matrices.exponent)
    found = by_iteration(iteration, kernel, replace(matrices, a=shifted.a), g)
    return replace(
        found,
        error=torch.where(shifted.is_clear, found.error, math.inf),
        rank=torch.full_like(found.error, -1, dtype=torch.int64),
        damping=shifted.damping,
        shift=shifted.shift,
        remarks=matrices.asymmetric(iteration),
    )


def _size(a: Tensor) -> Tensor:
    """||A^2||_F^(1/2) (batch,) of entries near 1: see `scaling.norm_bound`; 1 for zero."""
    size = invariant.matrix_norm(product(a, a)).sqrt()
    return torch.where(size > 0, size, torch.ones_like(size))


@dataclass(frozen=True, slots=True)
class _Scale:
    """The divisor of a matrix, as a number near 1 and a power of two, both (batch,)."""

    value: Tensor
    exponent: Tensor


def _finished(power: Power, value: Tensor, scale: _Scale, sign: int) -> tuple[Tensor, Tensor]:
    """The power of a scaled matrix as that of the matrix, but for a power of two, and its exponent."""
    s, r = sign * power.s, power.r
    factor, exponent = power_of_two(invariant.power(scale.value, s / r), scale.exponent, s, r)
    return factor.to(value.dtype)[:, None, None] * value, exponent


def _iterated(iteration: CoupledIteration, kernel: Kernel, p: Tensor) -> list[Tensor]:
    """The powers of P, tile by tile in the iteration's arithmetic."""
    power, rows = iteration.power, iteration.rows(iteration.bound)
    narrow = p.to(working(iteration.precision, power.dtype))
    parts = [_iterate(power, kernel, narrow[tile], rows) for tile in tiles(narrow, power.order)]
    return [symmetrise(torch.cat(column).to(p.dtype)) for column in zip(*parts, strict=True)]


def _iterate(power: Power, kernel: Kernel, p: Tensor, rows: tuple[tuple[float, float, float], ...]) -> list[Tensor]:
    """The powers asked for of one tile: A^(s/r) starts from G = A^k, the pair from both A and I in one pass."""
    k, s, r = power.negative
    if power.pair:
        identity = torch.eye(power.order, dtype=p.dtype, device=p.device).expand_as(p)
        stacked = coupled(torch.cat([p, identity], dim=-2), p, rows, 2, 1, kernel)
        return list(torch.chunk(stacked, 2, dim=-2))
    start = None if k == 0 else invariant.matrix_power(p, k)
    return [coupled(start, p, rows, r, s, kernel) if s else invariant.matrix_power(p, k)]


def _established(iteration: CoupledIteration, p: Tensor, values: list[Tensor]) -> Established:
    """Positive definiteness by Cholesky, the condition by power iteration, the residual on random columns."""
    power = iteration.power
    wide, z = p.to(torch.float64), probes.gaussian(p, power.order)
    floor = max(iteration.floor, iteration.bound)
    shifted = add_diagonal(wide.clone(), -floor)
    if power.signs == (1,):
        definite, smallest = _smallest_by_cholesky(shifted, z)
        smallest = floor + smallest
    else:
        definite, smallest = invariant.cholesky(shifted)[1], _smallest_by_inverse(power, values[-1], z)
    residual, missing = _equation(power, values[-1].to(torch.float64), wide, z)
    condition = (_largest(p, z) / smallest).clamp_min(1.0)
    return Established(residual, missing, condition, definite)


def _largest(p: Tensor, z: Tensor) -> Tensor:
    """The largest eigenvalue of P by power iteration."""
    return probes.growth(lambda y: probes.times(p, y), z.to(p.dtype), _NORM_ROUNDS).to(torch.float64)


def _smallest_by_cholesky(a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Which A are positive definite, and their smallest eigenvalues by inverse iteration."""
    factor, definite = invariant.cholesky(a)
    factor = torch.where(definite[:, None, None], factor, torch.eye(a.shape[-1], device=a.device).to(a))
    return definite, 1 / inverse_norm(factor, z, _POWER_ROUNDS)


def _smallest_by_inverse(power: Power, x: Tensor, z: Tensor) -> Tensor:
    """The smallest eigenvalue of P by power iteration on X = P^(-s/r), whose error is small wherever it is trusted."""

    def applied(y: Tensor) -> Tensor:
        for _ in range(power.r):
            y = probes.times(x, y)
        return y

    growth = probes.growth(applied, z.to(x.dtype), _POWER_ROUNDS).to(torch.float64)
    return invariant.power(growth, -1 / power.s)


def _equation(power: Power, x: Tensor, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Relative residual of X^r = A^s or X^r A^s = I on columns, and the relative error of X that it stands for."""
    s, r = power.s, power.r
    if power.signs == (1,):
        target = probes.interleaved(x, a, 0, s, z)
        residual = probes.ratio(probes.interleaved(x, a, r, 0, z) - target, target)
        return residual, residual / r
    left = probes.interleaved(x, a, r, s, z) - z
    weighted = probes.column_norm(probes.times(x, left)) / invariant.matrix_norm(x)
    residual = probes.ratio(left, z)
    return residual, torch.maximum(weighted, residual) / r


def seconds(iteration: CoupledIteration, kernel: Kernel, profile: Profile) -> float:
    """Predicted device seconds a matrix: steps, proof, products and passes, priced by the profile."""
    order, precision, steps = iteration.power.order, iteration.precision, len(iteration.steps(iteration.bound))
    step = step_cost(kernel, profile, precision, order, (2, iteration.other_products))
    proof = _PROOF_PRODUCTS * profile.cost("gemm", Precision.FP64, order)
    if iteration.power.is_shifted:
        proof += SQUARINGS * profile.cost("gemm", precision, order)
        proof += _PROOF_PRODUCTS * (iteration.power.shift is not None) * profile.cost("gemm", Precision.FP64, order)
    products = last_products(iteration.power, precision, profile)
    return steps * step + proof + products + passes(_PASSES, order, profile)
