"""The device: workers that compute one share of a batch at a time, on a CPU each in a process of its own.

Whatever computes calls `torch.set_num_threads(1)` as its first act, and nothing calls it with another value: one
single-threaded worker a core outruns OpenMP's barriers wherever anything else wants a core, and batched LU fails in any
other thread once the number was ever raised.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import torch

from matfn_kernels import Graphed, Graphs, evaluate_together, load_profile
from matfn_service.cuda import CudaDevice
from matfn_service.encoding import encode
from matfn_service.memory import DeviceMemoryError, is_for_memory
from matfn_service.pulse import LOOK_SECONDS
from matfn_service.staging import Staging
from matfn_service.worker_process import Run, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

    from matfn_kernels import Batch, Evaluation, Findings, Profile, Program
    from matfn_service.assembly import Part
    from matfn_service.pulse import Loss
    from matfn_service.settings import Settings
    from matfn_service.staging import Port

__all__ = [
    "CpuExecutor",
    "CudaExecutor",
    "Device",
    "DeviceMemoryError",
    "Executor",
    "Run",
    "chosen_device",
    "computing_threads",
    "make_executor",
]

T = TypeVar("T")


class Device(Protocol):
    """A device with a queue of computations, beside which copies to and from it run."""

    @property
    def name(self) -> str:
        """The device's name in torch."""

    def port(self) -> Port:
        """A new queue of copies."""

    def computing(self) -> AbstractContextManager[object]:
        """Within it, this thread queues computations."""

    def record(self, program: Program, inputs: Mapping[str, Tensor]) -> Callable[[], Findings]:
        """Records a program's run on inputs that stay where they are.

        Raises:
            RuntimeError: if it cannot be recorded.
        """

    def release(self) -> None:
        """Gives memory back that is kept for reuse."""


class Executor(Protocol):
    """A device with `workers` that run side by side."""

    @property
    def workers(self) -> int:
        """How many shares run at the same time."""

    @property
    def ahead(self) -> int:
        """How many batches may be packed and brought to the device while all workers compute."""

    @property
    def alive(self) -> int:
        """How many workers can compute now."""

    @property
    def losses(self) -> Mapping[Loss, int]:
        """How often a worker was lost and replaced, by reason."""

    @property
    def device(self) -> str:
        """The name that answers carry."""

    async def load_profile(self, path: Path | None) -> Profile:
        """The profile that plans are made by: that of the file, else the one that ships for the device."""

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes one share, parts that may share a batch, on a free worker.

        Raises:
            DeviceMemoryError: if the share is too large for the device.
        """

    async def watch(self) -> None:
        """Replaces workers that are stopped, hang or have ended, until it is cancelled."""

    def close(self) -> None:
        """Ends the workers, without waiting for what they compute."""


def computing_threads(number: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads compute single-threaded each."""
    return ThreadPoolExecutor(number, name, initializer=torch.set_num_threads, initargs=(1,))


def make_executor(settings: Settings) -> Executor:
    """The executor that the settings ask for; `auto` is a GPU if there is one."""
    if chosen_device(settings) == "cuda":
        return CudaExecutor(CudaDevice())
    return CpuExecutor(settings.workers or len(os.sched_getaffinity(0)))


def chosen_device(settings: Settings) -> Literal["cpu", "cuda"]:
    """Where the settings let kernels run on this machine."""
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device


class CpuExecutor:
    """One single-threaded process a core; nothing is prepared ahead, since packing would take a core as well."""

    device = "cpu"
    ahead = 0

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._all = [WorkerProcess() for _ in range(workers)]
        self._free: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        for worker in self._all:
            self._free.put_nowait(worker)

    @property
    def alive(self) -> int:
        """Workers whose process runs."""
        return sum(worker.is_alive for worker in self._all)

    @property
    def losses(self) -> Mapping[Loss, int]:
        """Processes that were lost and replaced, by reason."""
        return sum((worker.losses for worker in self._all), Counter())

    async def load_profile(self, path: Path | None) -> Profile:
        """The file's profile, else the one that ships for the processor; the workers compute with its backends."""
        profile = load_profile(self.device, path)
        for worker in self._all:
            worker.backends = profile.backends
        return profile

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes one share on a free core."""
        worker = await self._free.get()
        try:
            return await worker.run(parts)
        finally:
            self._free.put_nowait(worker)

    async def watch(self) -> None:
        """Looks after every process once a second until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker in self._all:
                worker.look()

    def close(self) -> None:
        """Ends the workers; their work is lost."""
        for worker in self._all:
            worker.close()


class CudaExecutor:
    """One batch computes while the next is packed and copied over, and the last comes back; each has its own thread.

    Batches of one program are replayed from graphs, by the thread whose turn it is.
    """

    workers = 1
    ahead = 1
    alive = 1  # its threads end with the server; a GPU that fails shows in the calls' codes
    losses: Mapping[Loss, int] = {}

    def __init__(self, device: Device) -> None:
        self.device = device.name
        self._device = device
        self._threads = computing_threads(self.workers + self.ahead, "matfn-cuda")
        self._own = threading.local()
        self._turn = threading.Lock()
        self._graphs = Graphs(device.record)

    async def load_profile(self, path: Path | None) -> Profile:
        """The file's profile, else the one that ships for the GPU."""
        return load_profile(self.device, path)

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes one share on the GPU."""
        return await _in(self._threads, lambda: _timed(lambda: self._elsewhere(parts)))

    async def watch(self) -> None:
        """Nothing to look after: the threads end with the server."""

    def close(self) -> None:
        """Ends each thread after its current batch."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _elsewhere(self, parts: Sequence[Part]) -> list[Evaluation]:
        staging = self._staging()
        try:
            members = _sent(staging, parts)
            with self._turn, self._device.computing():
                staging.port.compute_after_copies()
                evaluations = evaluate_together(self._graphed(members))
                staging.port.copy_after_computing()
            return _fetched(staging, evaluations)
        except RuntimeError as error:
            if is_for_memory(error):
                self._device.release()
            raise

    def _graphed(self, members: list[tuple[Program, Batch]]) -> list[tuple[Program, Batch]]:
        """Parts of one program replay its graph; different programs share their first stage instead."""
        if len({program for program, _ in members}) > 1:
            return members
        return [(Graphed(program, self._graphs), batch) for program, batch in members]

    def _staging(self) -> Staging:
        if not hasattr(self._own, "staging"):
            self._own.staging = Staging(self._device.port())
        staging: Staging = self._own.staging
        return staging


async def _in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _sent(staging: Staging, parts: Sequence[Part]) -> list[tuple[Program, Batch]]:
    """The parts with their inputs on the device, the copies under way."""
    there = iter(staging.send([tensor for part in parts for tensor in part.batch.inputs.values()]))
    return [
        (part.program, replace(part.batch, inputs={name: next(there) for name in part.batch.inputs})) for part in parts
    ]


def _fetched(staging: Staging, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations with their outputs in host memory."""
    here = iter(staging.fetch([output for e in evaluations for output in e.outputs]))
    return [replace(e, outputs=tuple(next(here) for _ in e.outputs)) for e in evaluations]


def _timed(work: Callable[[], list[Evaluation]]) -> Run:
    started = time.perf_counter()
    try:
        evaluations = work()
    except Exception as error:
        if is_for_memory(error):
            raise DeviceMemoryError(str(error)) from error
        raise
    return Run([encode(evaluation) for evaluation in evaluations], time.perf_counter() - started)
