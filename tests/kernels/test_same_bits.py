"""Answers and certificates are the same bits whatever shares the batch, wherever it lies, on any number of threads.

These are the small odd sizes, at which matrices of a batch lie at different alignments; `scripts/same_bits.py` compares
all sizes, and in more ways.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from matfn_kernels.contract.functions import FUNCTIONS
from same_answers import BRIEF, Combination, combinations, differences, shared_differences

if TYPE_CHECKING:
    from collections.abc import Iterator

COMBINATIONS = list(combinations(brief=True))
IDS = [combination.name for combination in COMBINATIONS]
ALL = Path(__file__).parents[2] / "scripts" / "same_bits.py"


@pytest.fixture(scope="module")
def worker() -> Iterator[ThreadPoolExecutor]:
    """A thread that computes on one core, as workers of the service do."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool


@pytest.mark.sampled(4)
@pytest.mark.parametrize("combination", COMBINATIONS, ids=IDS)
def test_an_answer_is_the_same_bits_anywhere(combination: Combination, worker: ThreadPoolExecutor) -> None:
    """In a batch of any size, at any place in it or in memory and in any thread a matrix has its answer alone."""
    found, count = worker.submit(differences, combination, BRIEF).result()

    assert count > len(BRIEF.kinds)
    assert list(map(str, found)) == []


@pytest.mark.parametrize("function", sorted({combination.case.function for combination in COMBINATIONS}))
def test_sharing_a_decomposition_changes_no_bit(function: str, worker: ThreadPoolExecutor) -> None:
    """Programs of several functions that share a decomposition each give the answer that they give alone."""
    shared = worker.submit(list, shared_differences(COMBINATIONS, BRIEF.kinds, function)).result()

    for combination, found, _ in shared:
        assert list(map(str, found)) == [], combination.name


@pytest.mark.timeout(300)
def test_the_number_of_threads_changes_no_bit() -> None:
    """One to four threads of torch give the same bits, in a process of its own, since torch keeps the number."""
    sizes = [f"--name={size}" for size in ("r=2-129-float64", "msign-129-float64", "-64-float64", "fp32-33-float32")]
    command = [sys.executable, str(ALL), "--extent", "threads", *sizes]

    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_WAIT_POLICY": "passive"}
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_function_is_compared() -> None:
    """No function of the catalogue is left out."""
    assert {combination.case.function for combination in COMBINATIONS} == set(FUNCTIONS)
