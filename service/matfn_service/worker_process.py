"""Worker processes as the service sees them.

A kernel makes hundreds of short calls into torch, each of which releases the interpreter's lock and takes it again. In
a thread beside a busy event loop it would wait for the lock longer than it computes. A process has a lock of its own,
and a fault in a library that ends it ends nothing else.

Tensors travel in shared memory, everything else over a socket pair as pickles. A worker ends when the service's end of
the pair is closed, and the system kills it when the service ends. One that ends, is stopped, hangs or overruns is
replaced (`matfn_service.pulse` says when); neither sending to it nor receiving from it holds up the loop.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
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
from matfn_service.link import Link
from matfn_service.memory import DeviceMemoryError
from matfn_service.messages import Answer, Call, Done, Evaluate, Failed, Repeated
from matfn_service.pulse import Loss, Pulse, WorkerError, WorkerLost, loss_of, memory_kills
from matfn_service.shared_memory import LEAST, SHARED, anonymous_file, lent
from matfn_service.to_its_end import to_its_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels import Backends, Batch, Program
    from matfn_service.assembly import Part

__all__ = ["Run", "WorkerError", "WorkerLost", "WorkerProcess"]

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1"}  # also where the server was not started by `matfn serve`
_DYING_SECONDS: Final = 1.0
_INLINE_BYTES: Final = 1 << 21  # copied in half a millisecond, in two where pages are new; more is copied in a thread
_FEW_REQUESTS: Final = 256  # different ones, which are pickled in half a millisecond; more are pickled in a thread
_REPLY_BYTES: Final = 1 << 20  # certificates of thousands of matrices; more are unpickled in a thread
_PADDING: Final = 4 * 64  # between the outputs of a part


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluation for each part, the seconds they took on the device, and those of the copies to it and back."""

    evaluations: list[Encoded]
    seconds: float
    copying: float = 0.0


