"""Programs recorded once and replayed, for devices on which launching a kernel costs more than a small one computes.

A recording is of one program and one number of matrices. Numbers are rounded up to buckets, so that few are needed; the
rows beyond hold what an earlier batch left there, and their answers are not read. A program's first runs are ordinary:
they load and compile kernels and fill caches, none of which may happen while recording. Programs that do more than
launch kernels (`program.Recordable`) are never recorded, and one whose recording failed is not recorded again.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import torch
from torch import Tensor

from matfn_kernels.numbers.pinned import holding
from matfn_kernels.programs.program import Recordable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["Graphed", "Graphs", "Recorder", "bucket", "record"]

Recorder: TypeAlias = "Callable[[Program, Mapping[str, Tensor]], Callable[[], Findings]]"
"""Records a run on inputs at fixed addresses and returns a function that computes on their present content."""

_WARM_RUNS: Final = 2
"""Ordinary runs before a recording: they compile kernels and fill caches, and rare programs are never recorded."""
_CAPACITY: Final = 32
"""Programs and buckets that are remembered; each recording keeps its inputs and its working memory on the device."""


def bucket(items: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, ...: at most a third of the rows is unused."""
    power = 1 << (items - 1).bit_length()
    return power * 3 // 4 if items <= power * 3 // 4 else power


@dataclass(slots=True)
class _Entry:
    """The number of runs of one program and bucket, and its recording if it has one."""

    runs: int = 0
    constants: list[Tensor] = field(default_factory=list)
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    replay: Callable[[], Findings] | None = None


class Graphs:
    """Recordings of the programs used last; for one thread at a time."""

    def __init__(self, recorder: Recorder, capacity: int = _CAPACITY) -> None:
        self._recorder = recorder
        self._capacity = capacity
        self._entries: OrderedDict[tuple[Program, int], _Entry] = OrderedDict()

    @property
    def recordings(self) -> int:
        """The number of recordings that are kept."""
        return sum(entry.replay is not None for entry in self._entries.values())

    def run(self, program: Program, inputs: Mapping[str, Tensor]) -> Findings:
        """Findings of `program.run(inputs)`, from a recording once there is one; makes it after the first runs."""
        items = len(next(iter(inputs.values())))
        entry = self._entry((program, bucket(items)))
        entry.runs += 1
        if entry.runs == _WARM_RUNS + 1 and isinstance(program, Recordable) and program.is_recordable:
            self._record(program, entry, inputs)
        if entry.replay is None:
            return program.run(inputs)
        for name, tensor in inputs.items():
            entry.inputs[name][:items] = tensor
        return _first(entry.replay(), items)

    def _entry(self, key: tuple[Program, int]) -> _Entry:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return entry

    def _record(self, program: Program, entry: _Entry, inputs: Mapping[str, Tensor]) -> None:
        own = {name: tensor.new_zeros(bucket(len(tensor)), *tensor.shape[1:]) for name, tensor in inputs.items()}
        try:
            with holding() as entry.constants:
                entry.replay = self._recorder(program, own)
            entry.inputs = own
        except RuntimeError:  # what torch raises for an operation that may not be recorded
            return


def _first(findings: Findings, items: int) -> Findings:
    """The first rows of findings, copied, so that the next replay does not overwrite them."""

    def rows(tensor: Tensor) -> Tensor:
        return tensor[:items].clone()

    def rows_if_any(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else rows(tensor)

    return replace(
        findings,
        outputs=tuple(rows(output) for output in findings.outputs),
        residual=rows(findings.residual),
        error=rows(findings.error),
        condition=rows(findings.condition),
        steps=rows(findings.steps) if isinstance(findings.steps, Tensor) else findings.steps,
        exponents=tuple(rows_if_any(exponent) for exponent in findings.exponents),
        rank=rows_if_any(findings.rank),
        damping=rows_if_any(findings.damping),
        shift=rows_if_any(findings.shift),
        escalated=rows_if_any(findings.escalated),
        share=rows_if_any(findings.share),
        failures={code: rows(mask) for code, mask in findings.failures.items()},
        remarks={reason: rows(mask) for reason, mask in findings.remarks.items()},
    )


@dataclass(frozen=True, slots=True)
class Graphed:
    """A program that runs from recordings and equals its original in all else."""

    program: Program
    graphs: Graphs = field(compare=False, repr=False)

    @property
    def method(self) -> str:
        """The program's method."""
        return self.program.method

    @property
    def precision(self) -> Precision:
        """The program's precision."""
        return self.program.precision

    @property
    def dtype(self) -> torch.dtype:
        """The program's dtype."""
        return self.program.dtype

    @property
    def ceiling(self) -> Precision:
        """The program's ceiling."""
        return self.program.ceiling

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch, from a recording if there is one."""
        return self.graphs.run(self.program, inputs)

    def fallbacks(self) -> tuple[Program, ...]:
        """The program's fallbacks, not recorded: they compute single matrices, and each seldom."""
        return self.program.fallbacks()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The program's outputs where some dimension is zero."""
        return self.program.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """The program's predicted seconds."""
        return self.program.seconds(profile)


def record(program: Program, inputs: Mapping[str, Tensor]) -> Callable[[], Findings]:
    """A CUDA graph of one run.

    Raises:
        RuntimeError: if the program does something that a graph cannot hold.
    """
    graph = torch.cuda.CUDAGraph()
    # Another thread may be copying the next batch meanwhile: only this thread's calls count.
    with _expendable_generator(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        findings = program.run(inputs)

    def replay() -> Findings:
        graph.replay()
        return findings

    return replay


@contextmanager
def _expendable_generator() -> Iterator[None]:
    """Gives a capture a copy of the device's random generator: one that fails would leave the original unusable."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    kept = generator.graphsafe_get_state()
    generator.graphsafe_set_state(generator.clone_state())
    try:
        yield
    finally:
        generator.graphsafe_set_state(kept)
