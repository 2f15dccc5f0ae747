"""Worker processes as the service sees them.

A kernel makes hundreds of short calls into torch, each of which releases the interpreter's lock and takes it again. In
a thread beside a busy event loop it would wait for the lock longer than it computes. A process has a lock of its own,
and a fault in a library that ends it ends nothing else.

Tensors travel in shared memory, everything else over a socket pair as pickles. A worker ends when the service's end of
the pair is closed, also when the service is killed.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Pipe
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
import torch

from matfn_kernels import TORCHS_OWN
from matfn_service.arena import Arena, Slot, tensor_at
from matfn_service.assembly import apart, by_program
from matfn_service.encoding import Encoded
from matfn_service.memory import DeviceMemoryError
from matfn_service.messages import Answer, Call, Done, Evaluate, Failed, Repeated
from matfn_service.shared_memory import LEAST, SHARED, anonymous_file, lent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels import Backends, Batch, Program
    from matfn_service.assembly import Part

__all__ = ["Run", "WorkerError", "WorkerProcess"]

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1"}  # also where the server was not started by `matfn serve`
_DYING_SECONDS: Final = 1.0
_INLINE_BYTES: Final = 1 << 23  # copied in 2 ms; more is copied in a thread
_PADDING: Final = 4 * 64  # between the outputs of a part


class WorkerError(Exception):
    """A computation raised, or took its process down; the text has the traceback or the signal."""


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluation for each part, the seconds they took on the device, and those of the copies to it and back."""

    evaluations: list[Encoded]
    seconds: float
    copying: float = 0.0


