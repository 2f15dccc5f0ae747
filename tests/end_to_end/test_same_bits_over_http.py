"""A server's answers are the same bits alone, stacked, in a request of many and beside other connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import matfn
from matfn_kernels.contract.functions import FUNCTIONS
from same_answers_over_http import alone, compare, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import ServerProcess
    from same_answers_over_http import Comparison

KINDS = ("well", "ill", "failing")


@pytest.fixture(scope="module")
def comparisons(two_workers: ServerProcess) -> Iterator[list[Comparison]]:
    """What two workers answered, whatever shared their batches."""
    with matfn.Client(two_workers.url) as client:
        yield compare(client, alone(client, served(brief=True), KINDS))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("function", list(FUNCTIONS))
def test_batch_composition_changes_no_bit(comparisons: list[Comparison], function: str) -> None:
    """Every answer of a function, output and certificate, is that of its matrix in a request of its own."""
    mine = [comparison for comparison in comparisons if comparison.case.function == function]

    assert sum(comparison.count for comparison in mine) > 0
    assert [f"{comparison.case.name}: {found}" for comparison in mine for found in comparison.found] == []
