"""The real lanes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import torch

from matfn_kernels.calibration import Profile
from matfn_kernels.evaluation import batch_of
from matfn_kernels.functions import FUNCTIONS
from matfn_kernels.plan import make_plan
from matfn_kernels.validation import Limits, parse_call
from matfn_service.assembly import Part
from matfn_service.executor import CpuExecutor, computing_threads, make_executor
from matfn_service.settings import Settings
from matfn_service.warm_up import warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def lanes() -> Iterator[CpuExecutor]:
    """Two lanes on this machine's CPU."""
    lanes = CpuExecutor(2)
    yield lanes
    lanes.close()


def work() -> list[Part]:
    """One small call."""
    call = parse_call("msign", {"m": torch.eye(3)[None].repeat(5, 1, 1)}, {}, {}, Limits())
    return [Part(0, make_plan(call, Profile.nominal()).program, batch_of(call))]


async def test_lane_computes(lanes: CpuExecutor) -> None:
    """A lane evaluates its share and tells how long that took."""
    run = await lanes.run(work())

    assert [evaluation.items for evaluation in run.evaluations] == [5]
    assert run.seconds > 0


def test_computing_threads_are_single_threaded() -> None:
    """Every thread that computes uses one core, and is not the caller's."""
    with computing_threads(1, "test") as threads:
        number, name = threads.submit(lambda: (torch.get_num_threads(), threading.current_thread().name)).result()

    assert (number, name) == (1, "test_0")


async def test_warm_up_runs_every_function(lanes: CpuExecutor) -> None:
    """Every function of the catalogue has an answer for identities."""
    await warm_up(lanes, Profile.nominal())

    assert FUNCTIONS


def test_settings_name_the_device() -> None:
    """The CPU is used where it is asked for, with as many lanes as asked for."""
    made = make_executor(Settings(device="cpu", lanes=3))
    made.close()

    assert (made.device, made.lanes) == ("cpu", 3)
