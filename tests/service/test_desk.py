"""The two ends of a front: a desk of the server and the front's own, over a real pipe in one process."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
import weakref
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from matfn_kernels import Batch
from matfn_service.allowances import Allowances
from matfn_service.fronts.desk import Desk
from matfn_service.fronts.messages import Counted
from matfn_service.fronts.remote import FrontService
from matfn_service.fronts.server import Server
from matfn_service.jobs import Job, Ticket
from matfn_service.ledger import Bounds, Ledger
from matfn_service.problems import Refusal
from matfn_service.pulse import WorkerLost
from matfn_service.settings import Settings
from matfn_service.shared_memory import LEAST, anonymous_file
from matfn_service.statistics import Statistics
from matfn_service.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from torch import Tensor

    from matfn_service.ledger import Charges


class Queue:
    """A batcher that takes every job and computes none."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def correction(self, key: object) -> float:
        """Prices are right."""
        del key
        return 1.0

    def submit(self, job: Job, caller: str) -> Ticket:
        """A ticket, which the test ends."""
        del caller
        self.tickets.append(Ticket((job,), asyncio.get_running_loop().create_future()))
        return self.tickets[-1]

    def abandon(self, ticket: Ticket) -> None:
        """Ends a ticket."""
        ticket.abandon()


class Signs:
    """What a desk has told of its front."""

    def __init__(self) -> None:
        self.serving, self.beats, self.lost = asyncio.Event(), asyncio.Event(), asyncio.Event()


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop run until something holds; pytest's own limit ends a wait in vain."""
    while not holds():  # noqa: ASYNC110 - there is nothing that would set an event
        await asyncio.sleep(0)


class Pair:
    """A desk and the front's end of its pipe."""

    def __init__(self, server: Server, desk: Desk, queue: Queue, allowances: Allowances, signs: Signs) -> None:
        self.server = server
        self.signs = signs
        self.desk: Desk | None = desk
        self.queue = queue
        self.allowances = allowances
        self.held: dict[object, Charges] = {}

    async def submitted(self, request: int, a: Tensor | None = None, tenant: str = "k") -> Ticket:
        """A job of a request, as the server has judged it."""
        jobs = len(self.queue.tickets)
        ticket = self.server.submit(job_of(torch.eye(2) if a is None else a, tenant), "one name", request)
        await until(lambda: len(self.queue.tickets) > jobs or ticket.future.done())
        return ticket

    @property
    def requests(self) -> int:
        """Requests of the key in flight."""
        (use,) = self.allowances
        return use.requests

    async def has_requests(self, number: int) -> None:
        """Waits until the key has so many requests in flight."""
        await until(lambda: self.requests == number)


def job_of(a: Tensor, tenant: str = "k") -> Job:
    """A job of one input, whose program nobody runs."""
    program = cast("Any", torch.float32)  # anything that can be pickled and hashed
    return Job(program, Batch({"a": a}, ()), "msign", 1.0, 8, 5, time.monotonic(), tenant=tenant)


@asynccontextmanager
async def pair(refusal: Refusal | None = None) -> AsyncIterator[Pair]:
    """Both ends, the server with one key of one request at a time; warm, or refusing calls for this reason."""
    near, far = socket.socketpair()
    memories = anonymous_file(), anonymous_file()
    queue, allowances = Queue(), Allowances([Tenant("k", requests=1)], 1 << 30)

    async def admission() -> None:
        if refusal is not None:
            raise refusal

    executor = SimpleNamespace(device="cpu", workers=1)
    service: Any = SimpleNamespace(batcher=queue, allowances=allowances, admission=admission, telemetry=None)
    service.profile, service.executor = SimpleNamespace(label="profile"), executor
    service.statistics, service.charges_of_fronts = Statistics(), {}
    signs = Signs()
    desk = Desk(cast("Any", None), service, memories[0], signs.serving.set, signs.beats.set, signs.lost.set)
    server = Server(far, memories[1])
    near.setblocking(False)  # noqa: FBT003 - socket's own
    await server.connect()
    pipe = desk.pipe
    await asyncio.get_running_loop().create_unix_connection(lambda: pipe, sock=near)
    made = Pair(server, desk, queue, allowances, signs)
    made.held = service.charges_of_fronts
    del desk, service
    try:
        yield made
    finally:
        server.pipe.close()
        if made.desk is not None:
            made.desk.pipe.close()
        await asyncio.sleep(0)
        for memory in memories:
            os.close(memory)


pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def known_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program stands for itself."""
    for module in ("matfn_service.jobs", "matfn_service.fronts.desk"):
        monkeypatch.setattr(f"{module}.batch_key", lambda program: program)


async def test_requests_of_one_name_count_each() -> None:
    """A key's limit holds whatever its caller names its requests."""
    async with pair() as both:
        first = await both.submitted(request=1)
        second = await both.submitted(request=2)

        assert not first.future.done()
        assert "requests=1" in str(second.future.exception())


async def test_request_counts_until_it_is_over() -> None:
    """Its later jobs are taken though the earlier ones have ended, and then the next request may come."""
    async with pair() as both:
        await both.submitted(request=1)
        both.queue.tickets[0].fail(Refusal("busy", "of no matter"))
        await asyncio.sleep(0)
        assert not (await both.submitted(request=1)).future.done()
        assert (await both.submitted(request=2)).future.done()

        both.server.end_request(1)
        await both.has_requests(0)
        assert not (await both.submitted(request=3)).future.done()


async def test_lost_front_leaves_nothing_behind() -> None:
    """Its requests count no more, its jobs are dropped, and the desk is gone without a collection."""
    async with pair() as both:
        await both.submitted(request=1, a=torch.ones(1, 512, 512, dtype=torch.float64))
        assert both.desk is not None
        desk, both.desk = weakref.ref(both.desk), None
        gc.disable()
        try:
            both.server.pipe.close()
            await both.has_requests(0)
            assert both.queue.tickets[0].future.cancelled()
            both.queue.tickets.clear()
            await until(lambda: desk() is None)
        finally:
            gc.enable()


async def test_large_inputs_do_not_travel_through_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that lie elsewhere, such as broadcast ones, are copied into shared memory, and let go at the end."""
    sent: list[Any] = []
    broadcast = torch.ones(1, 1, 64).expand(64, 64, 64)
    async with pair() as both:
        monkeypatch.setattr(both.server.pipe, "send", lambda *content: sent.append(content))
        ticket = both.server.submit(job_of(broadcast), "one name", 1)

        message, numbers = sent[0]
        (place,) = message.inputs.values()
        assert not numbers
        assert place.nbytes == LEAST
        assert place.piece is not None
        ticket.abandon()


LEDGER = Ledger(Bounds(server=1000, request=100), lambda: 0.0)


async def test_front_beats_with_what_it_has_counted() -> None:
    """What it counts and holds is a sign of life, a job is none; a lost front holds nothing."""
    async with pair() as both:
        await both.submitted(request=1)
        assert not both.signs.beats.is_set()

        both.server.pipe.send(Counted(Statistics(), LEDGER.charges))
        await both.signs.beats.wait()

        assert [one.bound for one in both.held.values()] == [LEDGER.bounds.server]
        both.server.pipe.close()
        await both.signs.lost.wait()
        assert not both.held


@pytest.mark.parametrize("listens_first", [True, False])
async def test_front_serves_once_it_listens_and_the_server_is_warm(listens_first: bool) -> None:
    """Whichever comes last."""
    async with pair() as both:
        assert both.desk is not None
        front = FrontService(Settings(), both.server, time.monotonic, None)
        steps = [front.listens.set, both.desk.tell_when_warm]
        telling = asyncio.create_task(front._warm_up(cast("Any", None)))
        for number, step in enumerate(steps if listens_first else reversed(steps)):
            await asyncio.sleep(0)
            assert not both.signs.serving.is_set(), number
            done = step()
            if done is not None:
                await done
        await both.signs.serving.wait()
        await telling
        assert both.signs.beats.is_set()


@pytest.mark.parametrize("code", ["internal", "draining"])
async def test_front_says_why_the_server_is_not_warm(code: str) -> None:
    """In the server's words, once; a server that drains says so by a signal."""
    async with pair(Refusal(code, "the service could not warm up: no memory")) as both:
        assert both.desk is not None
        front = FrontService(Settings(), both.server, time.monotonic, None)
        await both.desk.tell_when_warm()
        if code == "draining":
            await both.submitted(request=1)
            assert not both.server.ready.done()
            return
        with pytest.raises(WorkerLost) as caught:
            await both.server.ready
        front._fail(caught.value)
        assert front.failure == "the service could not warm up: no memory"
