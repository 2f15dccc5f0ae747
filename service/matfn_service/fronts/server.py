"""A front's end of the pipe: jobs and questions to the server, answers and tickets back."""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

from matfn_service.arena import Arena, numbers_at
from matfn_service.encoding import Encoded
from matfn_service.fronts.messages import (
    Abandon,
    Ask,
    Asked,
    Delivered,
    Ended,
    Over,
    Ready,
    Refused,
    Release,
    Renewed,
    Submit,
    Told,
    Unready,
)
from matfn_service.fronts.parcels import Parcels, shared, unpacked
from matfn_service.fronts.pipe import Pipe
from matfn_service.jobs import Job, Served, Ticket
from matfn_service.messages import Repeated
from matfn_service.pulse import Loss, WorkerLost

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send
    from torch import Tensor

    from matfn_service.arena import Slot
    from matfn_service.problems import Refusal
    from matfn_service.settings import Settings
    from matfn_service.shared_memory import Piece

__all__ = ["Server"]

_OF_SCOPE: Final = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "headers",
    "client",
    "server",
)
"""Entries of a scope that a route may read, all of them plain data."""


class Server:
    """The pipe to the server, and what comes from there; the system ends a front whose server has ended.

    Args:
        end: of the pipe.
        memory: descriptor of the server's shared memory.

    Attributes:
        tickets: those without an answer, by their numbers.
    """

    def __init__(self, end: socket.socket, memory: int) -> None:
        self.pipe = Pipe(self._receive, lambda: None)
        self._end = end
        self._seen = Arena(-1, memory)
        self._numbers = count()
        self.tickets: dict[int, Ticket] = {}
        self._questions: dict[int, asyncio.Queue[Told | Ended | Refused]] = {}
        self._renew: Callable[[Settings], None] = lambda _: None

    def on_renewal(self, renew: Callable[[Settings], None]) -> None:
        """Has this called with the settings whenever they are renewed."""
        self._renew = renew

    async def connect(self) -> None:
        """Begins to receive."""
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Ready] = self._loop.create_future()
        self._end.setblocking(False)  # noqa: FBT003 - socket's own
        await self._loop.create_unix_connection(lambda: self.pipe, sock=self._end)

    def new_request(self) -> int:
        """A number for a request whose jobs will be submitted."""
        return next(self._numbers)

    def end_request(self, request: int) -> None:
        """Tells that a request has ended."""
        self.pipe.send(Over(request))

    def submit(self, job: Job, caller: str, request: int) -> Ticket:
        """Sends a job of a request, and returns the ticket that will have its answer."""
        number = next(self._numbers)
        visible = {name: shared(tensor.contiguous()) for name, tensor in job.batch.inputs.items()}
        parcels = Parcels()
        ticket = Ticket((job,), self._loop.create_future())
        self.tickets[number] = ticket
        self.pipe.send(
            Submit(
                number,
                request,
                caller,
                Repeated(job.program),
                {name: parcels.add(tensor) for name, tensor in visible.items()},
                job.batch.requested,
                job.function,
                job.seconds,
                job.bytes,
                job.answer_bytes,
                job.priority,
                job.arrived,
                job.deadline,
                job.tenant,
                None if job.trace is None else job.trace.span,
            ),
            parcels.numbers,
        )
        ticket.future.add_done_callback(partial(self._over, number, visible))
        return ticket

    async def ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the server answer a request that computes nothing."""
        number = next(self._numbers)
        answers: asyncio.Queue[Told | Ended | Refused] = asyncio.Queue()
        self._questions[number] = answers
        self.pipe.send(Ask(number, {name: scope[name] for name in _OF_SCOPE if name in scope}))
        passing = asyncio.get_running_loop().create_task(self._pass_on(number, receive))
        try:
            while isinstance(answer := await answers.get(), Told):
                await send(answer.message)
        finally:
            passing.cancel()
            del self._questions[number]
        if isinstance(answer, Refused):
            raise answer.refusal

    async def _pass_on(self, number: int, receive: Receive) -> None:
        while True:
            message = await receive()
            self.pipe.send(Asked(number, dict(message)))
            if message["type"] == "http.disconnect":
                return

    def fail_all(self, error: Refusal) -> None:
        """Ends every wait with this error."""
        for number, ticket in tuple(self.tickets.items()):
            del self.tickets[number]
            ticket.fail(error)
            self.pipe.send(Abandon(number))

    def _over(self, number: int, visible: dict[str, Tensor], future: asyncio.Future[Served]) -> None:
        """Forgets a ticket, and what was kept for the server to read; the server forgets one whose caller has left."""
        visible.clear()
        if self.tickets.pop(number, None) is not None and future.cancelled():
            self.pipe.send(Abandon(number))

    def _receive(self, message: object, numbers: memoryview) -> None:
        match message:
            case Delivered(number) if number in self.tickets:
                ticket = self.tickets.pop(number)
                ticket.deliver(ticket.jobs[0], self._served(message, numbers))
            case Delivered(number):
                self.pipe.send(Release(number))
            case Told(number) | Ended(number) | Refused(number) if number in self._questions:
                self._questions[number].put_nowait(message)
            case Refused(number, refusal) if number in self.tickets:
                self.tickets.pop(number).fail(refusal)
            case Renewed(settings):
                self._renew(settings)
            case Ready():
                self.ready.set_result(message)
            case Unready(reason):
                self.ready.set_exception(WorkerLost(Loss.ENDED, reason))

    def _served(self, message: Delivered, numbers: memoryview) -> Served:
        anchors: dict[Piece, np.ndarray] = {}
        evaluations = tuple(
            Encoded(tuple(self._output(slot, numbers, anchors) for slot in outputs), statuses, certificates)
            for outputs, statuses, certificates in message.evaluations
        )
        self._release_with(message.number, list(anchors.values()))
        return Served(
            evaluations, message.queue_seconds, message.spans, message.batch_size, message.fill, message.batches
        )

    def _output(self, slot: Slot, numbers: memoryview, anchors: dict[Piece, np.ndarray]) -> Tensor:
        """An output; one in shared memory refers to the anchor of its piece for as long as it is read."""
        if slot.piece is None:
            return unpacked(slot, numbers, self._seen)
        if slot.piece not in anchors:
            anchors[slot.piece] = np.frombuffer(self._seen.piece(slot.piece), np.uint8)
        return numbers_at(anchors[slot.piece], slot.dtype, slot.shape, slot.offset)

    def _release_with(self, number: int, anchors: list[np.ndarray]) -> None:
        """Tells the server that it may use its memory again, once nothing refers to it here."""
        left = len(anchors)

        def gone() -> None:
            nonlocal left
            left -= 1
            if not left:
                self.pipe.send(Release(number))

        for anchor in anchors:  # the last reference may go in any thread
            weakref.finalize(anchor, self._loop.call_soon_threadsafe, gone).atexit = False
