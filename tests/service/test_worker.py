"""Computing processes: what they answer, and what is left of them when they die."""

from __future__ import annotations

import asyncio
import errno
import itertools
import math
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.validation import Limits, parse_call
from matfn_kernels.running.evaluation import batch_of, evaluate
from matfn_kernels.running.plan import make_plan
from matfn_service import pulse, worker_process
from matfn_service.arena import Arena
from matfn_service.assembly import Part
from matfn_service.encoding import encode
from matfn_service.memory import DeviceMemoryError, is_for_memory
from matfn_service.pulse import Loss
from matfn_service.shared_memory import SHARED, anonymous_file, lent
from matfn_service.worker_process import WorkerError, WorkerLost, WorkerProcess
from scripted import until

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
    ("death", "loss"),
    [
        (partial(os._exit, 3), Loss.ENDED),
        (partial(signal.raise_signal, signal.SIGSEGV), Loss.ENDED),
        (partial(signal.raise_signal, signal.SIGKILL), Loss.KILLED),
    ],
)
async def test_a_dead_process_is_replaced(worker: WorkerProcess, death: partial[None], loss: Loss) -> None:
    """Whatever ends a process costs the computation that it had; the next one finds a new process."""
    before, counted = await worker.call(os.getpid), worker.losses[loss]

    with pytest.raises(WorkerLost) as caught:
        await worker.call(death)

    assert caught.value.loss is loss
    assert worker.losses[loss] == counted + 1
    assert await worker.call(os.getpid) != before
    assert (await worker.run([part(0, 2, 8, 8)])).evaluations[0].items == 2


async def test_the_process_is_a_command(worker: WorkerProcess) -> None:
    """A worker is `python -m matfn_service.worker` with three file descriptors and the service's process number."""
    command = (await worker.call(Path("/proc/self/cmdline").read_text)).rstrip("\0").split("\0")

    assert command[1:4] == ["-P", "-m", "matfn_service.worker"]
    assert all(argument.isdigit() for argument in command[4:])
    assert len(command) == 8
    assert int(command[-1]) == os.getpid()


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


async def looked_after(worker: WorkerProcess, work: asyncio.Task[Any]) -> None:
    """Looks at the worker, with shorter pauses than the service does, until it is replaced; waits for the work."""
    process = worker._process
    while worker._process is process:
        worker.look()
        await asyncio.wait([work], timeout=0.01)
    await asyncio.wait([work])


