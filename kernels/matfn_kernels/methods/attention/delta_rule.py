"""The gated delta rule S_t = e^{g_t} S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T, o_t = scale S_t q_t, by chunks.

States are stored transposed, S^T (dk, dv). Within a chunk let D_ij = g_{j+1} + ... + g_i for i >= j and b_i = g_1 + ...
+ g_i. Then with the state S before the chunk

    T = I + diag(beta) tril(K K^T o e^D, -1),      U = T^-1 diag(beta) (V - diag(e^b) K S),
    O = diag(e^b) Q S + (tril(Q K^T) o e^D) U,     S <- e^{b_end} S + K^T diag(e^{b_end - b}) U.

D is summed from its own terms in float64, never as a difference of running sums, and only sums <= 0 are exponentiated:
a gate that closes neither overflows nor costs the digits of those after it. With a gate for each channel of the keys,
S_t^T = (I - beta_t k_t k_t^T) Diag(e^{g_t}) S_{t-1}^T + beta_t k_t v_t^T, the products K K^T o e^D, Q K^T o e^D and
K^T diag(e^{b_end - b}) are taken channel by channel (`gates`).

Error: all outputs are linear in (V, S_0), so those of V z and S_0 z for random columns z are O z and S z. A run on
such columns, in float64 and with other chunks, measures what the rounding of the triangular solves has grown to by the
end; keys that are not normalised let it grow. The condition is that of the worst triangular system, times the size of
the terms that cancel in the outputs or the state over that of their sum.
References: Yang et al., arXiv 2406.06484 and 2412.06464; Kimi Linear, arXiv 2510.26692; kexue.fm/archives/11033.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.measured import unsolved
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.linalg.triangles import condition_number
from matfn_kernels.methods.attention.faded import stepped
from matfn_kernels.methods.attention.gates import gates_of
from matfn_kernels.numbers.blocks import blocks
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.kernel_prices import pass_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from matfn_kernels.methods.attention.faded import Faded
    from matfn_kernels.methods.attention.gates import Gates
    from matfn_kernels.programs.profile import Profile

__all__ = ["DeltaRuleProgram"]

_SMALLEST_KEY: Final = 1e-140
"""Largest key below which squares of keys, and so the sizes of what outputs sum, may leave float64's range."""
_PROBE_MARGIN: Final = 3.0
"""Of the error over the residual on random columns: true errors were at most 1.8 times the residual.

Seen on 580 random sequences in fp32, lengths 16 to 128, widths 4 to 64, against float64."""
_ROUNDINGS: Final = 4.0
"""Units of eps times the cancellation in the outputs, for rounding that the random columns miss.

Sequences that go step by step have one more a step, for the rounding of a gate that their check repeats."""
_CLOSED: Final = -1e5
"""e to this is 0 in every dtype."""
_FADED: Final = 1e-140
"""Size of an output, its inputs near 1, below which gates may have underflown that matter to it."""
_FADING: Final = -200.0
"""Sum of all gates above which none of their products is so small."""
_PASSES: Final = 60.0
"""Price of a chunk, in passes over its system, its rows and its state: two runs, one of them by half chunks, and the
condition number.

Within a factor of three of one core of an Intel Xeon with AVX-512, widths 4 to 128, chunks 1 to 1024."""
_LAUNCHES: Final = 10_000
"""Entries whose passes take as long as the calls of torch that a chunk takes besides."""


