"""Matrices of a batch that a program has no proof for, computed by its fallbacks in the same run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch

from matfn_kernels.numbers.precision import spacing
from matfn_kernels.programs.findings import merged
from matfn_kernels.programs.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.programs.findings import Findings

__all__ = ["Escalating", "Fallback", "by_fallback", "completed"]


class Fallback(Program, Protocol):
    """A program that can leave out matrices of a batch."""

    def run_some(self, inputs: Mapping[str, Tensor], wanted: Tensor) -> Findings:
        """Computes the matrices that are wanted (batch,), each as if all were."""


class Escalating(Program, Protocol):
    """A program of a power whose fallbacks run beside it."""

    @property
    def power(self) -> Power:
        """The question."""

    def fallbacks(self) -> tuple[Fallback, ...]:
        """The programs to try, in order."""


def completed(
    program: Escalating, found: Findings, inputs: Mapping[str, Tensor], hopeless: Tensor | None = None
) -> Findings:
    """The findings, with those of the program's fallbacks where the error estimate is infinite.

    On a GPU the host would have to wait for the estimates: there they stay as they are.

    Args:
        program: that was run.
        found: its findings.
        inputs: of the batch.
        hopeless: which matrices no fallback of the program's own method answers, (batch,), or None.
    """
    if found.error.device.type != "cpu" or bool(torch.isfinite(found.error).all()):
        return found
    finite = torch.isfinite(inputs["a"]).flatten(1).all(-1)
    for number, fallback in enumerate(program.fallbacks(), start=1):
        open_ = ~torch.isfinite(found.error) & finite
        if hopeless is not None and fallback.method == program.method:
            open_ = open_ & ~hopeless
        if bool(open_.any()):
            found = merged(~open_, found, by_fallback(program, number, open_, inputs))
    return found


def by_fallback(program: Escalating, number: int, wanted: Tensor, inputs: Mapping[str, Tensor]) -> Findings:
    """Findings of a program's fallback, counted from 1, of the matrices that are wanted (batch,)."""
    found = program.fallbacks()[number - 1].run_some(inputs, wanted)
    outputs = tuple(output.to(program.power.working(program.precision)) for output in found.outputs)
    error = found.error + spacing(program.precision)
    return replace(found, outputs=outputs, error=error, escalated=number * wanted.to(torch.int64))
