"""Histograms: every value in its bucket, at no more than an addition each."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.histogram import Histogram

BOUNDS = (0.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("value", "bucket"), [(-1.0, 0), (0.5, 0), (0.500001, 1), (1.0, 1), (1.5, 2), (2.0, 2), (2.1, 3), (float("inf"), 3)]
)
def test_bound_belongs_to_its_bucket(value: float, bucket: int) -> None:
    """A value on a bound is in the bucket below it, as Prometheus reads `le`."""
    histogram = Histogram(BOUNDS)
    histogram.count(value)

    assert [number for number, count in enumerate(histogram.counts) if count] == [bucket]


@given(st.lists(st.floats(min_value=-4.0, max_value=4.0)))
def test_cumulated_counts_are_those_below(values: list[float]) -> None:
    """Up to each bound, as many were counted as are not above it; the sum is that of all."""
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.count(value)
    below = [sum(value <= bound for value in values) for bound in (*BOUNDS, float("inf"))]

    assert list(accumulate(histogram.counts)) == below
    assert histogram.sum == pytest.approx(sum(values))


def test_a_value_counts_as_often_as_told() -> None:
    """Counting a value twice is the same as counting it two times."""
    at_once, one_by_one = Histogram(BOUNDS), Histogram(BOUNDS)
    at_once.count(0.7, 2)
    one_by_one.count(0.7)
    one_by_one.count(0.7)

    assert at_once == one_by_one
