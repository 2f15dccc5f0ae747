"""Measurements of `matfn bench`, on a clock of the test."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from matfn.answers import Answer
from matfn.bench import PRESETS, Measured, measure, verdict, workload_of
from matfn.wire import Timing

SMALL = workload_of("inv_root:2x3x3:float64")


class Steps:
    """A server whose calls take given seconds, and the clock that they take them on."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds, self._calls, self.now = seconds, count(), 0.0

    def ask(self, invocation: object) -> Answer[Any]:  # noqa: ARG002 - the protocol's
        """The next call's answer."""
        self.now += self._seconds[min(next(self._calls), len(self._seconds) - 1)]
        return Answer(None, (), Timing(100.0, 200.0, 1, 1.0), "", "cpu")

    def clock(self) -> float:
        """Seconds since the start."""
        return self.now


def test_stops_when_windows_agree() -> None:
    """Slow first calls are measured away; three windows alike end the measurement."""
    server = Steps([9.0, 5.0, 3.0, 2.0, 1.0])

    measured = measure(server, SMALL, window=1.0, clock=server.clock, cpu=lambda: 0.0)

    assert measured.is_stable
    assert (measured.seconds, measured.calls) == (1.0, 3)
    assert measured.parts == pytest.approx({"client": 0.0, "wire": 0.7, "queue": 0.1, "device": 0.2})


def test_a_busy_machine_is_told() -> None:
    """A server that is never twice alike is measured in bounded time, and the result says so."""
    server = Steps([2.0**place for place in range(12)])

    measured = measure(server, SMALL, window=1.0, clock=server.clock, cpu=lambda: 0.0)

    assert not measured.is_stable
    assert measured.calls == 3


@pytest.mark.parametrize("name", [*PRESETS, "msign:2x5x3:float32", "root:1x4x4:float64"])
def test_workloads_compute_what_they_are_compared_with(name: str) -> None:
    """The local value is that of the function, on the same matrices."""
    workload = workload_of(name)
    if workload.matrices * np.prod(workload.shape[1:]) > 1e5:
        return
    import matfn

    with matfn.LocalClient() as client:
        value = client.ask(workload.invocation()).value

    np.testing.assert_allclose(workload.local(), value, rtol=2e-2 if workload.dtype == "float32" else 1e-9, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "inv_root:4xax4x4",
        "root:1x4x3:float64",
        "msign:1x2x2:float32:x",
        "gpt3",
        "msign:2x3:float32",
        "eig_clip:1x2x2:float32",
        "msign:1x2x2:int8",
    ],
)
def test_unknown_workloads_are_refused(name: str) -> None:
    """What is no workload is refused with an example."""
    with pytest.raises(ValueError, match="such as inv_root"):
        workload_of(name)


@pytest.mark.parametrize(
    ("local", "device", "words"),
    [(2.0, 0.5, "ask the server"), (0.5, 0.1, "the link and this process take longer"), (0.8, 0.9, "no faster")],
)
def test_the_verdict_is_plain(local: float, device: float, words: str) -> None:
    """The faster of the two is named, and the reason."""
    parts = {"client": 0.05, "wire": 0.95 - device, "queue": 0.0, "device": device}

    assert words in verdict(SMALL, Measured(1.0, 1.1, parts, 9, is_stable=True, local_seconds=local))