async def test_a_process_killed_for_memory_is_told_as_a_shortage(
    worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system says that it has killed for want of memory, the batch is halved."""
    await worker.call(int)
    monkeypatch.setattr(worker, "_memory_kills", -1)

    with pytest.raises(DeviceMemoryError):
        await worker.call(partial(signal.raise_signal, signal.SIGKILL))


@pytest.mark.parametrize("items", [1, 3])
async def test_a_stopped_process_is_replaced_and_its_work_done(worker: WorkerProcess, items: int) -> None:
    """A process that was stopped before its work came, or meanwhile, costs its caller nothing but time."""
    pid, counted = await worker.call(os.getpid), worker.losses[Loss.STOPPED]
    os.kill(pid, signal.SIGSTOP)
    sent = part(0, items, 8, 8)
    work = asyncio.create_task(worker.run([sent]))
    await looked_after(worker, work)

    (found,) = work.result().evaluations
    assert found.certificates == encode(evaluate(sent.program, sent.batch)).certificates
    assert worker.losses[Loss.STOPPED] == counted + 1


async def test_a_stopped_process_does_not_hold_up_the_loop(worker: WorkerProcess) -> None:
    """A message larger than the socket's buffer waits for its reader beside the loop."""
    os.kill(await worker.call(os.getpid), signal.SIGSTOP)
    work = asyncio.create_task(worker.call(partial(len, bytes(1 << 22))))
    await looked_after(worker, work)

    assert isinstance(work.exception(), WorkerLost)


async def test_a_process_that_uses_no_processor_is_replaced(worker: WorkerProcess) -> None:
    """One that has work and waits for something for ever hangs."""
    await worker.call(int)
    work = asyncio.create_task(worker.call(signal.pause))
    await looked_after(worker, work)

    assert isinstance(error := work.exception(), WorkerLost)
    assert error.loss is Loss.HUNG


async def test_work_that_takes_far_longer_than_predicted_is_given_up(
    worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endless computation yields its worker; predictions that are a hundred times too low do not cost it."""
    await worker.call(int)
    monkeypatch.setattr(pulse, "_SILENT_SECONDS", math.inf)
    monkeypatch.setattr(pulse, "_GRACE_SECONDS", 0.1)
    work = asyncio.create_task(worker.call(partial(all, itertools.repeat(1))))
    await looked_after(worker, work)

    assert isinstance(error := work.exception(), WorkerLost)
    assert error.loss is Loss.OVERRAN


@pytest.mark.parametrize(
    ("predicted", "share", "looks"),
    [(0.0, 1.0, 60), (0.5, 1.0, 110), (10.0, 1.0, 1060), (0.0, 0.25, 240), (0.0, 0.01, 600)],
)
def test_prices_are_taken_a_hundredfold(
    predicted: float, share: float, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work has a minute of the processor and a hundred times its prediction, or ten times as long with less of it."""
    times = (int(share * pulse._TICKS * second) for second in itertools.count(1))
    monkeypatch.setattr(pulse, "look_at", lambda _: pulse.Look("R", next(times)))
    watched = pulse.Pulse()
    watched.begin(predicted)

    verdicts = [watched.look(os.getpid()) for _ in range(looks + 1)]

    assert verdicts == [None] * looks + [Loss.OVERRAN]


async def test_an_idle_process_that_ended_is_replaced(worker: WorkerProcess) -> None:
    """It need not wait for the next call, and a look at a process that lives changes nothing."""
    before = await worker.call(os.getpid)
    worker.look()
    assert worker._process.pid == before
    worker._process.kill()
    worker._process.wait()
    worker.look()

    assert worker.is_alive
    assert await worker.call(os.getpid) != before


async def test_a_process_is_started_later_where_none_can_be_now(
    worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without descriptors or memory for a new process, calls fail until there are some again."""
    await worker.call(int)
    with monkeypatch.context() as patch:
        patch.setattr(worker_process, "Pipe", _refused)
        for _ in range(2):
            with pytest.raises(WorkerLost):
                await worker.call(partial(os._exit, 1))
        worker.look()
    worker.look()

    assert await worker.call(int) == 0


def _refused() -> None:
    raise OSError(errno.EMFILE, "too many open files")


async def test_a_long_answer_comes_whole(worker: WorkerProcess) -> None:
    """Answers that the socket takes in many pieces are put together."""
    assert await worker.call(partial(bytes, 5 << 20)) == bytes(5 << 20)


@pytest.mark.parametrize("step", ["_packed", "_taken"])
async def test_a_cancelled_copy_ends_before_its_memory_does(
    worker: WorkerProcess, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arena is cut when no thread copies into it or out of it, which would end the service."""
    large = part(0, 1, 800, 800)  # more than is copied on the loop
    begun, may_end = asyncio.Event(), threading.Event()
    ended: list[bool] = []
    loop, copying = asyncio.get_running_loop(), getattr(worker, step)

    def slowly(*arguments: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        assert may_end.wait(30)
        return copying(*arguments)

    monkeypatch.setattr(worker, step, slowly)
    monkeypatch.setattr(worker._arena, "clear", lambda: ended.append(may_end.is_set()))
    run = asyncio.create_task(worker.run([large]))
    await begun.wait()
    run.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not ended
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await run
    assert ended == [True]


async def test_a_service_that_ends_tries_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work whose process was ended with the service is given up, not begun anew."""
    worker = WorkerProcess()
    attempts = Mock(wraps=worker._packed)
    monkeypatch.setattr(worker, "_packed", attempts)
    run = asyncio.create_task(worker.run([part(0, 1, 2000, 2000)]))
    await until(lambda: worker._pulse.is_busy)
    worker.close()

    with pytest.raises(WorkerLost, match="the service is ending"):
        await run
    attempts.assert_called_once()


ORPHAN = """
import os, sys
from matfn_service.worker_process import WorkerProcess
worker = WorkerProcess()
print(worker._process.pid, flush=True)
sys.stdin.read()
os._exit(0)
"""


def ignores_terminations(number: int) -> bool:
    """Whether a worker has begun."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{number}/status").read_text().splitlines())
    return bool(int(status["SigIgn"], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_process_ends_with_the_service(end: signal.Signals) -> None:
    """The system ends a worker with its parent, however that ends, although the worker cannot act."""
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdin is not None
    number = int(parent.stdout.readline())
    worker = os.pidfd_open(number)
    while not ignores_terminations(number):
        continue
    os.kill(number, signal.SIGSTOP)
    parent.send_signal(end)
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()

    assert select.select([worker], [], [], 20)[0], "a process descriptor is readable once the process has ended"
    os.close(worker)


def test_a_process_whose_parent_is_gone_does_not_begin() -> None:
    """A worker that finds another parent than it was started by ends at once."""
    command = [sys.executable, "-P", "-m", "matfn_service.worker", "0", "0", "0", str(os.getppid())]

    assert subprocess.run(command, timeout=30, check=False).returncode == 0
