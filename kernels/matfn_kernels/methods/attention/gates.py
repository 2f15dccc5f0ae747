"""The gates of a chunk of the delta rule: one a step for all channels of the keys, or one for each channel.

A product of gates is e to a sum of their logarithms, summed from its own terms in float64: multiples of a grain, whose
sums are exact, and the rest. With a gate for each channel the logits sum_c x_ic y_jc e^(g_(j+1)c + ... + g_ic) are no
product of two matrices and a decay. They are halved: for j before and i after the middle of a block the sum of
logarithms is one up to the middle plus one from there, neither above 0, so that both factors of the product are at most
1 whatever the gates are; the halves are blocks again. That takes log2 c products in place of one.
References: Yang et al., arXiv 2412.06464; Kimi Linear, arXiv 2510.26692.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.products import product

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Channels", "Gates", "Shared", "gates_of"]

_GRAIN: Final = 2.0**-26
"""Sums of multiples of it down to those of `delta_rule` that count as closed are exact in a chunk."""


@dataclass(frozen=True, slots=True)
class Shared:
    """One gate a step: e^D (batch, c, c), zero above the diagonal, and e^b (batch, c), from the start of the chunk."""

    decay: Tensor
    total: Tensor

    @classmethod
    def of(cls, log_gate: Tensor, dtype: torch.dtype) -> Shared:
        """Of logarithms (batch, c) in float64."""
        lead = (log_gate / _GRAIN).round() * _GRAIN
        sums, rest = lead.cumsum(1), (log_gate - lead).cumsum(1)
        small, large = invariant.exp(rest), invariant.exp(-rest)
        steps = (sums[:, :, None] - sums[:, None, :]).tril_()
        decay = (invariant.exp(steps) * small[:, :, None] * large[:, None, :]).tril_().to(dtype)
        decay.diagonal(dim1=-2, dim2=-1).fill_(1)
        return cls(decay, (invariant.exp(sums) * small).to(dtype))

    def system(self, beta: Tensor, k: Tensor) -> Tensor:
        """T of the chunk, unit lower triangular."""
        return _unit((beta[..., None] * product(k, k.mT) * self.decay).tril(-1))

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        """Products of queries with the keys up to each, decayed, (batch, c, c)."""
        return product(q, k.mT) * self.decay

    def read(self, x: Tensor, state: Tensor) -> Tensor:
        """Products of rows X (batch, c, dk) with the state before the chunk, decayed up to each."""
        return self.total[..., None] * product(x, state)

    def after(self, state: Tensor, k: Tensor, u: Tensor) -> Tensor:
        """The state after the chunk, in which U was written at the keys."""
        return self.total[:, -1:, None] * state + product(k.mT, self.decay[:, -1, :, None] * u)

    def sizes(self, state: Tensor, k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Squared norms of what each state (batch, c) and the last one sum up, the first one's (batch,) given."""
        keys, values = invariant.sums(k.square()), invariant.sums(u.square())
        written = product(self.decay.square(), (keys * values)[..., None])[..., 0]
        terms = self.total.square() * state[:, None] + written
        return terms, terms[:, -1]


