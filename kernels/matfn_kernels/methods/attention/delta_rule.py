"""The gated delta rule S_t = e^{g_t} S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T, o_t = S_t q_t, by chunks.

States are stored transposed, S^T (dk, dv). Within a chunk let D_ij = g_{j+1} + ... + g_i for i >= j and b_i = g_1 + ...
+ g_i. Then with the state S before the chunk

    T = I + diag(beta) tril(K K^T o e^D, -1),      U = T^-1 diag(beta) (V - diag(e^b) K S),
    O = diag(e^b) Q S + (tril(Q K^T) o e^D) U,     S <- e^{b_end} S + K^T diag(e^{b_end - b}) U.

D is summed from its own terms in float64, never as a difference of running sums, and only sums <= 0 are exponentiated:
a gate that closes neither overflows nor costs the digits of those after it.

Error: all outputs are linear in (V, S_0), so those of V z and S_0 z for random columns z are O z and S z. A run on
such columns, in float64 and with other chunks, measures what the rounding of the triangular solves has grown to by the
end; keys that are not normalised let it grow. The condition is that of the worst triangular system.
References: Yang et al., arXiv 2406.06484 and 2412.06464; kexue.fm/archives/11033.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.triangles import condition_number
from matfn_kernels.numbers.blocks import blocks
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["DeltaRuleProgram", "candidates"]

_SMALLEST_KEY: Final = 1e-140
"""Largest key below which squares of keys, and so the sizes of what outputs sum, may leave float64's range."""
_PROBE_MARGIN: Final = 3.0
"""Of the error over the residual on random columns: true errors were at most 1.8 times the residual.

Seen on 580 random sequences in fp32, lengths 16 to 128, widths 4 to 64, against float64."""
_ROUNDINGS: Final = 4.0
"""Units of eps times the cancellation in the outputs, for rounding that the random columns miss."""
_CLOSED: Final = -1e5
"""e to this is 0 in every dtype; sums of that many cannot overflow."""


