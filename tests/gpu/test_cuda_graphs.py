"""Programs recorded as CUDA graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from evaluating import Array, candidates
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.programs.kernel_prices import Tunable
from matfn_kernels.running.cuda_graphs import Graphed, Graphs, record
from matfn_kernels.running.evaluation import Batch, Evaluation, batch_of, evaluate
from spectra import positive, rectangular

RNG = np.random.default_rng(3)
RECORDED: list[tuple[str, dict[str, Array], dict[str, Any]]] = [
    ("inv_root", {"a": positive(96, items=6)}, {"r": 4}),
    ("root", {"a": positive(96, items=6)}, {"r": 2}),
    ("sqrt_pair", {"a": positive(40, items=6)}, {}),
    ("msign", {"m": rectangular((96, 64), items=6)}, {}),
    ("tri_inv", {"t": np.tril(rectangular((96, 96), items=6)) / 4 + np.eye(96)}, {}),
]


def _variants(function: str, inputs: dict[str, Array], keywords: dict[str, Any]) -> list[tuple[Any, Batch]]:
    """Every program of the function that is an iteration or substitution, by every kernel."""
    single = {name: value.astype(np.float32) for name, value in inputs.items()}
    programs = candidates(function, single, **keywords)
    found = [(v, batch_of(call)) for p, call in programs if isinstance(p, Tunable) for v in p.variants()]
    return [(program, batch) for program, batch in found if program.method not in {"eigh", "svd", "gram"}]


def _same(one: Evaluation, other: Evaluation) -> bool:
    pairs = zip(one.outputs, other.outputs, strict=True)
    return one.certificates == other.certificates and all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(("function", "inputs", "keywords"), RECORDED)
def test_replays_answer_as_runs_do(function: str, inputs: dict[str, Array], keywords: dict[str, Any]) -> None:
    """The same values and certificates, to the bit, whichever kernels run."""
    for program, batch in _variants(function, inputs, keywords):
        graphs = Graphs(record)
        once = evaluate(program, batch)

        again = [evaluate(Graphed(program, graphs), batch) for _ in range(5)]

        assert graphs.recordings == 1
        assert all(_same(each, once) for each in again)


def test_other_matrices_in_a_replay_change_no_bit() -> None:
    """Other matrices in the other rows of a recording, NaN among them, change no bit."""
    ((program, batch), *_) = [
        pair for pair in _variants(*RECORDED[0]) if pair[0].kernel is Kernel.LIBRARY and pair[0].method == "engine"
    ]
    spoilt = Batch({"a": batch.inputs["a"].clone()}, batch.requested)
    spoilt.inputs["a"][1] = torch.nan
    spoilt.inputs["a"][2] *= 3
    graphed = Graphed(program, Graphs(record))

    first, *_ = [evaluate(graphed, batch) for _ in range(4)]
    beside = evaluate(graphed, spoilt)

    for index in (0, 3, 4, 5):
        assert _same(beside.rows(index, index + 1), first.rows(index, index + 1))


def test_decompositions_run_unrecorded() -> None:
    """A program that a graph cannot hold runs unrecorded, every time."""
    ((program, call), *_) = [
        pair for pair in candidates("inv_root", {"a": positive(24, items=3)}, r=2) if pair[0].method == "eigh"
    ]
    graphs = Graphs(record)

    answers = [evaluate(Graphed(program, graphs), batch_of(call)) for _ in range(5)]

    assert all(_same(each, answers[0]) for each in answers)
