"""Computing processes: what they answer, and what is left of them when they die."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.validation import Limits, parse_call
from matfn_kernels.running.evaluation import batch_of, evaluate
from matfn_kernels.running.plan import make_plan
from matfn_service.arena import Arena
from matfn_service.assembly import Part
from matfn_service.encoding import encode
from matfn_service.memory import DeviceMemoryError, is_for_memory
from matfn_service.shared_memory import SHARED, anonymous_file, lent
from matfn_service.worker_process import WorkerError, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    """One process."""
    worker = WorkerProcess()
    yield worker
    worker.close()


def part(owner: int, *shape: int) -> Part:
    """A call with Gaussian matrices."""
    m = torch.randn(*shape, generator=torch.Generator().manual_seed(owner))
    call = parse_call("msign", {"m": m}, {}, {}, Limits())
    return Part(owner, make_plan(call, Profile.nominal()).program, batch_of(call))


async def test_answers_are_those_of_this_process(worker: WorkerProcess) -> None:
    """A worker gives each part the values and certificates that it has anywhere, and keeps no hold on them."""
    parts = [part(0, 2, 8, 8), part(1, 3, 5, 4), part(2, 0, 4, 4), part(3, 2, 8, 8)]

    found = (await worker.run(parts)).evaluations
    await worker.run([part(4, 5, 8, 8)])

    for given_part, evaluation in zip(parts, found, strict=True):
        alone = encode(evaluate(given_part.program, given_part.batch))
        assert evaluation.certificates == alone.certificates
        torch.testing.assert_close(evaluation.outputs, alone.outputs)


def lying_in_shared_memory(part: Part) -> Part:
    """The part with its input where all workers see it."""
    m = part.batch.inputs["m"]
    there = torch.frombuffer(lent(m.nbytes), dtype=m.dtype).view(m.shape).copy_(m)
    return replace(part, batch=replace(part.batch, inputs={"m": there}), answer_bytes=m[0].nbytes)


async def test_large_inputs_and_outputs_stay_where_they_are(worker: WorkerProcess) -> None:
    """A worker reads pieces of a call in its body and writes outputs where they are sent from, not in its arena."""
    whole = lying_in_shared_memory(part(0, 64, 96, 80))
    pieces = [whole.rows(0, 20), whole.rows(20, 64)]
    before = os.fstat(worker._arena.descriptor).st_size

    found = (await worker.run(pieces)).evaluations

    alone = encode(evaluate(whole.program, whole.batch))
    torch.testing.assert_close(torch.cat([piece.outputs[0] for piece in found]), alone.outputs[0], rtol=0, atol=0)
    assert all(SHARED.find(piece.outputs[0]) for piece in found)
    assert os.fstat(worker._arena.descriptor).st_size == before


async def test_outputs_larger_than_foretold_are_copied(worker: WorkerProcess) -> None:
    """Outputs for which the room was made too small come through the arena."""
    whole = replace(lying_in_shared_memory(part(0, 64, 96, 80)), answer_bytes=1 << 15)

    (found,) = (await worker.run([whole])).evaluations

    torch.testing.assert_close(found.outputs[0], evaluate(whole.program, whole.batch).outputs[0], rtol=0, atol=0)


async def test_a_computation_that_raises_is_told(worker: WorkerProcess) -> None:
    """The exception comes back as text, and the process computes on."""
    with pytest.raises(WorkerError, match="ZeroDivisionError"):
        await worker.call(partial(divmod, 1, 0))

    assert await worker.call(os.getpid) != os.getpid()


async def test_a_shortage_of_memory_has_its_own_name(worker: WorkerProcess) -> None:
    """An allocation that cannot be is told as the device's, so that the batch is halved."""
    with pytest.raises(DeviceMemoryError):
        await worker.call(partial(torch.empty, 1 << 60, dtype=torch.uint8))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_shortage_of_memory_is_recognised(error: Exception) -> None:
    """Python, the CPU's allocator and CUDA say it in different ways."""
    assert is_for_memory(error)
    assert not is_for_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize(
    ("death", "error"),
    [(partial(os._exit, 3), WorkerError), (partial(signal.raise_signal, signal.SIGKILL), DeviceMemoryError)],
)
async def test_a_dead_process_is_replaced(worker: WorkerProcess, death: partial[None], error: type[Exception]) -> None:
    """Whatever ends a process costs the computation that it had; the next one finds a new process."""
    before = await worker.call(os.getpid)

    with pytest.raises(error):
        await worker.call(death)

    assert await worker.call(os.getpid) != before
    assert (await worker.run([part(0, 2, 8, 8)])).evaluations[0].items == 2


