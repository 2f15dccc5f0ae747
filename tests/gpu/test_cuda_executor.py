"""The service's GPU executor on a GPU."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.validation import Limits, parse_call
from matfn_kernels.running.evaluation import batch_of
from matfn_kernels.running.plan import make_plan
from matfn_service.assembly import Part
from matfn_service.cuda import CudaDevice
from matfn_service.executor import CudaExecutor, DeviceMemoryError
from matfn_service.warm_up import warm_up
from spectra import positive, rectangular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def device() -> str:
    """Calls come from the host, whose tensors are made there."""
    return "cpu"


@pytest.fixture(scope="module")
def gpu() -> Iterator[CudaExecutor]:
    """The executor, kept so that recordings are made and replayed."""
    executor = CudaExecutor(CudaDevice())
    yield executor
    executor.close()


def part(function: str, inputs: Mapping[str, NDArray[np.float32]], **parameters: object) -> Part:
    """One call."""
    tensors = {name: torch.from_numpy(x.astype(np.float32)) for name, x in inputs.items()}
    call = screen(parse_call(function, tensors, parameters, {}, Limits()))
    return Part(0, make_plan(call, Profile.nominal()).program, batch_of(call))


async def test_answers_come_back(gpu: CudaExecutor) -> None:
    """Polar factors are orthogonal, in host memory, with certificates."""
    (found,) = (await gpu.run([part("msign", {"m": rectangular((64, 32), items=5)})])).evaluations

    gram = found.outputs[0].mT @ found.outputs[0]
    assert found.outputs[0].device.type == "cpu"
    assert torch.allclose(gram, torch.eye(32).expand_as(gram), atol=1e-5)
    assert all(status.outcome == "converged" for status in found.statuses)


async def test_shares_at_once_keep_their_bits(gpu: CudaExecutor) -> None:
    """Many shares of several programs in flight together, packed and fetched by turns: each as when it runs alone."""
    parts = [part("msign", {"m": rectangular((48, 48), items=n, seed=n)}) for n in (1, 3, 5, 6)]
    parts += [part("inv_root", {"a": positive(64, items=n, seed=n)}, r=4) for n in (2, 4)]
    alone = [(await gpu.run([one])).evaluations[0] for one in parts]

    rounds = [await asyncio.gather(*(gpu.run([one]) for one in parts)) for _ in range(6)]

    for runs in rounds:
        for run, expected in zip(runs, alone, strict=True):
            assert torch.equal(run.evaluations[0].outputs[0], expected.outputs[0])
            assert run.evaluations[0].certificates == expected.certificates


async def test_memory_that_is_not_there_is_said(gpu: CudaExecutor) -> None:
    """A share that the GPU cannot hold is refused for its memory, and the next one is answered."""
    small = part("msign", {"m": rectangular((64, 32), items=5)})
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(int(free * 0.98), dtype=torch.uint8, device="cuda")

    with pytest.raises(DeviceMemoryError):
        await gpu.run([part("msign", {"m": rectangular((1024, 1024), items=64)})])
    del held
    torch.cuda.empty_cache()

    assert (await gpu.run([small])).evaluations[0].items == 5


@pytest.mark.timeout(300)
async def test_warm_up_runs_every_function(gpu: CudaExecutor) -> None:
    """Every function of the catalogue has an answer for identities."""
    await warm_up(gpu, Profile.nominal())