class WorkerProcess:
    """The service's end of a computing process, for one task at a time."""

    def __init__(self) -> None:
        self.losses = 0
        self.backends: Backends = TORCHS_OWN  # those of the profile, once there is one
        self._is_closed = False
        self._start()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; one that ended is replaced when the next task finds out."""
        return self._process.poll() is None

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes a share; a single matrix whose process ended is tried once more, in a new process.

        Raises:
            DeviceMemoryError: if it is too large for the memory there is.
            WorkerError: if it raised, or ended the process, which is then started anew.
        """
        losses = self.losses
        try:
            return await self._computed(parts)
        except (DeviceMemoryError, WorkerError):
            if self.losses == losses or sum(part.items for part in parts) > 1:
                raise
        return await self._computed(parts)

    async def _computed(self, parts: Sequence[Part]) -> Run:
        members = by_program(parts)
        room = _room(parts)
        started = time.perf_counter()
        try:
            pack = partial(self._packed, parts, members, room)
            message = await (asyncio.to_thread(pack) if _copied_bytes(parts) > _INLINE_BYTES else _at_once(pack))
            packed = time.perf_counter()
            done = await self._answer(message)
            answered = time.perf_counter()
            take = partial(self._taken, done.value, room)
            is_large = sum(map(_arena_bytes, done.value)) > _INLINE_BYTES
            evaluations = await (asyncio.to_thread(take) if is_large else _at_once(take))
        finally:
            self._arena.clear()
        copying = packed - started + time.perf_counter() - answered
        return Run(apart(parts, members, evaluations), done.seconds, copying)

    async def call(self, work: Callable[[], T]) -> T:
        """Calls `work`, which both sides can import, in the process and returns its value.

        Raises:
            WorkerError: if it raised, or ended the process.
        """
        return (await self._answer(Call(work))).value

    def close(self) -> None:
        """Ends the process; what it computes is lost."""
        self._is_closed = True
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._arena = Arena(anonymous_file())
        self._connection, far = Pipe()
        ends = far.fileno(), self._arena.descriptor, SHARED.descriptor
        command = [sys.executable, "-P", "-m", "matfn_service.worker", *map(str, ends)]
        self._process = subprocess.Popen(command, pass_fds=ends, env={**os.environ, **_ENVIRONMENT})  # noqa: S603
        far.close()

    async def _answer(self, message: Callable[[Arena], T]) -> Done[T]:
        try:
            reply: Done[T] | Failed = await self._exchange(message)
        except (EOFError, OSError):
            raise self._lost() from None
        if isinstance(reply, Failed):
            raise DeviceMemoryError(reply.text) if reply.for_memory else WorkerError(reply.text)
        return reply

    async def _exchange(self, message: Callable[[Arena], T]) -> Done[T] | Failed:
        """Sends without a thread: beside a busy loop, one would wait for the interpreter at every step."""
        loop, socket = asyncio.get_running_loop(), self._connection.fileno()
        self._connection.send(message)
        readable = asyncio.Event()
        loop.add_reader(socket, readable.set)  # may come more than once before the reader is gone
        try:
            await readable.wait()
        finally:
            loop.remove_reader(socket)
            os.set_blocking(socket, True)  # uvloop leaves it otherwise; what is sent comes at once and whole
        reply: Done[T] | Failed = self._connection.recv()
        return reply

    def _lost(self) -> Exception:
        """Starts a new process, and returns the reason why the old one ended."""
        self._connection.close()
        try:
            code: int | None = self._process.wait(_DYING_SECONDS)
        except subprocess.TimeoutExpired:  # it runs but is out of reach: the loop must not wait for it
            self._process.kill()
            self._process.wait()
            code = None
        if not self._is_closed:
            self.losses += 1
            _log.warning("worker ended", pid=self._process.pid, code=code)
            os.close(self._arena.descriptor)
            self._start()
        if code == -signal.SIGKILL:  # what the system does when memory runs out
            return DeviceMemoryError("the computing process was killed")
        return WorkerError(
            "the computing process was out of reach" if code is None else f"the process ended with code {code}"
        )

    def _packed(self, parts: Sequence[Part], members: Mapping[Program, list[int]], room: memoryview | None) -> Evaluate:
        put = []
        for program, indices in members.items():
            batches = [parts[index].batch for index in indices]
            requested = tuple(one for batch in batches for one in batch.requested)
            put.append((Repeated(program), self._put(batches), requested))
        place = None if room is None else _shared([torch.frombuffer(room, dtype=torch.uint8)])
        return Evaluate(put, self._arena.end, place, Repeated(self.backends))

    def _put(self, batches: Sequence[Batch]) -> dict[str, Slot]:
        return {name: self._slot([batch.inputs[name] for batch in batches]) for name in batches[0].inputs}

    def _slot(self, tensors: Sequence[Tensor]) -> Slot:
        """Where the worker finds the tensors joined: where they lie already, if it sees that."""
        return _shared(tensors) or self._arena.put(tensors)

    def _taken(self, answers: list[Answer], room: memoryview | None) -> list[Encoded]:
        """The answers in the room, or copied out of the arena at once."""
        slots = [slot for slots, _, _ in answers for slot in slots]
        if room is not None and slots and slots[0].piece is not None:
            first = slots[0].offset
            tensors = iter([tensor_at(room, replace(slot, offset=slot.offset - first)) for slot in slots])
        else:
            tensors = iter(self._arena.copied(slots))
        return [Encoded(tuple(next(tensors) for _ in slots), statuses, octets) for slots, statuses, octets in answers]


async def _at_once(work: Callable[[], T]) -> T:
    return work()


def _shared(tensors: Sequence[Tensor]) -> Slot | None:
    """Where all workers see tensors (batch, ...) that lie one behind the other; None if they do not."""
    found = SHARED.find(tensors[0])
    follow = all(one.data_ptr() + one.nbytes == other.data_ptr() for one, other in pairwise(tensors))
    if found is None or not follow or not all(tensor.is_contiguous() for tensor in tensors):
        return None
    first = tensors[0]
    return Slot(first.dtype, (sum(map(len, tensors)), *first.shape[1:]), found[1], found[0])


def _room(parts: Sequence[Part]) -> memoryview | None:
    """Shared memory for the outputs of a share; None where they are small."""
    size = sum(part.items * part.answer_bytes for part in parts)
    return lent(size + _PADDING * len(parts)) if size >= LEAST else None


def _copied_bytes(parts: Sequence[Part]) -> int:
    """Bytes of the inputs that no worker sees where they lie."""
    tensors = [tensor for part in parts for tensor in part.batch.inputs.values()]
    return sum(tensor.nbytes for tensor in tensors if SHARED.find(tensor) is None)


def _arena_bytes(answer: Answer) -> int:
    """Bytes of an answer's outputs that lie in the arena."""
    return sum(math.prod(slot.shape) * slot.dtype.itemsize for slot in answer[0] if slot.piece is None)
