"""The delta rule of sequences of different lengths that are packed one behind the other, by their offsets.

Each sequence is computed as if it were alone, those of one length together, so that its rows have the bits of a call of
its own. The certificate of a packed row is that of its worst sequence: relative errors of the parts bound that of the
whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.invariant import peak
from matfn_kernels.linalg.scaling import rescale
from matfn_kernels.methods.attention.delta_rule import DeltaRuleProgram
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["PackedDeltaRule", "candidates"]

_STATE: Final = "initial_state"
_LARGEST: Final = 1000
"""Exponent of numbers from which on a unit is needed: those of float64 end with 1024."""


@dataclass(frozen=True, slots=True)
class PackedDeltaRule:
    """Gated delta rule of packed sequences: the values that all rows of a batch share.

    Attributes:
        program: of a sequence of any length.
        offsets: the first step of each sequence, and the number of all steps.
    """

    program: DeltaRuleProgram
    offsets: tuple[int, ...]

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return self.program.method

    @property
    def precision(self) -> Precision:
        """The arithmetic."""
        return self.program.precision

    @property
    def ceiling(self) -> Precision:
        """The arithmetic that no fallback exceeds."""
        return self.program.ceiling

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.program.dtype

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs as those of the program, but initial_state (batch, N, dk, dv)."""
        found: dict[int, Findings] = {}
        states = dict.fromkeys(range(self.count), inputs["v"].new_zeros(0))
        for length, members in self._by_length().items():
            if length:
                found |= dict(zip(members, self._together(length, members, inputs), strict=True))
            else:
                states |= {one: self._initial(one, inputs) for one in members}
        return _joined(found, states)

    @property
    def count(self) -> int:
        """N, the number of sequences."""
        return len(self.offsets) - 1

    def _by_length(self) -> dict[int, list[int]]:
        """The numbers of the sequences of each length."""
        groups: dict[int, list[int]] = {}
        for one, (start, stop) in enumerate(pairwise(self.offsets)):
            groups.setdefault(stop - start, []).append(one)
        return groups

    def _together(self, length: int, members: Sequence[int], inputs: Mapping[str, Tensor]) -> list[Findings]:
        """Findings of each of several sequences of one length, computed as one batch."""
        parts = {name: torch.cat([self._part(one, name, x) for one in members]) for name, x in inputs.items()}
        whole = replace(self.program, length=length).run(parts)
        items = len(inputs["q"])
        return [_rows(whole, slice(i * items, (i + 1) * items)) for i in range(len(members))]

    def _part(self, one: int, name: str, x: Tensor) -> Tensor:
        """One sequence's part of an input."""
        return x[:, one] if name == _STATE else x[:, self.offsets[one] : self.offsets[one + 1]]

    def _initial(self, one: int, inputs: Mapping[str, Tensor]) -> Tensor:
        """The initial state of a sequence."""
        if _STATE in inputs:
            return inputs[_STATE][:, one]
        return inputs["v"].new_zeros(len(inputs["v"]), self.program.key_width, self.program.value_width)

    def fallbacks(self) -> tuple[PackedDeltaRule, ...]:
        """Those of the program."""
        return tuple(replace(self, program=fallback) for fallback in self.program.fallbacks())

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Zero outputs and the initial states: there are no steps, or the states have no entries."""
        o, _ = self.program.empty({name: x for name, x in inputs.items() if name != _STATE})
        states = [self._initial(one, inputs).to(self.dtype, copy=True) for one in range(self.count)]
        return o, torch.stack(states, 1)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds of all sequences."""
        lengths = [stop - start for start, stop in pairwise(self.offsets)]
        return sum(replace(self.program, length=length).seconds(profile) for length in lengths)


def _rows(found: Findings, rows: slice) -> Findings:
    """The findings of some rows."""
    return Findings(
        outputs=tuple(output[rows] for output in found.outputs),
        exponents=tuple(None if one is None else one[rows] for one in found.exponents),
        residual_name=found.residual_name,
        residual=found.residual[rows],
        error=found.error[rows],
        condition=found.condition[rows],
    )


def _joined(found: Mapping[int, Findings], states: Mapping[int, Tensor]) -> Findings:
    """The findings of packed sequences, of which those without steps have a state only."""
    order = sorted(found)
    outputs, up = _in_one_unit([_with_exponent(found[one], 0) for one in order])
    last = {one: (state, torch.zeros(len(state), dtype=torch.int64)) for one, state in states.items()}
    last |= {one: _with_exponent(found[one], 1) for one in order}
    finals, down = _in_one_unit([last[one] for one in sorted(last)])
    columns = {name: torch.stack([getattr(found[one], name) for one in order]) for name in ("residual", "error")}
    return Findings(
        outputs=(torch.cat(outputs, 1), torch.stack(finals, 1)),
        exponents=(up, down),
        residual_name=found[order[0]].residual_name,
        residual=columns["residual"].amax(0),
        error=columns["error"].amax(0),
        condition=torch.stack([found[one].condition for one in order]).amax(0),
    )


def _with_exponent(found: Findings, place: int) -> tuple[Tensor, Tensor]:
    """An output and the power of two that it lacks."""
    exponent = found.exponents[place]
    assert exponent is not None
    return found.outputs[place], exponent.to(torch.int64)


def _in_one_unit(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], Tensor]:
    """Tensors (batch, ...) in float64 and in one unit, and its exponent: 0 but where one would leave the range."""
    sizes = [torch.frexp(peak(x).to(torch.float64)).exponent + exponent for x, exponent in parts]
    top = torch.stack(sizes).amax(0)
    unit = torch.where(top > _LARGEST, top, 0)
    return [rescale(x.to(torch.float64), exponent - unit) for x, exponent in parts], unit


def candidates(call: Signature) -> list[DeltaRuleProgram] | list[PackedDeltaRule]:
    """The one program that serves a call."""
    low, ceiling = call.direct_precisions()
    length, key_width = call.sizes("q")
    chunk, scale = call.parameter("chunk"), call.parameter("scale")
    assert isinstance(chunk, int)
    assert isinstance(scale, float)
    width, offsets = call.sizes("v")[-1], call.parameter("cu_seqlens")
    program = DeltaRuleProgram(length, key_width, width, chunk, scale, call.given, call.dtype, low, ceiling)
    if not isinstance(offsets, tuple):
        return [program]
    return [PackedDeltaRule(program, tuple(one for one in offsets if isinstance(one, int)))]