@dataclass(frozen=True, slots=True)
class DeltaRuleProgram:
    """Gated delta rule: the values that all sequences in a batch share.

    Attributes:
        length: t.
        key_width: dk.
        value_width: dv.
        chunk: rows a chunk.
        scale: factor of the outputs.
        given: names of the optional inputs that a call gives; a batch has the same of each sequence.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    length: int
    key_width: int
    value_width: int
    chunk: int
    scale: float
    given: tuple[str, ...]
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
        """Computes a batch: q, k (batch, t, dk), v (batch, t, dv), beta, log_gate (batch, t), ..., initial_state."""
        scaled, exponents = _scaled(inputs, self.key_width)
        narrow = _Sequence.of(scaled, working(self.precision, self.dtype))
        wide = _Sequence.of(scaled, torch.float64)
        columns = probes.spread(wide.v, self.value_width)
        checked = wide.projected(columns)
        terms = _Terms.of(checked)
        found, expected = narrow.run(self.chunk), checked.run(max(1, self.chunk // 2), terms.count)
        expected = replace(expected, reach=terms.reach)
        faded, ups = wide.fading() & expected.has_faded(wide), (exponents[0] + exponents[1], exponents[1])
        rounding = torch.full_like(expected.reach[0], _ROUNDINGS)
        if faded.device.type == "cpu" and bool(faded.any()):
            step = narrow.rows(faded).stepped()
            found = found.replaced(faded, step)
            expected = expected.replaced(faded, checked.rows(faded).stepped().at(step.exponents))
            ups = (_added(ups[0], faded, step.exponents[0]), _added(ups[1], faded, step.exponents[1]))
            rounding, faded = rounding + self.length * faded, torch.zeros_like(faded)
        residual, loss = _compared(found, expected, columns)
        error = _PROBE_MARGIN * residual + spacing(self.precision) * rounding * loss
        condition = wide.condition(self.chunk) * loss
        error = error + torch.where(terms.missing > 0, condition * terms.missing, 0.0)
        error = torch.where(wide.vanishing() | faded, math.nan, error)
        o, up, rounded = self._sized(found.o)
        return Findings(
            outputs=(o, found.state),
            exponents=(ups[0] + up, ups[1]),
            residual_name="O z - O(V z)",
            residual=residual,
            error=error + rounded,
            condition=condition,
        )

    def _sized(self, o: Tensor) -> tuple[Tensor, int, float]:
        """The outputs times the scale, but for a power of two; that power, and the rounding of a product."""
        if self.scale == 1:
            return o, 0, 0.0
        factor, up = math.frexp(self.scale)
        return o.to(torch.float64) * factor, up, spacing(Precision.FP64)

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
        """Predicted device seconds a sequence: passes over the systems, the rows and the states of all chunks."""
        chunk = min(self.chunk, self.length) or 1
        entries = chunk**2 + self.key_width * self.value_width + chunk * (self.key_width + self.value_width)
        if "channel_log_gate" in self.given:
            entries += chunk.bit_length() * chunk * self.key_width  # of the halves that the gates are taken by
        return _PASSES * -(-self.length // chunk) * pass_cost(profile, math.sqrt(entries + _LAUNCHES))


def _scaled(inputs: Mapping[str, Tensor], width: int) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
    """Inputs in float64 with q, and v beside the initial state, scaled by powers of two; the exponents of both."""
    wide = {name: tensor.to(torch.float64) for name, tensor in inputs.items()}
    q, up_q = normalise(wide["q"])
    state = wide.get("initial_state", wide["v"].new_zeros(len(q), width, wide["v"].shape[-1]))
    stacked, up_v = normalise(torch.cat([wide["v"], state], dim=1))
    length = wide["v"].shape[1]
    ones = q.new_ones(q.shape[:2])
    parts = {"q": q, "k": wide["k"], "v": stacked[:, :length], "initial_state": stacked[:, length:]}
    gates = wide.get("channel_log_gate", wide.get("log_gate", 0 * ones)).clamp_min(_CLOSED)
    parts |= {"beta": wide.get("beta", ones), "log_gate": gates}
    return parts, (up_q, up_v)


def _compared(found: _Run, expected: _Run, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of outputs or state from those expected, and how far their terms cancel, the larger of both.

    Args:
        found: the run to be judged.
        expected: outputs and state on random columns.
        columns: these columns (batch, value width, count).
    """
    pairs = ((found.o, expected.o), (found.state, expected.state))
    residuals = [probes.ratio(product(one.to(torch.float64), columns) - other, one) for one, other in pairs]
    losses = [
        torch.where(reach > 0, reach / norm(one), 1.0).clamp_min(1)
        for reach, one in zip(expected.reach, (expected.o, expected.state), strict=True)
    ]
    return torch.stack(residuals).amax(0), torch.stack(losses).amax(0)


@dataclass(frozen=True, slots=True)
class _Run:
    """Outputs (batch, t, dv), final states (batch, dk, dv), and the norms of what each sums up, (batch,)."""

    o: Tensor
    state: Tensor
    reach: tuple[Tensor, Tensor]

    def has_faded(self, sequence: _Sequence) -> Tensor:
        """Whether one of both is so small that gates may have underflown which matter to it, (batch,)."""
        one = torch.ones_like(self.reach[0])
        size = torch.maximum(one, sequence.k.abs().flatten(1).amax(-1) * sequence.beta.abs().amax(-1)) * _FADED
        asked, given = (x.flatten(1).any(-1) for x in (sequence.q, torch.cat([sequence.v, sequence.state], dim=1)))
        return given & ((asked & (norm(self.o) < size)) | (norm(self.state) < size))

    def replaced(self, mask: Tensor, other: Faded) -> _Run:
        """The run with other answers where the mask (batch,) holds."""
        pairs = zip((self.o, self.state, *self.reach), (other.o, other.state, *other.reach), strict=True)
        o, state, *reach = (x.masked_scatter(_like(mask, x), y.to(x.dtype)) for x, y in pairs)
        return _Run(o, state, (reach[0], reach[1]))