async def test_the_process_is_a_command(worker: WorkerProcess) -> None:
    """A worker is `python -m matfn_service.worker` with three file descriptors."""
    command = (await worker.call(Path("/proc/self/cmdline").read_text)).rstrip("\0").split("\0")

    assert command[1:4] == ["-P", "-m", "matfn_service.worker"]
    assert all(argument.isdigit() for argument in command[4:])
    assert len(command) == 7


async def test_a_process_ends_with_the_service() -> None:
    """When the service's end of the pair is gone, however that happened, the process ends by itself."""
    worker = WorkerProcess()
    await worker.call(os.getpid)

    worker._connection.close()

    assert worker._process.wait(10) == 0


dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
shapes = st.lists(st.integers(0, 5), min_size=1, max_size=4)


@given(st.lists(st.tuples(dtypes, shapes, st.integers(1, 3)), max_size=6))
def test_both_sides_of_an_arena_see_the_same(kinds: list[tuple[torch.dtype, list[int], int]]) -> None:
    """What one side puts the other finds joined, bit for bit, whatever its dtype, shape, strides and number."""
    descriptor = anonymous_file()
    near, far = Arena(descriptor), Arena(descriptor)
    tensors = [
        [torch.randn(*shape[:1], *reversed(shape[1:])).to(dtype).transpose(1, -1) for _ in range(number)]
        if len(shape) == 3
        else [torch.randn(shape).to(dtype) for _ in range(number)]
        for dtype, shape, number in kinds
    ]

    slots = [near.put(several) for several in tensors]

    assert all(torch.equal(far.get(slot), torch.cat(several)) for slot, several in zip(slots, tensors, strict=True))
    os.close(descriptor)


def test_a_large_arena_is_given_back() -> None:
    """Memory that one large share needed is the system's again after it, and the arena works on."""
    descriptor = anonymous_file()
    near, far = Arena(descriptor), Arena(descriptor)
    far.get(near.put([torch.ones(100 << 20, dtype=torch.uint8)]))
    near.clear()

    assert os.fstat(descriptor).st_size < 100 << 20
    assert far.get(near.put([torch.full((80 << 20,), 7, dtype=torch.uint8)]))[-1] == 7
    os.close(descriptor)


async def test_a_refused_matrix_travels_with_others(worker: WorkerProcess) -> None:
    """A matrix without an answer is told as such by the worker, and the others are answered."""
    m = torch.stack([torch.eye(3), torch.full((3, 3), torch.nan)])
    call = screen(parse_call("msign", {"m": m}, {}, {"on_failure": "nan"}, Limits()))
    sent = Part(0, make_plan(call, Profile.nominal()).program, batch_of(call))

    (found,) = (await worker.run([sent])).evaluations

    assert [status.code for status in found.statuses] == [None, "not_finite"]
    assert found.statuses[1].hint == evaluate(sent.program, sent.batch).certificates[1].hint


class _Unreadable:
    """Pickles as a call that raises on the other side."""

    def __reduce__(self) -> tuple[object, ...]:
        return divmod, (1, 0)


async def test_a_message_that_cannot_be_read_is_told(worker: WorkerProcess) -> None:
    """It raises where it is read, and the process lives on."""
    with pytest.raises(WorkerError, match="ZeroDivisionError"):
        await worker.call(partial(bool, _Unreadable()))

    assert await worker.call(int) == 0


async def test_a_lone_matrix_gets_a_second_process(worker: WorkerProcess) -> None:
    """What ended the process it was sent to came from outside, and its caller need not know."""
    await worker.call(int)
    worker._process.kill()
    worker._process.wait()
    sent = part(0, 1, 8, 8)

    (found,) = (await worker.run([sent])).evaluations

    assert found.certificates == encode(evaluate(sent.program, sent.batch)).certificates
