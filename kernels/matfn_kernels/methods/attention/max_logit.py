"""Largest attention logit of each head, max |q_i . k_j| scale over the visible pairs, block by block.

A running maximum over blocks of rows and columns of Q K^T: no more than one block of it exists at a time. Blocks
without a visible pair are skipped. A query without a visible key contributes nothing; without any visible pair the
value is 0.

Each head of q and k is scaled by a power of two first. Long inner products are halved down to a bounded length, so that
their rounding, in whatever order the terms are added up, is a small multiple of eps max |q_i| max |k_j|. That is the
error, a bound, and max |q_i| max |k_j| over the value the condition: heads of nearly orthogonal rows show it.
Reference: kexue.fm/archives/11126; Kimi K2, arXiv 2507.20534.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.scaling import narrowed
from matfn_kernels.numbers.blocks import blocks
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.attention_shapes import group_size
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.kernel_prices import pass_cost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["MaxLogitProgram", "candidates"]

BLOCK: Final = 512
"""Most rows and columns of a block of Q K^T: larger ones need more memory, smaller ones more calls of a library."""
_BLOCK_ELEMENTS: Final = 1 << 21
"""Numbers in the blocks of all heads that exist at a time, 8 MiB in float32."""
_LENGTH: Final = 64
"""Longest inner product that a library sums as it likes: a bound on its rounding grows with it, by halves slower."""
_ROUNDINGS: Final = 4
"""Of the scaling by the factor, its storing and the norms, and what terms of second order add."""
_STORED: Final = 2
"""Of queries and keys that a named precision rounds."""
_PRODUCT_ORDER: Final = 256
"""Order of the product whose price gives that of a multiplication."""
_THIN: Final = 2.0
"""How much longer a multiplication takes in a product as thin as a head: to a factor of 3 on an Intel Xeon."""
_INPUT_PASSES: Final = 8.0
"""Over queries and keys: scaling and norms."""


@dataclass(frozen=True, slots=True)
class MaxLogitProgram:
    """Largest logits: the values that all items in a batch share.

    Attributes:
        heads: of q.
        key_heads: of k; each serves heads / key_heads heads of q.
        queries: t.
        keys: s.
        width: d.
        scale: factor of the logits.
        causal: whether key j is visible to query i only if j <= i + s - t.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    heads: int
    key_heads: int
    queries: int
    keys: int
    width: int
    scale: float
    causal: bool
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "blocked"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs q (batch, h, t, d) and k (batch, hk, s, d)."""
        dtype = working(self.precision, self.dtype)
        batch, group = inputs["q"].shape[0], group_size(self.heads, self.key_heads)
        (q, up_q), (k, up_k) = (narrowed(inputs[name].flatten(0, 1), dtype) for name in ("q", "k"))
        q = q.reshape(batch * self.key_heads, group, *q.shape[1:])
        peak = self._peak(q, k).flatten().to(torch.float64)
        bound = self._bound(q, k).flatten()
        if bool((peak == 0).any()):
            # No product that is not 0: the 0 is exact.
            bound = torch.where((peak > 0) | (self._peak(q.abs(), k.abs()).flatten() > 0), bound, 0.0)
        exponent = up_q + up_k.repeat_interleave(group)
        fraction, up_scale = math.frexp(self.scale)
        ups = (exponent + up_scale).reshape(batch, self.heads)
        highest = torch.where(peak.reshape(batch, self.heads) > 0, ups, ups.amin()).amax(-1)
        value = invariant.ldexp((peak * fraction).reshape(batch, self.heads), ups - highest[:, None])
        size, limit = (self._norm(x, exponent, batch) for x in (peak, bound))
        condition = torch.where(limit > 0, (limit / size).clamp_min(1), torch.ones_like(size))
        unit = spacing(self.precision) / 2 * self._roundings()
        return Findings(
            outputs=(value,),
            exponents=(highest,),
            residual_name="",
            residual=torch.full_like(condition, math.nan),
            error=torch.where(limit > 0, unit * condition, 0.0),
            condition=condition,
        )

    def _norm(self, x: Tensor, exponent: Tensor, batch: int) -> Tensor:
        """Norm over the heads of values scaled by 2^-exponent, in units that all heads of an item share."""
        exponent = exponent.reshape(batch, self.heads)
        shifted = invariant.ldexp(x.reshape(batch, self.heads), exponent - exponent.amax(-1, keepdim=True))
        norm: Tensor = invariant.row_norm(shifted)
        return norm

    def _peak(self, q: Tensor, k: Tensor) -> Tensor:
        """Max |q_i . k_j| for q (groups, heads a group, t, d) and k (groups, s, d), (groups, heads a group)."""
        peak = q.new_zeros(q.shape[:2])
        for rows, columns in self._blocks(q.shape[0] * q.shape[1]):
            part = q[:, :, rows]
            logits = _products(part.flatten(1, 2), k[:, columns].mT).abs_().reshape(*part.shape[:3], -1)
            hidden = self._hidden(rows, columns, q)
            if hidden is not None:
                logits.masked_fill_(hidden, 0)
            peak = torch.maximum(peak, logits.amax((-2, -1)))
        return peak

    def _roundings(self) -> int:
        """A bound on the number of roundings in a logit."""
        halvings = max(0, math.ceil(math.log2(self.width / _LENGTH)))
        stored = _STORED if spacing(self.precision) > torch.finfo(self.dtype).eps else 0
        return min(self.width, _LENGTH) + halvings + _ROUNDINGS + stored

    def _blocks(self, matrices: int) -> Iterator[tuple[slice, slice]]:
        """Blocks of rows and columns that hold a visible pair."""
        side = max(16, min(BLOCK, math.isqrt(_BLOCK_ELEMENTS // max(1, matrices))))
        for rows in blocks(self.queries, side):
            last = rows.stop + self.keys - self.queries if self.causal else self.keys
            for columns in blocks(self.keys, side):
                if columns.start < last:
                    yield rows, columns

    def _hidden(self, rows: slice, columns: slice, like: Tensor) -> Tensor | None:
        """Mask of the pairs of a block that are not visible, None if all are."""
        offset = self.keys - self.queries
        if not self.causal or columns.stop - 1 <= rows.start + offset:
            return None
        i = torch.arange(rows.start, rows.stop, device=like.device)
        j = torch.arange(columns.start, columns.stop, device=like.device)
        return j > i[:, None] + offset

    def _bound(self, q: Tensor, k: Tensor) -> Tensor:
        """Max |q_i| max |k_j| over the rows and columns with a visible pair, (groups, heads a group)."""
        first = max(0, self.queries - self.keys) if self.causal else 0
        rows = invariant.row_norm(q[:, :, first:], torch.float64)
        columns = invariant.row_norm(k, torch.float64)
        bound: Tensor = rows.amax(-1) * columns.amax(-1)[:, None] * (1.0 if self.scale else 0.0)
        return bound

    def fallbacks(self) -> tuple[MaxLogitProgram, ...]:
        """The program in the highest precision that the call allows, if that is another."""
        return (replace(self, precision=self.ceiling),) if self.precision is not self.ceiling else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Zeros: there is no visible pair, or every logit is an empty sum."""
        return (torch.zeros(inputs["q"].shape[0], self.heads, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds an item: the products of all blocks, and passes over blocks and inputs."""
        pairs = self.heads * self.queries * self.keys * (0.5 if self.causal else 1.0)
        inputs = self.width * (self.heads * self.queries + self.key_heads * self.keys)
        fused = profile.cost("gemm", self.precision, _PRODUCT_ORDER) / _PRODUCT_ORDER**3
        passes = math.ceil(self.width / _LENGTH) * (2 if self.precision is Precision.FP64 else 1)
        made = pass_cost(profile, math.sqrt(passes * pairs + _INPUT_PASSES * inputs))
        return _THIN * pairs * self.width * fused + made


def _products(q: Tensor, k: Tensor) -> Tensor:
    """Q K of q (groups, rows, d) and k (groups, d, columns), by halves down to sums of at most `_LENGTH` terms."""
    width = q.shape[-1]
    if width <= _LENGTH:
        return invariant.product(q, k)
    half = width // 2
    return _products(q[..., :half], k[:, :half]).add_(_products(q[..., half:], k[:, half:]))


def candidates(call: Signature) -> list[MaxLogitProgram]:
    """The one program that serves a call."""
    low, ceiling = call.direct_precisions()
    heads, queries, width = call.sizes("q")
    key_heads, keys, _ = call.sizes("k")
    scale = call.parameter("scale")
    factor = float(scale) if isinstance(scale, int | float) else max(1, width) ** -0.5
    causal = bool(call.parameter("causal"))
    return [MaxLogitProgram(heads, key_heads, queries, keys, width, factor, causal, call.dtype, low, ceiling)]
