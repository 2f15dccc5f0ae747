"""What the other tests ask of an estimate: that it is there, and no smaller than the error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from evaluating import Answer, answer
from honesty import assert_covered, assert_honest, estimate_of

if TYPE_CHECKING:
    from matfn_kernels.contract.certificate import Certificate

TESTS = Path(__file__).parents[1]


def certificates(*estimates: float | None) -> list[Certificate]:
    """Certificates that differ in their estimates alone."""
    base = answer("root", {"a": np.eye(2)}, r=2).certificates[0]
    return [base._replace(error_estimate=estimate) for estimate in estimates]


@pytest.mark.parametrize("error", [0.0, 1e-8])
def test_estimate_covers_what_is_not_above_it(error: float) -> None:
    """An error that equals its estimate is covered."""
    assert_covered([error], certificates(1e-8))


@pytest.mark.parametrize("estimate", [0.0, 1e-9])
@pytest.mark.parametrize("error", [2e-9, 1.0, np.inf, np.nan])
def test_smaller_estimate_is_caught(error: float, estimate: float) -> None:
    """An estimate of 0 is no licence, and an error that is no number is never covered."""
    with pytest.raises(AssertionError):
        assert_covered([error], certificates(estimate))


def test_missing_estimate_is_caught() -> None:
    """Every certificate has an estimate, unless the test says how many have."""
    with pytest.raises(AssertionError):
        assert_covered([0.0, 0.0], certificates(1e-8, None))

    assert_covered([0.0, 9.0], certificates(1e-8, None), estimated=1)
    assert_covered([0.0, 9.0], certificates(1e-8, None), estimated=range(1, 3))


@pytest.mark.parametrize("estimated", [0, 1, range(2)])
def test_number_of_estimates_is_the_expected_one(estimated: int | range) -> None:
    """More estimates than expected are caught as fewer are."""
    with pytest.raises(AssertionError):
        assert_covered([0.0, 0.0], certificates(1e-8, 1e-8), estimated=estimated)


def test_slack_is_each_matrix_s_own() -> None:
    """The error of the truth is allowed to the matrix that it belongs to."""
    assert_covered([2e-8, 1e-8], certificates(1e-8, 1e-8), slack=[1e-8, 0.0])
    with pytest.raises(AssertionError):
        assert_covered([2e-8, 1e-8], certificates(1e-8, 1e-8), slack=[0.0, 1e-8])


def test_answer_is_compared_output_by_output() -> None:
    """The worst output of a matrix decides, and a second one may not be left out."""
    found = answer("sqrt_pair", {"a": 4 * np.eye(3)})

    assert_honest(found, 2 * np.eye(3), np.eye(3) / 2)
    with pytest.raises(AssertionError):
        assert_honest(found, 2 * np.eye(3), np.eye(3) / 2.1)
    with pytest.raises(ValueError, match="shorter"):
        assert_honest(found, 2 * np.eye(3))


def test_an_estimate_that_is_asked_for_is_there() -> None:
    """A certificate without an estimate fails the test that reads it."""
    found = Answer((), tuple(certificates(0.0, None)))

    assert estimate_of(found) == 0
    with pytest.raises(AssertionError):
        estimate_of(found, 1)


def test_no_test_takes_zero_for_missing() -> None:
    """No test writes `error_estimate or x`, which takes an estimate of 0 for a missing one."""
    spelling = re.compile(r"error_estimate\s+or\s")
    found = [path.name for path in TESTS.rglob("*.py") if path != Path(__file__) and spelling.search(path.read_text())]

    assert found == []
