"""The soak tells growth from noise, and random faults tell right answers from wrong ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import matfn
from checked_callers import Callers
from ends import End, compared, judged
from matfn.errors import Problem
from soak import SERIES, Sample, Series, grows, trend

MEMORY = next(series for series in SERIES if series.name == "all")
DESCRIPTORS = next(series for series in SERIES if series.name == "descriptors")


def samples(series: Series, base: float, per_minute: float, noise: float) -> list[Sample]:
    """Half an hour of samples of one series: a line with noise, and a high one in ten."""
    rng = np.random.default_rng(3)
    flat = Sample(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    times = np.arange(360) / 12
    values = base + per_minute * times + noise * rng.standard_normal(360) + 10 * noise * (rng.random(360) < 0.1)
    return [replace(flat, minutes=time, **{series.name: value}) for time, value in zip(times, values, strict=True)]


@pytest.mark.parametrize(
    ("series", "base", "per_minute", "noise", "is_leak"),
    [
        (MEMORY, 700.0, 0.0, 20.0, False),
        (MEMORY, 700.0, 0.5, 20.0, False),  # 15 MiB of 700
        (MEMORY, 700.0, 5.0, 20.0, True),
        (MEMORY, 700.0, -5.0, 20.0, False),
        (DESCRIPTORS, 30.0, 0.0, 0.0, False),
        (DESCRIPTORS, 30.0, 0.0, 3.0, False),
        (DESCRIPTORS, 30.0, 0.5, 3.0, True),
    ],
)
def test_growth_is_told_from_noise(series: Series, base: float, per_minute: float, noise: float, is_leak: bool) -> None:
    """A series grows only if its line rises beyond chance and beyond what is allowed."""
    assert grows(series, samples(series, base, per_minute, noise)) == is_leak


def test_slope_is_that_of_the_line() -> None:
    """A tenth of high samples does not move the slope."""
    found = samples(MEMORY, 700.0, 5.0, 2.0)

    slope = trend([one.minutes for one in found], [one.all for one in found]).slope

    assert math.isclose(slope, 5.0, rel_tol=0.05)


def test_callers_know_their_own_answer() -> None:
    """The truth of a case is right, and the truth of another one, a shape of another one and no numbers are wrong."""
    case, other = (Callers(seed).draw()[0] for seed in (1, 2))
    truths = [case.truth, tuple(2 * truth for truth in case.truth), tuple(truth[:1] for truth in case.truth)]
    truths += [other.truth, tuple(np.full_like(truth, np.nan) for truth in case.truth)]

    assert [compared(case, truth, 0.0).end for truth in truths] == [End.RIGHT, *[End.WRONG] * 4]


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (matfn.Busy(Problem.of("busy", "later")), End.REFUSED),
        (matfn.WorkerLost(Problem.of("worker_lost", "twice")), End.REFUSED),
        (matfn.InternalError(Problem.of("internal", "a bug")), End.WRONG),
        (matfn.Unauthorized(Problem.of("unauthorized", "which key?")), End.WRONG),
        (matfn.TransportError("reset"), End.CLOSED),
        (matfn.TransportTimeout("too late"), End.HUNG),
        (matfn.ProtocolError("not HTTP"), End.WRONG),
    ],
)
def test_errors_have_an_end(error: matfn.MatfnError, end: End) -> None:
    """Only refusals that may pass, and cut connections, are ends that a fault excuses."""
    assert judged(error, 0.0).end is end