@dataclass(frozen=True, slots=True)
class Channels:
    """A gate for each channel: products of gates from the start of the chunk and to its end, (batch, c, dk).

    Attributes:
        since: the products of the gates up to each step, its own among them.
        left: those of the gates after each step.
        halves: for blocks of 2, 4, ... steps, the products from the middle up to each step behind it, and from each
            step before it to the middle, (batch, blocks, steps, dk).
    """

    since: Tensor
    left: Tensor
    halves: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, log_gate: Tensor, dtype: torch.dtype) -> Channels:
        """Of logarithms (batch, c, dk) in float64."""
        halves, padded, half = [], _padded(log_gate), 1
        while half < padded.shape[1]:
            blocks = _cut(padded, 2 * half)
            behind, before = _products(blocks[:, :, half:]), _later(blocks[:, :, :half])
            halves.append((behind.to(dtype), before.to(dtype)))
            half *= 2
        whole = log_gate[:, None]
        return cls(_products(whole)[:, 0].to(dtype), _later(whole)[:, 0].to(dtype), tuple(halves))

    def system(self, beta: Tensor, k: Tensor) -> Tensor:
        """T of the chunk, unit lower triangular."""
        return _unit((beta[..., None] * self.logits(k, k)).tril(-1))

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        """Products of queries with the keys up to each, every channel decayed by its gates, (batch, c, c)."""
        return _logits(q, k, self.halves)

    def read(self, x: Tensor, state: Tensor) -> Tensor:
        """Products of rows X (batch, c, dk) with the state before the chunk, decayed up to each."""
        return product(self.since * x, state)

    def after(self, state: Tensor, k: Tensor, u: Tensor) -> Tensor:
        """The state after the chunk, in which U was written at the keys."""
        return self.since[:, -1, :, None] * state + product((self.left * k).mT, u)

    def sizes(self, state: Tensor, k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Squared norms of what each state (batch, c) and the last one's channels sum up, the first ones' given."""
        values, squares = invariant.sums(u.square()), k.square()
        halves = tuple((behind.square(), before.square()) for behind, before in self.halves)
        written = product(_logits(torch.ones_like(k), squares, halves), values[..., None])
        terms = product(self.since.square(), state[..., None]) + written
        last = (
            self.since[:, -1].square() * state + product((self.left.square() * squares).mT, values[..., None])[..., 0]
        )
        return terms[..., 0], last


Gates = Shared | Channels


def gates_of(log_gate: Tensor, dtype: torch.dtype) -> Gates:
    """The gates of a chunk of logarithms (batch, c), or (batch, c, dk) with one for each channel, in float64."""
    return Shared.of(log_gate, dtype) if log_gate.dim() == 2 else Channels.of(log_gate, dtype)  # noqa: PLR2004 - (batch, c)


def _unit(system: Tensor) -> Tensor:
    system.diagonal(dim1=-2, dim2=-1).fill_(1)
    return system


def _products(log_gate: Tensor) -> Tensor:
    """Products of the gates up to each step (batch, blocks, steps, dk), its own among them."""
    lead = (log_gate / _GRAIN).round() * _GRAIN
    return invariant.exp(lead.cumsum(2)) * invariant.exp((log_gate - lead).cumsum(2))


def _later(log_gate: Tensor) -> Tensor:
    """Products of the gates after each step (batch, blocks, steps, dk)."""
    behind = torch.nn.functional.pad(log_gate[:, :, 1:], (0, 0, 0, 1))
    return _products(behind.flip(2)).flip(2)


def _padded(x: Tensor) -> Tensor:
    """X (batch, c, dk) with zeros behind its rows up to a power of two."""
    return torch.nn.functional.pad(x, (0, 0, 0, (1 << (x.shape[1] - 1).bit_length()) - x.shape[1]))


def _cut(x: Tensor, steps: int) -> Tensor:
    """X (batch, c, dk) in blocks of so many steps, (batch, blocks, steps, dk)."""
    return x.reshape(len(x), -1, steps, x.shape[-1])


def _logits(x: Tensor, y: Tensor, halves: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
    """The sums over channels c of x_ic y_jc times the gates of c from j to i, i >= j, (batch, c, c)."""
    length, x, y = x.shape[1], _padded(x), _padded(y)
    out = torch.diag_embed(invariant.sums(x * y).to(x.dtype))
    for behind, before in halves:
        half = behind.shape[2]
        rows, columns = (_cut(z, 2 * half) for z in (x, y))
        found = product(behind * rows[:, :, half:], (before * columns[:, :, :half]).mT)
        blocks = out.unfold(1, 2 * half, 2 * half).unfold(2, 2 * half, 2 * half).diagonal(dim1=1, dim2=2).movedim(-1, 1)
        blocks[:, :, half:, :half] = found
    return out[:, :length, :length]
