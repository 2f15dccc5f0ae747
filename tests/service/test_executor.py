"""The real workers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch

from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.validation import Limits, parse_call
from matfn_kernels.running.evaluation import batch_of
from matfn_kernels.running.plan import make_plan
from matfn_service.assembly import Part
from matfn_service.executor import CpuExecutor, CudaExecutor, DeviceMemoryError, computing_threads, make_executor
from matfn_service.settings import Settings
from matfn_service.warm_up import warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.program import Program

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def workers() -> Iterator[CpuExecutor]:
    """Two workers on this machine's CPU."""
    workers = CpuExecutor(2)
    yield workers
    workers.close()


def work() -> list[Part]:
    """One small call."""
    call = parse_call("msign", {"m": torch.eye(3)[None].repeat(5, 1, 1)}, {"method": "newton_schulz"}, {}, Limits())
    return [Part(0, make_plan(call, Profile.nominal()).program, batch_of(call))]


async def test_worker_computes(workers: CpuExecutor) -> None:
    """A worker evaluates its share and tells how long that took."""
    run = await workers.run(work())

    assert [evaluation.items for evaluation in run.evaluations] == [5]
    assert run.seconds > 0


def test_computing_threads_are_single_threaded() -> None:
    """Every thread that computes uses one core, and is not the caller's."""
    with computing_threads(1, "test") as threads:
        number, name = threads.submit(lambda: (torch.get_num_threads(), threading.current_thread().name)).result()

    assert (number, name) == (1, "test_0")


async def test_warm_up_runs_every_function(workers: CpuExecutor) -> None:
    """Every function of the catalogue has an answer for identities."""
    await warm_up(workers, Profile.nominal())

    assert FUNCTIONS


def test_settings_name_the_device() -> None:
    """The CPU is used where it is asked for, with as many workers as asked for."""
    made = make_executor(Settings(device="cpu", workers=3))
    made.close()

    assert (made.device, made.workers) == ("cpu", 3)


class ScriptedDevice:
    """A device on the CPU that records programs and remembers what it was told to wait for."""

    name = "cpu"

    def __init__(self) -> None:
        self.log: list[str] = []
        self.recorded: list[Program] = []
        self.fault: Exception | None = None

    def port(self) -> ScriptedPort:
        """A port that logs."""
        return ScriptedPort(self.log)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Logs that computing begins, and fails if it is to."""
        self.log.append("compute")
        if self.fault is not None:
            raise self.fault
        yield

    def record(self, program: Program, inputs: Mapping[str, torch.Tensor]) -> Callable[[], Findings]:
        """Runs again at each replay."""
        self.recorded.append(program)
        return lambda: program.run(inputs)

    def release(self) -> None:
        """Logs it."""
        self.log.append("release")


class ScriptedPort:
    """Copies at once and logs the order."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def pinned(self, size: int) -> torch.Tensor:
        """Ordinary memory."""
        return torch.empty(size, dtype=torch.uint8)

    def send(self, host: torch.Tensor) -> torch.Tensor:
        """A copy."""
        self._log.append("send")
        return host.clone()

    def fetch(self, there: torch.Tensor, host: torch.Tensor) -> None:
        """A copy."""
        self._log.append("fetch")
        host.copy_(there)

    def compute_after_copies(self) -> None:
        """Logs it."""
        self._log.append("wait for copies")

    def copy_after_computing(self) -> None:
        """Logs it."""
        self._log.append("wait for computing")

    def finish(self) -> None:
        """Logs it."""
        self._log.append("finish")


@pytest.fixture
def device() -> ScriptedDevice:
    """A device that plays a GPU."""
    return ScriptedDevice()


@pytest.fixture
def gpu(device: ScriptedDevice) -> Iterator[CudaExecutor]:
    """The GPU's executor on it."""
    executor = CudaExecutor(device)
    yield executor
    executor.close()


async def test_gpu_copies_around_the_computing(device: ScriptedDevice, gpu: CudaExecutor) -> None:
    """A share goes there, is computed once it has arrived, and comes back once it has been computed."""
    run = await gpu.run(work())

    assert device.log == ["finish", "send", "compute", "wait for copies", "wait for computing", "fetch", "finish"]
    torch.testing.assert_close(run.evaluations[0].outputs[0], torch.eye(3).expand(5, 3, 3))


async def test_gpu_replays_what_returns(device: ScriptedDevice, gpu: CudaExecutor) -> None:
    """A program that comes a third time is recorded, and answers as before."""
    runs = [await gpu.run(work()) for _ in range(4)]

    assert device.recorded == [work()[0].program]
    assert all(torch.equal(run.evaluations[0].outputs[0], runs[0].evaluations[0].outputs[0]) for run in runs)


async def test_gpu_shares_a_first_stage_unrecorded(device: ScriptedDevice, gpu: CudaExecutor) -> None:
    """Different programs in one share share one decomposition, which recordings of each would not."""
    clip = parse_call("mclip", {"m": torch.eye(3)[None]}, {}, {"tol": 1e-3}, Limits())
    both = [*work(), Part(1, make_plan(clip, Profile.nominal()).program, batch_of(clip))]

    runs = [await gpu.run(both) for _ in range(3)]

    assert [evaluation.items for evaluation in runs[-1].evaluations] == [5, 1]
    assert not device.recorded


async def test_gpu_without_memory_says_so(device: ScriptedDevice, gpu: CudaExecutor) -> None:
    """When memory runs out, what is kept for reuse is given back, and the share may be halved."""
    device.fault = torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(DeviceMemoryError):
        await gpu.run(work())

    assert device.log[-1] == "release"


async def test_gpu_recovers_from_a_fault(device: ScriptedDevice, gpu: CudaExecutor) -> None:
    """The next share after one that failed is computed."""
    device.fault = ValueError("broken")
    with pytest.raises(ValueError, match="broken"):
        await gpu.run(work())
    device.fault = None

    run = await gpu.run(work())

    assert run.evaluations[0].items == 5
