"""Programs recorded once and replayed, on a recorder that plays a GPU."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from evaluating import parsed
from matfn_kernels.linalg import probes
from matfn_kernels.numbers.pinned import holding
from matfn_kernels.programs.profile import Profile
from matfn_kernels.running.cuda_graphs import Graphed, Graphs, bucket
from matfn_kernels.running.evaluation import batch_of, evaluate
from matfn_kernels.running.plan import make_plan
from spectra import positive, rectangular

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.validation import Call


class Recorder:
    """Replays into the same memory each time, as a graph does, and counts."""

    def __init__(self) -> None:
        self.recorded: list[tuple[Program, int]] = []
        self.replayed = 0

    def __call__(self, program: Program, inputs: Mapping[str, Tensor]) -> Callable[[], Findings]:
        """Remembers where the inputs and the outputs are."""
        self.recorded.append((program, len(next(iter(inputs.values())))))
        findings = program.run(inputs)

        def replay() -> Findings:
            self.replayed += 1
            for kept, new in zip(_tensors(findings), _tensors(program.run(inputs)), strict=True):
                kept.copy_(new)
            return findings

        return replay


def _tensors(findings: Findings) -> list[Tensor]:
    """All that a method found, of outputs and exponents each."""
    single = [getattr(findings, entry.name) for entry in fields(findings)]
    several = [*findings.outputs, *findings.exponents, *findings.failures.values(), *findings.remarks.values()]
    return [value for value in (*single, *several) if isinstance(value, torch.Tensor)]


def refuse(program: Program, inputs: Mapping[str, Tensor]) -> Callable[[], Findings]:
    """A device that cannot record what the program does."""
    del program, inputs
    raise RuntimeError("operation not permitted when stream is capturing")


def _call(items: int, seed: int = 0, order: int = 12) -> Call:
    m = rectangular((order + 4, order), items=items, seed=seed).astype(np.float32)
    return parsed("msign", {"m": m}, {"method": "newton_schulz"})


def _program(call: Call) -> Program:
    """The iteration, which a GPU can record."""
    return make_plan(call, Profile.nominal()).program


def test_buckets_waste_a_third_at_most() -> None:
    """Every number of matrices has a bucket that holds it, and there are two a doubling."""
    found = [bucket(items) for items in range(1, 1025)]

    assert all(items <= size < 1.5 * items for items, size in enumerate(found, start=1))
    assert sorted(set(found))[:9] == [1, 2, 3, 4, 6, 8, 12, 16, 24]


def test_decompositions_are_not_recorded() -> None:
    """Nobody tries to record what a recording under way would break for good."""
    call = parsed("inv_root", {"a": positive(12, items=5)}, {"r": 2})
    program = make_plan(call, Profile.nominal()).program
    recorder = Recorder()

    graphed = Graphed(program, Graphs(recorder))
    answers = [evaluate(graphed, batch_of(call)) for _ in range(4)]

    assert program.method == "eigh"
    assert not recorder.recorded
    assert all(torch.equal(answer.outputs[0], answers[0].outputs[0]) for answer in answers)


def test_recording_follows_two_runs() -> None:
    """The first runs are ordinary; the third is recorded, and from then on replayed, for all of a bucket."""
    recorder = Recorder()
    graphs = Graphs(recorder)
    program = _program(_call(5))

    for items in (5, 6, 5, 6):
        graphs.run(program, batch_of(_call(items)).inputs)

    assert recorder.recorded == [(program, 6)]
    assert recorder.replayed == 2


def test_claims_without_an_inner_dimension_are_compared() -> None:
    """A verification from graphs judges the claims also where the computed answer needs no run."""
    inputs = {"diag": np.full((3, 4), 2.0), "q": np.zeros((3, 4, 0)), "k": np.zeros((3, 4, 0)), "b": np.ones((3, 4, 2))}
    right = np.full((3, 4, 2), 0.5)
    claims = [parsed("verify/dplr_solve", {"x": x, **inputs}, {}) for x in (right, 2 * right)]

    found = [evaluate(Graphed(_program(call), Graphs(Recorder())), batch_of(call)).certificates for call in claims]

    assert [{str(one.outcome) for one in certificates} for certificates in found] == [{"converged"}, {"approximate"}]


def test_replays_answer_their_own_batch() -> None:
    """A replay computes and certifies the batch at hand, however many of its bucket's rows that fills."""
    graphs = Graphs(Recorder())
    calls = [_call(items, seed) for seed, items in enumerate((5, 5, 6, 5, 6))]
    program = Graphed(_program(calls[0]), graphs)

    evaluations = [evaluate(program, batch_of(call)) for call in calls]

    for call, evaluation in zip(calls, evaluations, strict=True):
        expected = evaluate(program.program, batch_of(call))
        torch.testing.assert_close(evaluation.outputs[0], expected.outputs[0], rtol=1e-4, atol=0)
        assert [c.outcome for c in evaluation.certificates] == [c.outcome for c in expected.certificates]


def test_findings_outlive_the_next_replay() -> None:
    """What a replay found is not overwritten by the next."""
    graphs, calls = Graphs(Recorder()), [_call(5, seed) for seed in range(4)]
    program = _program(calls[0])

    found = [graphs.run(program, batch_of(call).inputs) for call in calls]

    for call, findings in zip(calls, found, strict=True):
        expected = program.run(batch_of(call).inputs)
        torch.testing.assert_close(findings.outputs[0], expected.outputs[0], rtol=1e-4, atol=1e-6)


def test_refused_programs_run_as_they_are() -> None:
    """What cannot be recorded is answered all the same, and is not tried again."""
    graphs, call = Graphs(refuse), _call(4)
    program = _program(call)

    found = [graphs.run(program, batch_of(call).inputs) for _ in range(5)]

    assert all(torch.equal(findings.outputs[0], found[0].outputs[0]) for findings in found)


def test_recordings_used_last_are_kept() -> None:
    """Beyond its capacity the cache forgets the program that was not used for longest."""
    recorder = Recorder()
    graphs = Graphs(recorder, capacity=2)
    calls = [_call(4, order=order) for order in (8, 12, 16)]

    for k in (0, 0, 0, 1, 1, 1, 0, 2, 0, 0, 0, 1, 1, 1):
        graphs.run(_program(calls[k]), batch_of(calls[k]).inputs)

    assert [program for program, _ in recorder.recorded] == [_program(calls[k]) for k in (0, 1, 1)]


def test_recordings_hold_their_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording reads the constants where they were, also when a cache has forgotten them."""
    monkeypatch.setattr(probes, "library", lambda: None)
    with holding() as held:
        probes.gaussian(torch.empty(2, 7, 7), 7)
    probes.gaussian(torch.empty(2, 9, 9), 9)

    assert [tuple(constant.shape) for constant in held] == [(7,), (7,), (7, probes.COUNT)]


@pytest.mark.parametrize("name", ["method", "precision", "dtype", "ceiling"])
def test_graphed_programs_are_themselves(name: str) -> None:
    """A program that is replayed certifies and falls back as it would."""
    program = _program(_call(2))
    graphed = Graphed(program, Graphs(refuse))

    assert getattr(graphed, name) == getattr(program, name)
    assert graphed.fallbacks() == program.fallbacks()
    assert graphed.seconds(Profile.nominal()) == program.seconds(Profile.nominal())
