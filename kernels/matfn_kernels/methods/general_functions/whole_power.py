"""Whole powers A^p of any square matrices, a whole batch at once, by repeated squaring, and of the inverse for p < 0.

A^0 = I and A^1 = A have no error. Matrices of small whole numbers have exact powers, as long as these fit into float64.
A power of a nilpotent matrix that is 0 is so without error where that can be shown (`nilpotent`).
Error: a power is compared on random columns with as many products in a row. The residual of an inverse is carried
through the derivative of the power, which also gives the condition number. An inverse that is not vouched for is taken
by the Schur form (`roots.general`), which also tells whether the matrix is singular.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.backward_error import relative_to_truth
from matfn_kernels.linalg.scaling import normalise, overflows, rescale
from matfn_kernels.methods.general_functions.nilpotent import vanishing
from matfn_kernels.methods.roots.general import GeneralRootProgram, left_factor
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile

__all__ = ["WholePowerProgram"]

_EPS: Final = spacing(Precision.FP64)
_MARGIN: Final = 4.0
"""How often the error counts: it is measured on four columns, whose own rounding is of its size."""
_FIRST_ORDER: Final = 1e-2
"""Largest residual of an inverse whose effect its derivative tells."""
_TINY: Final = 1e-280
"""Norms below it, and above its inverse, are at the ends of the range."""


@dataclass(frozen=True, slots=True)
class WholePowerProgram:
    """A whole power of matrices without symmetry; the key of a batch.

    Attributes:
        order: n.
        rows: rows of G, or None without G.
        p: the exponent.
        damping: the shift relative to the spectral radius.
        shift: the number to add to the diagonal, where the caller gave one in place of a damping.
        dtype: of the inputs and outputs.
        pinned: whether the caller asked for the method, so that no other may answer.
    """

    order: int
    rows: int | None
    p: int
    damping: float
    shift: float | None
    dtype: torch.dtype
    pinned: bool = False

    method: ClassVar[str] = "squaring"
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the program has rows, g (batch, m, n)."""
        a, unit = normalise(inputs["a"].to(working(self.precision, self.dtype)))
        damping, shift = self._shifts(a, unit)
        if self.damping or self.shift:
            a = a + shift[:, None, None].to(a.dtype) * torch.eye(self.order, dtype=a.dtype, device=a.device)
        power = _Power.of(a, unit, self.p)
        error = power.error() + (_EPS * power.condition if self.damping or self.shift else 0.0)
        left, up, lost, amplified = left_factor(inputs.get("g"), power.value)
        output = power.value if left is None else invariant.product(left, power.value)
        return Findings(
            outputs=(output,),
            exponents=(power.unit + up,),
            residual_name="A^p on columns",
            residual=power.off,
            error=relative_to_truth((error + lost) * amplified),
            condition=power.condition * amplified,
            damping=damping,
            shift=invariant.ldexp(shift, unit),
            failures={"over_range": overflows(output, power.unit + up, self.dtype)},
        )

    def _shifts(self, a: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """The shift of each scaled matrix relative to its spectral radius, and itself, (batch,)."""
        if not self.damping and not self.shift:
            return unit.new_zeros(len(a), dtype=torch.float64), unit.new_zeros(len(a), dtype=torch.float64)
        radii = [float(np.abs(np.linalg.eigvals(one.copy())).max()) for one in a.cpu().numpy()]
        largest = torch.tensor(radii, dtype=torch.float64, device=a.device)
        if self.shift is None:
            return torch.full_like(largest, self.damping), self.damping * largest
        shift = invariant.ldexp(torch.full_like(largest, self.shift), -unit)
        return torch.where((largest > 0) & shift.isfinite(), shift / largest, 0.0), shift

    def fallbacks(self) -> tuple[GeneralRootProgram, ...]:
        """By the Schur form, for inverses, unless the caller asked for this method."""
        if self.pinned or self.p >= 0:
            return ()
        fields = (self.order, self.rows, 1, -self.p, (-1,), self.damping, self.dtype, self.precision, self.ceiling)
        return (GeneralRootProgram(*fields, self.shift),)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """A product over an empty dimension is zero, all else is empty."""
        return (torch.zeros(inputs["g" if "g" in inputs else "a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: two products a bit, and four times as many for a derivative and back."""
        return 10 * (1 + abs(self.p).bit_length()) * profile.cost("gemm", self.precision, self.order)


@dataclass(frozen=True, slots=True)
class _Power:
    """B^q of B = A or A^-1 with what its certificate needs.

    Attributes:
        a: A (batch, n, n), scaled as B is.
        base: B 2^-exponents with entries near 1.
        unit: the powers of two missing in the value, (batch,).
        exponent: q = |p|.
        inverted: whether B is the inverse.
        value: B^q.
        off: by how much it differs from q products in a row, relative, (batch,).
        condition: of the power at A.
        vanishes: which powers are shown to be 0, (batch,).
    """

    a: Tensor
    base: Tensor
    unit: Tensor
    exponent: int
    inverted: bool
    value: Tensor
    off: Tensor
    condition: Tensor
    vanishes: Tensor | None = None

    @classmethod
    def of(cls, a: Tensor, units: Tensor, p: int) -> _Power:
        """(A 2^units)^p."""
        q = abs(p)
        base, unit = normalise(invariant.inverse(a)) if p < 0 else (a, torch.zeros_like(units))
        if p < 0:
            a = rescale(a, unit)
        unit = unit * q + units * p
        none, one = (fill(len(a), dtype=torch.float64, device=a.device) for fill in (torch.zeros, torch.ones))
        if q == 0:
            identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a).contiguous()
            return cls(a, base, unit, q, inverted=False, value=identity, off=none, condition=one)
        value = invariant.matrix_power(base, q)
        if p == 1:
            return cls(a, base, unit, q, inverted=False, value=value, off=none, condition=one)
        z = probes.gaussian(a, a.shape[-1])
        y = z
        for _ in range(q):
            y = probes.times(base, y)
        size = _size(value)
        off = probes.column_norm(probes.times(value, z) - y) / size
        off = torch.where((size > _TINY) & (size < 1 / _TINY), off, math.nan)
        is_zero = (a == 0).flatten(1).all(-1) & (p > 0)
        off = torch.where(is_zero, 0.0, off)
        vanishes = vanishing(base, value, q) if p > 0 and base.device.type == "cpu" else None
        off = off if vanishes is None else torch.where(vanishes, 0.0, off)
        gain = _gain(base, q, inverted=p < 0)
        condition = torch.where(is_zero, 1.0, (gain * _size(a) / size).nan_to_num(math.inf).clamp_min(1))
        return cls(a, base, unit, q, p < 0, value, off, condition, vanishes)

    def error(self) -> Tensor:
        """Relative error of the value, (batch,); 0 of the powers 0 and 1, NaN where nothing is known."""
        if self.exponent == 0 or (self.exponent == 1 and not self.inverted):
            return self.off
        found = _MARGIN * self.off + _EPS * self.condition
        if self.vanishes is not None:
            found = torch.where(self.vanishes, 0.0, found)
        return found + self._of_inverse() if self.inverted else found

    def _of_inverse(self) -> Tensor:
        """Error of the power by the residual of the inverse, with as much rounding as that has itself."""
        residual = invariant.product(self.a, self.base)
        residual.diagonal(dim1=-2, dim2=-1).sub_(1.0)
        size = invariant.product(invariant.magnitude(self.a), invariant.magnitude(self.base))
        residual = residual + _EPS * size * probes.square(self.a)
        moved = _moved(self.base, invariant.product(self.base, residual), self.exponent)
        small = _size(residual) <= _FIRST_ORDER
        return torch.where(small, _MARGIN * _size(moved) / _size(self.value), math.inf)


def _moved(x: Tensor, e: Tensor, q: int) -> Tensor:
    """The derivative of X^q along E, by repeated squaring."""
    return _with_derivative(x, e, q)[1]


def _with_derivative(x: Tensor, e: Tensor, q: int) -> tuple[Tensor, Tensor]:
    if q == 1:
        return x, e
    both = invariant.product(x, e) + invariant.product(e, x)
    half, moved = _with_derivative(invariant.product(x, x), both, q // 2)
    if q % 2 == 0:
        return half, moved
    return invariant.product(half, x), invariant.product(moved, x) + invariant.product(half, e)


def _gain(base: Tensor, q: int, *, inverted: bool) -> Tensor:
    """The norm of the derivative at A, by a power step and a half, from below, mostly within a factor of two."""

    def along(x: Tensor, e: Tensor) -> Tensor:
        return _moved(x, invariant.product(invariant.product(x, e), x) if inverted else e, q)

    e = _unit(along(base, probes.square(base).to(base.dtype)))
    e = _unit(_adjoint(base.mH, e, q, inverted=inverted))
    return _size(along(base, e))


def _adjoint(x: Tensor, e: Tensor, q: int, *, inverted: bool) -> Tensor:
    e = _moved(x, e, q)
    return invariant.product(invariant.product(x, e), x) if inverted else e


def _unit(x: Tensor) -> Tensor:
    return x * (1 / _size(x).clamp_min(_TINY))[:, None, None].to(x.real.dtype)


def _size(x: Tensor) -> Tensor:
    """Frobenius norms (batch,) in float64."""
    return invariant.matrix_norm(x, torch.float64)
