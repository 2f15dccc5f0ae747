"""Metrics of real server processes, under faults."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn
from scraped import moved, samples

if TYPE_CHECKING:
    from processes import ServerProcess

PROMTOOL = shutil.which("promtool")


def test_real_traffic_is_counted(server: ServerProcess) -> None:
    """A call through the client shows in the next scrape, its time on the device as the answer tells it."""
    before = samples(server.metrics())
    with matfn.Client(server.url) as client:
        answer = client.with_info.msign(np.random.default_rng(0).standard_normal((3, 20, 20)))
    changes = moved(before, samples(server.metrics()))

    assert changes['matfn_calls_total{code="ok",function="msign"}'] == 1.0
    assert changes['matfn_matrices_total{code="none",function="msign",outcome="converged"}'] == 3.0
    assert changes["matfn_device_seconds_sum"] == pytest.approx(answer.timing.device_ms / 1e3)
    assert changes["matfn_queue_wait_seconds_sum"] == pytest.approx(answer.timing.queue_ms / 1e3)
    assert changes["matfn_received_bytes_total"] > 3 * 20 * 20 * 8


def test_process_is_measured(server: ServerProcess) -> None:
    """Memory and open files of the process that was asked."""
    found = samples(server.metrics())

    assert found["process_resident_memory_bytes"] == pytest.approx(server.resident_bytes, rel=0.2)
    assert found["process_open_fds"] > 0


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on this machine")
def test_promtool_has_no_complaint(server: ServerProcess) -> None:
    """Names, units and help are as Prometheus wants them."""
    assert PROMTOOL is not None
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=server.metrics(), capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
