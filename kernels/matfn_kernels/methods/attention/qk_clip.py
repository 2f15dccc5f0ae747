"""QK-Clip: query and key weights scaled by head so that no logit exceeds tau, gamma_h = min(1, tau / max_logit_h).

mha, gqa: with Gamma the largest gamma of a group of heads that share keys, w_k *= Gamma^(1/2) and
w_q *= gamma_h Gamma^(-1/2): every head's logits shrink by exactly its gamma (mha: groups of one). mla: the last dq - dk
rows of w_q, which meet the shared rotary keys, shrink by gamma, all others and w_k by gamma^(1/2).

Factors in float64, one rounding at the end, whose size is measured. A factor of 1 leaves its head bit for bit.
References: kexue.fm/archives/11126; Kimi K2, arXiv 2507.20534.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.scaling import narrowed
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.attention_shapes import group_size
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["QkClipProgram", "candidates"]

_SMALL: Final = 1e-25
"""Least factor that leaves weights near 1 far from float32's subnormal numbers."""
_ROUNDINGS: Final = 4.0
"""Units of eps: a weight, its factor and their product are rounded once each, by at most half of one."""


@dataclass(frozen=True, slots=True)
class QkClipProgram:
    """QK-Clip: the values that all layers in a batch share.

    Attributes:
        heads: of queries.
        key_heads: of keys.
        rows: dq.
        key_rows: dk.
        tau: the largest logit allowed.
        variant: mha, gqa or mla.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    heads: int
    key_heads: int
    rows: int
    key_rows: int
    tau: float
    variant: str
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "scaling"

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs w_q (batch, h, dq, m), w_k (batch, hk, dk, m') and max_logit (batch, h)."""
        dtype = working(self.precision, self.dtype)
        (w_q, up_q), (w_k, up_k) = (narrowed(inputs[name], dtype) for name in ("w_q", "w_k"))
        outputs = self._clipped(w_q, w_k, inputs["max_logit"])
        ones = torch.ones(len(w_q), dtype=torch.float64, device=w_q.device)
        underflown = (outputs[-1] < torch.finfo(torch.float64).tiny).any(-1) & (self.tau > 0)
        return Findings(
            outputs=outputs,
            exponents=(up_q, up_k, None),
            residual_name="",
            residual=torch.full_like(ones, math.nan),
            error=torch.where(underflown, math.inf, _ROUNDINGS * spacing(self.precision)),
            condition=ones,
        )

    def _clipped(self, w_q: Tensor, w_k: Tensor, logit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wide = logit.to(torch.float64)
        clipped = wide > self.tau
        gamma = torch.where(clipped, torch.full_like(wide, self.tau) / wide, torch.ones_like(wide))
        root = torch.where(clipped, math.sqrt(self.tau) / wide.sqrt(), gamma)  # not of gamma, which may underflow
        of_q, of_k = self._paired(gamma, root) if self.variant == "mla" else self._grouped(root)
        return _times(w_q, of_q[..., None]), _times(w_k, of_k[:, :, None, None]), gamma

    def _grouped(self, root: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the rows of w_q (batch, h, 1) and of the heads of w_k (batch, hk), by gamma^(1/2)."""
        group = group_size(self.heads, self.key_heads)
        if not group:  # there are no queries
            return root[..., None], root.new_ones(len(root), self.key_heads)
        largest = root.reshape(len(root), self.key_heads, group).amax(-1)
        spread = largest.repeat_interleave(group, dim=1)
        return (root * torch.where(spread > 0, root / spread, spread))[..., None], largest

    def _paired(self, gamma: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the rows of w_q (batch, h, dq) and of the heads of w_k (batch, hk) for latent attention."""
        rope = torch.arange(self.rows, device=root.device) >= self.key_rows
        return torch.where(rope, gamma[..., None], root[..., None]), root

    def fallbacks(self) -> tuple[QkClipProgram, ...]:
        """No fallback: the program has the highest precision that the call allows."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The clipped weights and factors where some weights have no entries."""
        w_q, w_k, logit = (inputs[name].to(torch.float64) for name in ("w_q", "w_k", "max_logit"))
        return tuple(value.to(self.dtype) for value in self._clipped(w_q, w_k, logit))

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a layer: a pass over the weights."""
        side = max(1, math.isqrt(self.heads * self.rows))
        return profile.cost("gemm", self.precision, side) / 4


def _times(weights: Tensor, factors: Tensor) -> Tensor:
    """Weights times factors in the arithmetic of the weights, or in float64 where it has no such small factors."""
    small = (factors > 0) & (factors < _SMALL)
    wide = weights.to(torch.float64) if weights.is_cuda or bool(small.any()) else weights
    return wide * factors.to(wide.dtype)


def candidates(call: Signature) -> list[QkClipProgram]:
    """The one program that serves a call."""
    _, ceiling = call.direct_precisions()
    heads, rows, _ = call.sizes("w_q")
    key_heads, key_rows, _ = call.sizes("w_k")
    tau = call.parameter("tau")
    assert isinstance(tau, int | float)
    variant = str(call.parameter("variant"))
    return [QkClipProgram(heads, key_heads, rows, key_rows, float(tau), variant, call.dtype, ceiling, ceiling)]
