"""What a call's jobs took, told as its caller saw it."""

from __future__ import annotations

import math

import pytest

from matfn_service.jobs import Served

Spans = tuple[tuple[float, float], ...]


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        (((1.0, 3.0),), 2.0),
        (((1.0, 3.0), (1.0, 3.0)), 2.0),
        (((2.0, 4.0), (1.0, 3.0)), 3.0),
        (((1.0, 6.0), (2.0, 3.0), (4.0, 7.0)), 6.0),
        (((1.0, 2.0), (4.0, 5.0)), 2.0),
    ],
)
def test_time_on_the_device_counts_what_runs_side_by_side_once(spans: Spans, seconds: float) -> None:
    """The time on the device is the length of the union of the batches' times."""
    assert math.isclose(Served((), 0.0, spans, 1, 0.5).device_seconds, seconds)
