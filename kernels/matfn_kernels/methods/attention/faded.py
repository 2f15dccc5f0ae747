"""The delta rule step by step, for sequences whose gates multiply to less than float64's range.

A product of gates may underflow although what it multiplies is large. Here each state has a power of two of its own,
S 2^e with the largest entry of S near 1, and so has each row of the outputs; a gate is e^g = m 2^k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import normalise, rescale

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Faded", "stepped"]

_LN2_LEAD: Final = 0.6931471803691238
"""The first 32 bits of ln 2: its products with integers below 2^21 are exact."""
_LN2_REST: Final = 1.9082149292705877e-10
"""ln 2 less its leading part, rounded to float64."""
_EMPTY: Final = -(1 << 30)
"""The exponent of a zero."""
_LOST: Final = -1100
"""2 to this is zero in float64."""


@dataclass(frozen=True, slots=True)
class Faded:
    """Outputs 2^-exponents and what is known of them, for a batch.

    Attributes:
        o: outputs (batch, t, dv), scaled.
        state: the final state (batch, dk, dv), scaled.
        exponents: of both, (batch,).
        reach: norms of what o and state sum up, in the same units, (batch,).
    """

    o: Tensor
    state: Tensor
    exponents: tuple[Tensor, Tensor]
    reach: tuple[Tensor, Tensor]

    def at(self, exponents: tuple[Tensor, Tensor]) -> Faded:
        """Outputs and state as multiples of 2 to these exponents."""
        o, state = (y - x for x, y in zip(exponents, self.exponents, strict=True))
        reach = invariant.ldexp(self.reach[0], o), invariant.ldexp(self.reach[1], state)
        return Faded(rescale(self.o, o), rescale(self.state, state), exponents, reach)


@dataclass(frozen=True, slots=True)
class _Scaled:
    """X 2^exponent of X (batch, m, n), and the norm of the terms of X before they cancel (batch,)."""

    x: Tensor
    exponent: Tensor
    reach: Tensor

    @classmethod
    def of(cls, x: Tensor) -> _Scaled:
        return cls(x, torch.zeros(len(x), dtype=torch.int64, device=x.device), invariant.matrix_norm(x, torch.float64))

    def evened(self) -> _Scaled:
        """The rows with their largest entry near 1, and the exponent that this takes out."""
        x, exponent = normalise(self.x)
        return self.at(x, self.exponent + exponent)

    def at(self, x: Tensor, exponent: Tensor) -> _Scaled:
        """X in other units."""
        return _Scaled(x, exponent, invariant.ldexp(self.reach, self.exponent - exponent))

    def plus(self, other: _Scaled) -> _Scaled:
        """The sum, in units of the larger one."""
        tops = [torch.where(part.x.flatten(1).any(-1), part.exponent, _EMPTY) for part in (self, other)]
        top = torch.maximum(*tops)
        top = torch.where(top > _EMPTY, top, 0)
        first, second = (part.at(rescale(part.x, part.exponent - top), top) for part in (self, other))
        return _Scaled(first.x + second.x, top, (first.reach.square() + second.reach.square()).sqrt())


def stepped(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gate: Tensor, state: Tensor) -> Faded:
    """The outputs and the final state, one step after the other; gates (batch, t), or (batch, t, dk) by channel."""
    mantissa, power = _gates(log_gate)
    now, rows = _Scaled.of(state).evened(), []
    for i in range(q.shape[1]):
        gate = mantissa[:, i], power[:, i]
        if log_gate.dim() > 2:  # noqa: PLR2004 - (batch, t, dk)
            now, gate = _by_channel(now, *gate).evened(), (torch.ones_like(beta[:, i]), torch.zeros_like(now.exponent))
        now = _kept(now, *gate, k[:, i, :, None], beta[:, i])
        now = now.plus(_Scaled.of(k[:, i, :, None] * (beta[:, i, None] * v[:, i])[:, None]).evened()).evened()
        size = invariant.row_norm(q[:, i], torch.float64)
        rows.append(_Scaled(product(q[:, i, None], now.x), now.exponent, size * now.reach))
    o, exponent, reach = _stacked(rows)
    return Faded(o, now.x, (exponent, now.exponent), (reach, now.reach))


def _gates(log_gate: Tensor) -> tuple[Tensor, Tensor]:
    """(m, k) with e^g = m 2^k and m near 1."""
    power = (log_gate / math.log(2)).round()
    return invariant.exp(log_gate - power * _LN2_LEAD - power * _LN2_REST), power.to(torch.int64)


def _by_channel(state: _Scaled, mantissa: Tensor, power: Tensor) -> _Scaled:
    """Diag(e^g) S with gates m 2^k (batch, dk), in units of the largest one that meets a row of S that is not zero."""
    alive = state.x.any(-1)
    top = torch.where(alive, power, _EMPTY).amax(-1)
    top = torch.where(top > _EMPTY, top, 0)
    factor = invariant.ldexp(mantissa, torch.where(alive, power - top[:, None], 0).clamp_min(_LOST))
    reach = state.reach * torch.where(alive, factor, 0.0).amax(-1)
    return _Scaled(factor[..., None].to(state.x.dtype) * state.x, state.exponent + top, reach)


def _kept(state: _Scaled, mantissa: Tensor, power: Tensor, key: Tensor, beta: Tensor) -> _Scaled:
    """E^g (I - beta k k^T) S."""
    seen = product(key.mT, state.x)
    sizes = [invariant.matrix_norm(part, torch.float64) for part in (key, seen)]
    taken = beta.to(torch.float64).abs() * sizes[0] * sizes[1]
    reach = mantissa * (state.reach.square() + taken.square()).sqrt()
    factor = mantissa[:, None, None].to(state.x.dtype)
    return _Scaled(factor * (state.x - beta[:, None, None] * key * seen), state.exponent + power, reach)


def _stacked(rows: list[_Scaled]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (batch, 1, n) in one tensor (batch, t, n), its exponent, and the norm of their reaches."""
    parts = [row.evened() for row in rows]
    exponents = torch.stack([torch.where(part.x.flatten(1).any(-1), part.exponent, _EMPTY) for part in parts])
    top = exponents.amax(0)
    top = torch.where(top > _EMPTY, top, 0)
    o = torch.cat([rescale(part.x, part.exponent - top) for part in parts], dim=1)
    reach = torch.stack([invariant.ldexp(part.reach, part.exponent - top) for part in parts])
    return o, top, invariant.sums(reach.square().mT).sqrt()