class WorkerProcess:
    """The service's end of a computing process, for one task at a time."""

    def __init__(self) -> None:
        self.losses: Counter[Loss] = Counter()
        self.backends: Backends = TORCHS_OWN  # those of the profile, once there is one
        self._is_closed = False
        self._verdict: Loss | None = None
        self._is_taken = False  # while the arena is in use
        self._start()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, as far as is known."""
        return self._process.poll() is None and not self._pulse.is_stopped

    def look(self) -> None:
        """Kills a process that will not answer, and replaces one that ended without work; called once a second."""
        if self._process.poll() is None:
            self._verdict = self._verdict or self._pulse.look(self._process.pid)
            if self._verdict is not None:
                self._process.kill()  # who waits for it hears of that from the connection
        elif not self._is_taken:
            self._replace()

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes a share; one job's matrices whose process was lost are tried once more, in a new process.

        Raises:
            DeviceMemoryError: if it is too large for the memory there is.
            WorkerLost: if its process was lost.
            WorkerError: if it raised.
        """
        losses = self.losses.total()
        try:
            return await self._computed(parts)
        except WorkerLost as lost:
            if self._is_closed or len(parts) > 1 or lost.loss is Loss.OVERRAN:  # it would take as long again
                raise
        except DeviceMemoryError:
            if self.losses.total() == losses or sum(part.items for part in parts) > 1:
                raise
        return await self._computed(parts)

    async def _computed(self, parts: Sequence[Part]) -> Run:
        members = by_program(parts)
        room = _room(parts)
        self._is_taken = True
        started = time.perf_counter()
        try:
            pack = partial(self._packed, parts, members, room)
            message = pack() if _are_copied_at_once(parts) else await to_its_end(asyncio.to_thread(pack))
            packed = time.perf_counter()
            done = await self._answer(message, sum(part.seconds * part.items for part in parts))
            answered = time.perf_counter()
            take = partial(self._taken, done.value, room)
            is_large = sum(map(_arena_bytes, done.value)) > _INLINE_BYTES
            evaluations = await to_its_end(asyncio.to_thread(take)) if is_large else take()
        finally:
            self._arena.clear()
            self._is_taken = False
        copying = packed - started + time.perf_counter() - answered
        return Run(apart(parts, members, evaluations), done.seconds, copying)

    async def call(self, work: Callable[[], T]) -> T:
        """Calls `work`, which both sides can import, in the process and returns its value.

        Raises:
            WorkerLost: if it ended the process.
            WorkerError: if it raised.
        """
        self._is_taken = True
        try:
            return (await self._answer(Call(work))).value
        finally:
            self._is_taken = False

    def close(self) -> None:
        """Ends the process; what it computes is lost."""
        self._is_closed = True
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _start(self) -> None:
        """Starts a process.

        Raises:
            OSError: if the system has no room for one.
        """
        with ExitStack() as undo:
            arena = Arena(anonymous_file())
            undo.callback(os.close, arena.descriptor)
            near, far = Pipe()
            undo.callback(near.close)
            link = Link(near)
            undo.callback(link.close)
            with far:
                ends = far.fileno(), arena.descriptor, SHARED.descriptor
                command = [sys.executable, "-P", "-m", "matfn_service.worker", *map(str, (*ends, os.getpid()))]
                process = subprocess.Popen(command, pass_fds=ends, env={**os.environ, **_ENVIRONMENT})  # noqa: S603
            undo.pop_all()
        self._arena, self._connection, self._process = arena, link, process
        self._pulse = Pulse()
        self._verdict = None
        self._memory_kills = memory_kills()

    async def _answer(self, message: Callable[[Arena], T], predicted: float = 0.0) -> Done[T]:
        self._pulse.begin(predicted)
        try:
            reply: Done[T] | Failed = await self._exchange(message)
        except (EOFError, OSError):
            raise await self._lost() from None
        finally:
            self._pulse.end()
        if isinstance(reply, Failed):
            raise DeviceMemoryError(reply.text) if reply.for_memory else WorkerError(reply.text)
        return reply

    async def _exchange(self, message: Callable[[Arena], T]) -> Done[T] | Failed:
        pickled = partial(pickle.dumps, message, pickle.HIGHEST_PROTOCOL)
        octets = await asyncio.to_thread(pickled) if _has_many_requests(message) else pickled()
        content = await self._connection.exchange(octets)
        unpickled = partial(pickle.loads, content)  # from the other end of this program
        is_large = len(content) > _REPLY_BYTES
        reply: Done[T] | Failed = await asyncio.to_thread(unpickled) if is_large else unpickled()
        return reply

    async def _lost(self) -> Exception:
        """Starts a new process, and returns the reason why the old one was lost."""
        try:
            await asyncio.to_thread(self._process.wait, _DYING_SECONDS)
        except subprocess.TimeoutExpired:  # it runs but is out of reach
            self._verdict = Loss.HUNG
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        if self._is_closed:
            return WorkerLost(Loss.ENDED, "the service is ending")
        lost = self._replace()
        return DeviceMemoryError(str(lost)) if lost.loss is Loss.MEMORY else lost

    def _replace(self) -> WorkerLost:
        """Starts a process in place of one that ended, and returns the reason why that was lost."""
        code = self._process.returncode
        loss = self._verdict or loss_of(code, self._memory_kills)
        old = self._connection, self._arena.descriptor
        _log.warning("worker lost", pid=self._process.pid, reason=loss, code=code)
        try:
            self._start()
        except OSError as error:  # the next look, or the next task, tries again
            _log.error("no worker can be started", reason=error.strerror)
            return WorkerLost(loss, f"the computing process was lost ({loss}), and no other can be started")
        self.losses[loss] += 1
        old[0].close()
        os.close(old[1])
        return WorkerLost(loss, f"the computing process was lost ({loss})")

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
            tensors = iter([tensor_at(room, slot, slots[0].offset) for slot in slots])
        else:
            tensors = iter(self._arena.copied(slots))
        return [Encoded(tuple(next(tensors) for _ in slots), statuses, octets) for slots, statuses, octets in answers]


def _has_many_requests(message: object) -> bool:
    """Whether a message asks for something else for each of many matrices, as where they are flawed."""
    if not isinstance(message, Evaluate):
        return False
    return any(len(set(map(id, requested))) > _FEW_REQUESTS for _, _, requested in message.members)


def _shared(tensors: Sequence[Tensor]) -> Slot | None:
    """Where all workers see tensors (batch, ...) that lie one behind the other; None if they do not."""
    first = tensors[0]
    found = SHARED.find(first)
    if found is None or not all(tensor.is_contiguous() for tensor in tensors):
        return None
    if any(one.data_ptr() + one.nbytes != other.data_ptr() for one, other in pairwise(tensors)):
        return None
    return Slot(first.dtype, (sum(map(len, tensors)), *first.shape[1:]), found[1], found[0])


def _room(parts: Sequence[Part]) -> memoryview | None:
    """Shared memory for the outputs of a share; None where they are small."""
    size = sum(part.items * part.answer_bytes for part in parts)
    return lent(size + _PADDING * len(parts)) if size >= LEAST else None


def _are_copied_at_once(parts: Sequence[Part]) -> bool:
    """Whether the inputs that no worker sees where they lie are copied in little time."""
    tensors = [tensor for part in parts for tensor in part.batch.inputs.values()]
    if sum(tensor.nbytes for tensor in tensors) <= _INLINE_BYTES:
        return True
    return sum(tensor.nbytes for tensor in tensors if SHARED.find(tensor) is None) <= _INLINE_BYTES


def _arena_bytes(answer: Answer) -> int:
    """Bytes of an answer's outputs that lie in the arena."""
    return sum(slot.nbytes for slot in answer[0] if slot.piece is None)