@dataclass(frozen=True, slots=True)
class DeltaRuleProgram:
    """Gated delta rule: the values that all sequences in a batch share.

    Attributes:
        length: t.
        key_width: dk.
        value_width: dv.
        chunk: rows a chunk.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    length: int
    key_width: int
    value_width: int
    chunk: int
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "chunked"

    @property
    def is_recordable(self) -> bool:
        """True: a run consists of products and substitutions."""
        return True

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: q, k (batch, t, dk), v (batch, t, dv), beta, log_gate (batch, t), initial_state."""
        scaled, exponents = _scaled(inputs, self.key_width)
        narrow = _Sequence.of(scaled, working(self.precision, self.dtype))
        o, state, _ = narrow.run(self.chunk)
        wide = _Sequence.of(scaled, torch.float64)
        z = probes.spread(wide.v, self.value_width)
        expected_o, expected_state, reach = wide.projected(z).run(max(1, self.chunk // 2))
        residuals = [
            probes.ratio(product(found.to(torch.float64), z) - expected, found)
            for found, expected in ((o, expected_o), (state, expected_state))
        ]
        residual = torch.stack(residuals).amax(0)
        loss = torch.where(reach > 0, reach.sqrt() / invariant.matrix_norm(expected_o), 1.0).clamp_min(1)
        rounding = _ROUNDINGS * spacing(self.precision) * torch.where(inputs["q"].flatten(1).any(-1), loss, 1.0)
        return Findings(
            outputs=(o, state),
            exponents=(exponents[0] + exponents[1], exponents[1]),
            residual_name="O z - O(V z)",
            residual=residual,
            error=torch.where(wide.vanishing(), math.nan, _PROBE_MARGIN * residual + rounding),
            condition=wide.condition(self.chunk),
        )

    def fallbacks(self) -> tuple[DeltaRuleProgram, ...]:
        """The program in the highest precision that the call allows, if that is another."""
        return (replace(self, precision=self.ceiling),) if self.precision is not self.ceiling else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Zero outputs and the initial state: there are no steps, or the state has no entries."""
        items = inputs["q"].shape[0]
        o = torch.zeros(items, self.length, self.value_width, dtype=self.dtype)
        state = torch.zeros(items, self.key_width, self.value_width, dtype=self.dtype)
        return o, inputs["initial_state"].to(self.dtype, copy=True) if "initial_state" in inputs else state

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a sequence: two Gram products a chunk, a solve, and products with the state."""
        chunk = min(self.chunk, self.length) or 1
        side = profile.cost("gemm", self.precision, chunk)
        keys, values = self.key_width / chunk, self.value_width / chunk
        return side * -(-self.length // chunk) * (2 * keys + 2 * values + 3 * keys * values)


def _scaled(inputs: Mapping[str, Tensor], width: int) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
    """Inputs in float64 with q, and v beside the initial state, scaled by powers of two; the exponents of both."""
    wide = {name: tensor.to(torch.float64) for name, tensor in inputs.items()}
    q, up_q = normalise(wide["q"])
    state = wide.get("initial_state", wide["v"].new_zeros(len(q), width, wide["v"].shape[-1]))
    stacked, up_v = normalise(torch.cat([wide["v"], state], dim=1))
    length = wide["v"].shape[1]
    ones = q.new_ones(q.shape[:2])
    parts = {"q": q, "k": wide["k"], "v": stacked[:, :length], "initial_state": stacked[:, length:]}
    parts |= {"beta": wide.get("beta", ones), "log_gate": wide.get("log_gate", 0 * ones).clamp_min(_CLOSED)}
    return parts, (up_q, up_v)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A batch of sequences in one dtype; the gates stay in float64."""

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    log_gate: Tensor
    state: Tensor

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], dtype: torch.dtype) -> _Sequence:
        q, k, v, beta, state = (parts[name].to(dtype) for name in ("q", "k", "v", "beta", "initial_state"))
        return cls(q, k, v, beta, parts["log_gate"], state)

    def projected(self, z: Tensor) -> _Sequence:
        """The sequence with V z and S_0 z in place of V and S_0."""
        return replace(self, v=product(self.v, z), state=product(self.state, z))

    def run(self, chunk: int) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (batch, t, dv), final state (batch, dk, dv), and the squared sizes of what outputs sum (batch,)."""
        state = self.state
        reach = state.new_zeros(len(state), dtype=torch.float64)
        outputs = []
        for part in self._chunks(chunk):
            decay, total, system = part.system()
            before, after = total[..., None], decay[:, -1, :, None]
            target = part.beta[..., None] * (part.v - before * product(part.k, state))
            u = invariant.solve_triangular(system, target, upper=False, unitriangular=True)
            outputs.append(before * product(part.q, state) + product(product(part.q, part.k.mT) * decay, u))
            reach = reach + part.reach(decay, total, state, u)
            state = before[:, -1:] * state + product(part.k.mT, after * u)
        return torch.cat(outputs, dim=1), state, reach

    def vanishing(self) -> Tensor:
        """Whether keys are so small that the terms of the outputs cannot be measured, (batch,)."""
        largest = self.k.abs().flatten(1).amax(-1)
        return (largest > 0) & (largest < _SMALLEST_KEY)

    def reach(self, decay: Tensor, total: Tensor, state: Tensor, u: Tensor) -> Tensor:
        """Sum over a chunk's outputs of the squared norms of their terms, before any of them cancel, (batch,)."""
        keys, values, queries = (invariant.sums(x.square()) for x in (self.k, u, self.q))
        kept = total.square() * invariant.matrix_norm(state, torch.float64).square()[:, None]
        written = product(decay.square().to(torch.float64), (keys * values)[..., None])[..., 0]
        return invariant.sums(queries * (kept + written))

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """e^D, zero above the diagonal, e^b, and T of a chunk."""
        size = self.q.shape[1]
        steps = self.log_gate[:, :, None].expand(-1, -1, size).tril(-1)
        decay = invariant.exp(steps.cumsum(1)).tril().to(self.q.dtype)
        total = invariant.exp(self.log_gate.cumsum(1)).to(self.q.dtype)
        system = (self.beta[..., None] * product(self.k, self.k.mT) * decay).tril(-1)
        system.diagonal(dim1=-2, dim2=-1).fill_(1)
        return decay, total, system

    def condition(self, chunk: int) -> Tensor:
        """Condition number of the worst triangular system, (batch,)."""
        return torch.stack([condition_number(part.system()[2], lower=True) for part in self._chunks(chunk)]).amax(0)

    def _chunks(self, chunk: int) -> Iterator[_Sequence]:
        for rows in blocks(self.q.shape[1], chunk):
            yield replace(
                self,
                q=self.q[:, rows],
                k=self.k[:, rows],
                v=self.v[:, rows],
                beta=self.beta[:, rows],
                log_gate=self.log_gate[:, rows],
            )


def candidates(call: Signature) -> list[DeltaRuleProgram]:
    """The one program that serves a call."""
    low, ceiling = call.direct_precisions()
    length, key_width = call.sizes("q")
    chunk = call.parameter("chunk")
    assert isinstance(chunk, int)
    return [DeltaRuleProgram(length, key_width, call.sizes("v")[-1], chunk, call.dtype, low, ceiling)]