def _added(exponent: Tensor, mask: Tensor, more: Tensor) -> Tensor:
    return exponent.masked_scatter(mask, exponent[mask] + more)


def _like(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A batch of sequences in one dtype; the gates, (batch, t) or (batch, t, dk), stay in float64."""

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

    def rows(self, mask: Tensor) -> _Sequence:
        """The sequences where the mask (batch,) holds."""
        parts = (self.q, self.k, self.v, self.beta, self.log_gate, self.state)
        return _Sequence(*(part[mask] for part in parts))

    def run(self, chunk: int, watch: Callable[..., None] | None = None) -> _Run:
        """The outputs and the final state, chunk by chunk, of which `watch` sees the gates, U and its residual."""
        state, outputs = self.state, []
        for part in self._chunks(chunk):
            gates = part.gates()
            system = gates.system(part.beta, part.k)
            target = part.beta[..., None] * (part.v - gates.read(part.k, state))
            u = invariant.solve_triangular(system, target, upper=False, unitriangular=True)
            outputs.append(gates.read(part.q, state) + product(gates.logits(part.q, part.k), u))
            state = gates.after(state, part.k, u)
            if watch is not None:
                watch(part, gates, u, unsolved(system, u, target))
        nothing = torch.zeros(len(state), dtype=torch.float64, device=state.device)
        return _Run(torch.cat(outputs, dim=1), state, (nothing, nothing))

    def stepped(self) -> Faded:
        """The outputs and the final state, step by step."""
        return stepped(self.q, self.k, self.v, self.beta, self.log_gate, self.state)

    def fading(self) -> Tensor:
        """Whether products of gates may leave float64's range, (batch,)."""
        sums = invariant.sums(self.log_gate if self.log_gate.dim() == 2 else self.log_gate.mT)  # noqa: PLR2004 - (batch, t)
        return sums.reshape(len(sums), -1).amin(-1) < _FADING

    def vanishing(self) -> Tensor:
        """Whether keys are so small that the terms of the outputs cannot be measured, (batch,)."""
        largest = self.k.abs().flatten(1).amax(-1)
        return (largest > 0) & (largest < _SMALLEST_KEY)

    def gates(self) -> Gates:
        """The gates of a chunk."""
        return gates_of(self.log_gate, self.q.dtype)

    def system(self) -> Tensor:
        """T of a chunk."""
        return self.gates().system(self.beta, self.k)

    def condition(self, chunk: int) -> Tensor:
        """Condition number of the worst triangular system, (batch,)."""
        return torch.stack([condition_number(part.system(), lower=True) for part in self._chunks(chunk)]).amax(0)

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


@dataclass(slots=True)
class _Terms:
    """Squared norms of what outputs and state of a float64 run sum up, before any of it cancels, (batch,).

    `missing` is the largest residual of a chunk that no law explains.
    """

    outputs: Tensor
    state: Tensor
    missing: Tensor

    @classmethod
    def of(cls, sequence: _Sequence) -> _Terms:
        """Those before the first chunk, of the state's channels where each has its gates."""
        whole = invariant.matrix_norm(sequence.state).square()
        state = whole if sequence.log_gate.dim() == 2 else invariant.sums(sequence.state.square())  # noqa: PLR2004
        return cls(torch.zeros_like(whole), state, torch.zeros_like(whole))

    @property
    def reach(self) -> tuple[Tensor, Tensor]:
        """Norms."""
        state = self.state if self.state.dim() == 1 else invariant.sums(self.state)
        return self.outputs.sqrt(), state.sqrt()

    def count(self, part: _Sequence, gates: Gates, u: Tensor, missing: Tensor) -> None:
        """Adds those of a chunk."""
        self.missing = torch.maximum(self.missing, missing)
        terms, self.state = gates.sizes(self.state, part.k, u)
        self.outputs = self.outputs + invariant.sums(invariant.sums(part.q.square()) * terms)
