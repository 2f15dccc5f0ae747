"""The server's side of one front: takes its jobs to the batcher, and answers and reports back."""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from matfn_kernels import Batch, batch_key
from matfn_service.arena import Arena
from matfn_service.fronts.messages import (
    Abandon,
    Ask,
    Asked,
    Counted,
    Delivered,
    Ended,
    Over,
    Ready,
    Refused,
    Release,
    Serving,
    Submit,
    Told,
    Unready,
)
from matfn_service.fronts.parcels import Parcels, shared, unpacked
from matfn_service.fronts.pipe import Pipe
from matfn_service.jobs import Job, Served, Ticket
from matfn_service.problems import REFUSALS, Refusal, as_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from torch import Tensor

    from matfn_kernels import Program
    from matfn_service.app import Application
    from matfn_service.messages import Repeated
    from matfn_service.service import Service

__all__ = ["Desk"]

_log = structlog.get_logger(__name__)


class Desk:
    """Serves one front until it is lost.

    Args:
        app: answers the requests that a front passes on.
        service: the service, which owns queue, limits and batches.
        memory: descriptor of the front's shared memory.
        on_serving: called when the front takes calls.
        on_beat: called at each sign that its loop turns.
        on_lost: called when the front has closed its end.
    """

    def __init__(
        self,
        app: Application,
        service: Service,
        memory: int,
        on_serving: Callable[[], None],
        on_beat: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.pipe = Pipe(self._receive, partial(self._lost, on_lost))
        self._on_serving, self._on_beat = on_serving, on_beat
        self._app = app
        self._service = service
        self._seen = Arena(-1, memory)
        self._tickets: dict[int, Ticket] = {}
        self._requests: dict[int, str] = {}
        self._lent: dict[int, list[tuple[Tensor, ...]]] = {}
        self._questions: dict[int, tuple[asyncio.Task[None], asyncio.Queue[dict[str, Any]]]] = {}

    async def tell_when_warm(self) -> None:
        """Tells the front the profile, once there is one and everything has computed."""
        try:
            await self._service.admission()
        except Refusal as refusal:
            if refusal.code != "draining":  # of which a signal tells the front
                self.pipe.send(Unready(refusal.detail))
            return
        profile, executor = self._service.profile, self._service.executor
        assert profile is not None
        self.pipe.send(Ready(profile, executor.device, executor.workers))

    def _receive(self, message: object, numbers: memoryview) -> None:
        if isinstance(message, Submit):
            self._submit(message, numbers)
        else:
            self._TAKEN[type(message)](self, message)

    def _serves(self, _: Serving) -> None:
        self._on_beat()
        self._on_serving()

    def _count(self, message: Counted) -> None:
        self._on_beat()
        self._service.statistics.add_edge(message.statistics)
        self._service.charges_of_fronts[self] = message.charges

    def _submit(self, message: Submit, numbers: memoryview) -> None:
        try:
            self._enter(message.request, message.tenant)
            ticket = self._service.batcher.submit(self._job(message, numbers), message.caller)
        except Exception as error:  # noqa: BLE001 - the front's caller is to hear of it
            self.pipe.send(Refused(message.number, _told(error)))
            return
        self._tickets[message.number] = ticket
        ticket.future.add_done_callback(partial(self._done, message.number))

    def _job(self, message: Submit, numbers: memoryview) -> Job:
        program = message.program.value
        inputs = {name: unpacked(slot, numbers, self._seen) for name, slot in message.inputs.items()}
        key = _key_of(message.program)
        correction = self._service.batcher.correction(key)
        telemetry = self._service.telemetry
        return Job(
            program=program,
            batch=Batch(inputs, message.requested),
            function=message.function,
            seconds=message.seconds * correction,
            bytes=message.bytes,
            answer_bytes=message.answer_bytes,
            priority=message.priority,
            arrived=message.arrived,
            deadline=message.deadline,
            tenant=message.tenant,
            correction=correction,
            trace=None if telemetry is None or message.span is None else telemetry.passed_on(message.span),
            key=key,
        )

    def _enter(self, request: int, tenant: str) -> None:
        """Counts a request of a key with its first job, until the front says that it is over."""
        if tenant and request not in self._requests:
            self._service.allowances.enter(tenant)
            self._requests[request] = tenant

    def _leave(self, message: Over) -> None:
        tenant = self._requests.pop(message.request, None)
        if tenant is not None:
            self._service.allowances.leave(tenant)

    def _done(self, number: int, future: asyncio.Future[Served]) -> None:
        if self._tickets.pop(number, None) is None or future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._deliver(number, future.result())
        else:
            assert isinstance(error, Exception)
            self.pipe.send(Refused(number, _told(error)))

    def _deliver(self, number: int, served: Served) -> None:
        visible = [tuple(map(shared, one.outputs)) for one in served.evaluations]
        parcels = Parcels()
        evaluations = tuple(
            (tuple(map(parcels.add, outputs)), one.statuses, one.certificates)
            for outputs, one in zip(visible, served.evaluations, strict=True)
        )
        if any(slot.piece is not None for outputs, _, _ in evaluations for slot in outputs):
            self._lent[number] = visible  # until the front has sent it
        answer = Delivered(
            number,
            evaluations,
            served.queue_seconds,
            served.spans,
            served.batch_size,
            served.fill,
            served.batches,
        )
        self.pipe.send(answer, parcels.numbers)

    def _release(self, message: Release) -> None:
        self._lent.pop(message.number, None)

    def _abandon(self, message: Abandon) -> None:
        ticket = self._tickets.pop(message.number, None)
        if ticket is not None:
            self._service.batcher.abandon(ticket)

    def _ask(self, message: Ask) -> None:
        number, messages = message.number, asyncio.Queue[dict[str, Any]]()
        task = asyncio.get_running_loop().create_task(self._answer(number, message.scope, messages))
        self._questions[number] = task, messages
        task.add_done_callback(lambda _: self._questions.pop(number, None))

    def _asked(self, message: Asked) -> None:
        if message.number in self._questions:
            self._questions[message.number][1].put_nowait(message.message)

    async def _answer(self, number: int, scope: dict[str, Any], messages: asyncio.Queue[dict[str, Any]]) -> None:
        async def send(message: Any) -> None:
            self.pipe.send(Told(number, message))

        try:
            await self._app.report(scope, messages.get, send)
        except Exception as error:  # noqa: BLE001 - the front's edge answers with it
            self.pipe.send(Refused(number, _told(error)))
        else:
            self.pipe.send(Ended(number))

    def _lost(self, on_lost: Callable[[], None]) -> None:
        """Drops everything that the front's callers wait for, and all that is known of the front."""
        for number in tuple(self._tickets):
            self._abandon(Abandon(number))
        for request in tuple(self._requests):
            self._leave(Over(request))
        for task, _ in tuple(self._questions.values()):
            task.cancel()
        self._lent.clear()
        self._service.charges_of_fronts.pop(self, None)
        on_lost()

    _TAKEN: ClassVar[Mapping[type, Callable[[Desk, Any], None]]] = {
        Abandon: _abandon,
        Release: _release,
        Over: _leave,
        Counted: _count,
        Serving: _serves,
        Ask: _ask,
        Asked: _asked,
    }


@lru_cache(maxsize=256)
def _key_of(program: Repeated[Program]) -> Hashable:
    """The key of a program that message after message has, of which there is one object."""
    return batch_key(program.value)


def _told(error: Exception) -> Refusal:
    """The refusal that the front is to answer with; an error that should not be is logged here."""
    if not isinstance(error, REFUSALS):
        _log.error("call failed", exc_info=error)
    return as_refusal(error)
