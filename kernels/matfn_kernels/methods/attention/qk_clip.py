"""QK-Clip: query and key weights scaled by head so that no logit exceeds tau, gamma_h = min(1, tau / max_logit_h).

mha, gqa: with Gamma the largest gamma of a group of heads that share keys, w_k *= Gamma^(1/2) and
w_q *= gamma_h Gamma^(-1/2): every head's logits shrink by exactly its gamma (mha: groups of one). mla: the last dq - dk
rows of w_q, which meet the shared rotary keys, shrink by gamma, all others and w_k by gamma^(1/2).

Factors and products in float64, one rounding at the end. A factor of 1 leaves its head bit for bit. What that rounding
costs is known from the spacing of the dtype, except where weights become subnormal: there it is measured.
References: kexue.fm/archives/11126; Kimi K2, arXiv 2507.20534.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.scaling import distance, normalise, rescale
from matfn_kernels.numbers.precision import Precision, spacing
from matfn_kernels.programs.attention_shapes import group_size
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["QkClipProgram", "candidates"]

_ROUNDINGS: Final = 4.0
"""Units of eps of the arithmetic: a factor has an error of three at most, in double precision."""
_NEGLIGIBLE: Final = 0.125
"""Units of eps that the rounding of subnormal weights may add unseen: far less than `_ROUNDINGS` has to spare."""


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
        w_q, w_k, logit = (inputs[name] for name in ("w_q", "w_k", "max_logit"))
        of_q, of_k, gamma = self._factors(logit)
        clipped = _Clipped.of(w_q, of_q), _Clipped.of(w_k, of_k)
        rounding = torch.maximum(*(one.rounding() for one in clipped))
        underflown = (gamma < torch.finfo(torch.float64).tiny).any(-1) & (self.tau > 0)
        ones = torch.ones_like(rounding)
        unit = _ROUNDINGS * spacing(self.precision) + torch.finfo(self.dtype).eps / 2  # of factors and of products
        return Findings(
            outputs=(*(one.value for one in clipped), gamma),
            residual_name="",
            residual=torch.full_like(ones, math.nan),
            error=torch.where(underflown, math.inf, unit + rounding),
            condition=ones,
            finite=torch.stack([one.peak.isfinite() for one in clipped]).all(0),
        )

    def _factors(self, logit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Factors of the rows of w_q (batch, h, 1 or dq) and of the heads of w_k (batch, hk), and gamma (batch, h)."""
        wide = logit.to(torch.float64)
        clipped = wide > self.tau
        gamma = torch.where(clipped, torch.full_like(wide, self.tau) / wide, torch.ones_like(wide))
        root = torch.where(clipped, math.sqrt(self.tau) / wide.sqrt(), gamma)  # not of gamma, which may underflow
        of_q, of_k = self._paired(gamma, root) if self.variant == "mla" else self._grouped(root)
        return of_q, of_k, gamma

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
        of_q, of_k, gamma = self._factors(inputs["max_logit"])
        w_q, w_k = (_Clipped.of(*pair).value for pair in ((inputs["w_q"], of_q), (inputs["w_k"], of_k)))
        return w_q, w_k, gamma.to(self.dtype)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a layer: a pass over the weights."""
        side = max(1, math.isqrt(self.heads * self.rows))
        return profile.cost("gemm", self.precision, side) / 4


@dataclass(frozen=True, slots=True)
class _Clipped:
    """Weights times factors, rounded once.

    Attributes:
        weights: (batch, h, d, m).
        factors: of each head, or of each of its rows, (batch, h) or (batch, h, d), float64.
        value: (batch, h, d, m).
        peak: its largest magnitude, (batch,).
    """

    weights: Tensor
    factors: Tensor
    value: Tensor
    peak: Tensor

    @classmethod
    def of(cls, weights: Tensor, factors: Tensor) -> _Clipped:
        """The products."""
        return cls(weights, factors, *invariant.multiples(weights, factors))

    def rounding(self) -> Tensor:
        """Relative error of weights that have become subnormal, measured unless a bound says enough, (batch,)."""
        kind, count = torch.finfo(self.value.dtype), math.prod(self.value.shape[1:])
        bound = math.sqrt(count) * kind.smallest_normal * kind.eps / 2
        exposed = ~(self.peak.to(torch.float64) * (_NEGLIGIBLE * kind.eps) >= bound)
        found = torch.zeros(len(exposed), dtype=torch.float64, device=exposed.device)
        if bool(exposed.any()):
            found[exposed] = self._measured(exposed)
        return found

    def _measured(self, mask: Tensor) -> Tensor:
        """The relative error of those in a mask."""
        weights, exponent = normalise(self.weights[mask].to(torch.float64))
        exact = weights * self.factors[mask].reshape(*weights.shape[:2], -1, 1)
        return distance(rescale(self.value[mask].to(torch.float64), -exponent), exact)


def candidates(call: Signature) -> list[QkClipProgram]:
    """The one program that serves a call."""
    _, ceiling = call.direct_precisions()
    heads, rows, _ = call.sizes("w_q")
    key_heads, key_rows, _ = call.sizes("w_k")
    tau = call.parameter("tau")
    assert isinstance(tau, int | float)
    variant = str(call.parameter("variant"))
    return [QkClipProgram(heads, key_heads, rows, key_rows, float(tau), variant, call.dtype, ceiling, ceiling)]
