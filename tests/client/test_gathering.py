"""Concurrent small calls of one asynchronous client share requests, and nothing else."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from matfn.async_client import AsyncClock
from matfn.errors import MatfnError, Problem
from matfn.http1 import Request, Response
from scripted_socket import answered

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

MSGPACK = wire.Media.MSGPACK


@pytest.fixture
def anyio_backend() -> str:
    """The clients are for asyncio."""
    return "asyncio"


class Server:
    """A server that answers when its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.come = asyncio.Semaphore(0)
        self.requests: list[Request] = []
        self.cancelled = 0
        self.outcome: Callable[[wire.Call], wire.Answer | Problem] = answered
        self.faults: list[MatfnError] = []

    async def send(self, request: Request, timeout: float | None) -> Response:  # noqa: ASYNC109 - the seam's own
        """The response to a request."""
        del timeout
        if request.method == "GET":
            return Response(200, {}, json.dumps({"limits": {}}).encode())
        self.requests.append(request)
        self.come.release()
        try:
            await asyncio.sleep(0)  # as on any network, the answer comes in a later turn of the loop
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.faults:
            raise self.faults.pop(0)
        return self._answer(request)

    async def close(self) -> None:
        """Nothing to close."""

    def _answer(self, request: Request) -> Response:
        body, kind = b"".join(request.body), {"content-type": MSGPACK}
        if request.target == "/v1/calls":
            calls = [call for call in wire.decode_calls(body, MSGPACK) if isinstance(call, wire.Call)]
            return Response(200, kind, b"".join(wire.encode_answers(list(map(self.outcome, calls)), MSGPACK)))
        answer = self.outcome(wire.decode_call(body, MSGPACK, request.target.removeprefix("/v1/")))
        if isinstance(answer, Problem):
            return Response(answer.status, {"content-type": MSGPACK.problem}, wire.encode_problem(answer, MSGPACK))
        return Response(200, kind, b"".join(wire.encode_answer(answer, MSGPACK)))

    @property
    def targets(self) -> list[str]:
        """Of the requests so far."""
        return [request.target for request in self.requests]


async def no_wait(seconds: float) -> None:
    """Lets no time pass."""
    del seconds


def client_of(server: Server, **settings: Any) -> matfn.AsyncClient:
    """A client of the server whose clock stands still."""
    return matfn.AsyncClient(transport=server, clock=AsyncClock(lambda: 0.0, no_wait, lambda: 0.5), **settings)


def matrix(number: float, order: int = 2) -> Any:
    """A matrix that is told from others by its first entry."""
    return np.full((order, order), float(number))


def failing(code: str, times: int = 9) -> Callable[[wire.Call], wire.Answer | Problem]:
    """Refuses calls with a matrix whose first entry is 1, so many times."""
    left = [code] * times

    def outcome(call: wire.Call) -> wire.Answer | Problem:
        tensor = call.inputs["m"]
        firsts = np.frombuffer(tensor.data).reshape(tensor.shape)[..., 0, 0]
        return Problem.of(left.pop(), "scripted") if np.any(firsts == 1) and left else answered(call)

    return outcome


async def test_calls_one_after_another_go_at_once() -> None:
    """Nobody waits for company that is not there."""
    server = Server()
    client = client_of(server)

    values = [await client.msign(matrix(number)) for number in range(3)]

    assert [value[0, 0] for value in values] == [0, 1, 2]
    assert server.targets == ["/v1/msign"] * 3


async def test_calls_of_one_turn_share_a_request() -> None:
    """The first goes at once, those beside it go together, and each gets its own answer."""
    server = Server()
    client = client_of(server)

    values = await asyncio.gather(*(client.msign(matrix(number, 2 + number % 2)) for number in range(50)))

    assert [value[0, 0] for value in values] == list(range(50))
    assert [value.shape[0] for value in values] == [2 + number % 2 for number in range(50)]
    assert server.targets == ["/v1/msign", "/v1/calls"]


async def test_a_single_waiting_call_goes_by_its_own_route() -> None:
    """Two calls are two ordinary requests."""
    server = Server()
    client = client_of(server)

    await asyncio.gather(client.msign(matrix(0)), client.msign(matrix(1)))

    assert server.targets == ["/v1/msign"] * 2


async def test_calls_gather_while_requests_are_under_way() -> None:
    """Calls that come one by one to a busy client share the request that goes when another is answered."""
    server = Server()
    client = client_of(server)
    await client.msign(matrix(0))
    server.gate.clear()
    first = []
    for number in range(4):
        first.append(asyncio.create_task(client.msign(matrix(number))))
        await server.come.acquire()
    await server.come.acquire()
    later = [asyncio.create_task(client.msign(matrix(number))) for number in range(4, 9)]
    await asyncio.sleep(0)
    server.gate.set()

    values = await asyncio.gather(*first, *later)

    assert [value[0, 0] for value in values] == list(range(9))
    assert server.targets == [*["/v1/msign"] * 5, "/v1/calls"]


async def test_large_calls_go_by_themselves() -> None:
    """What takes long to send holds up no small call."""
    server = Server()
    client = client_of(server)

    await asyncio.gather(*(client.msign(matrix(number, 128)) for number in range(3)))

    assert server.targets == ["/v1/msign"] * 3


async def test_error_reaches_its_own_caller() -> None:
    """A refused stack is sent again as its calls, and one of them fails."""
    server = Server()
    client = client_of(server)
    server.outcome = failing("singular")

    found = await asyncio.gather(*(client.msign(matrix(n)) for n in (0, 2, 1, 3)), return_exceptions=True)

    assert [type(one).__name__ for one in found] == ["ndarray", "ndarray", "Singular", "ndarray"]
    assert server.targets == ["/v1/msign", "/v1/calls", "/v1/calls"]


async def test_busy_is_tried_again_by_its_callers() -> None:
    """A refusal that may pass is each caller's to try again."""
    server = Server()
    client = client_of(server)
    server.outcome = failing("busy", times=2)

    values = await asyncio.gather(*(client.msign(matrix(n)) for n in (0, 2, 1, 3)))

    assert [value[0, 0] for value in values] == [0, 2, 1, 3]


async def test_lost_request_is_tried_again_by_its_callers() -> None:
    """Each caller has as many attempts as alone, and an error of its own."""
    server = Server()
    client = client_of(server, max_retries=1)
    await client.msign(matrix(0))
    server.faults = [matfn.TransportError("reset") for _ in range(20)]

    found = await asyncio.gather(*(client.msign(matrix(n)) for n in range(4)), return_exceptions=True)

    assert [type(one) for one in found] == [matfn.TransportError] * 4
    assert len({id(one) for one in found}) == 4


async def test_cancelled_caller_leaves_the_others_alone() -> None:
    """One task ends, the request goes on."""
    server = Server()
    client = client_of(server)
    await client.msign(matrix(9))
    server.gate.clear()
    tasks = [asyncio.create_task(client.msign(matrix(number))) for number in range(4)]
    for _ in range(3):
        await server.come.acquire()

    tasks[2].cancel()
    await asyncio.wait([tasks[2]])
    server.gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(one).__name__ for one in found] == ["ndarray", "ndarray", "CancelledError", "ndarray"]
    assert server.cancelled == 0


async def test_request_ends_with_its_last_caller() -> None:
    """When all callers of a request have left, so has the request."""
    server = Server()
    client = client_of(server)
    await client.msign(matrix(9))
    server.gate.clear()
    tasks = [asyncio.create_task(client.msign(matrix(number))) for number in range(4)]
    for _ in range(3):
        await server.come.acquire()

    for task in tasks[1:]:
        task.cancel()
    await asyncio.wait(tasks[1:])
    await asyncio.sleep(0)
    server.gate.set()

    assert (await tasks[0])[0, 0] == 0
    assert server.cancelled == 1
    assert (await client.msign(matrix(7)))[0, 0] == 7


async def test_callers_deadline_ends_its_own_wait() -> None:
    """A caller with a deadline gives up by itself; those of the same request wait on."""
    server = Server()
    client = client_of(server, timeout=0.02)
    await client.msign(matrix(9))
    server.gate.clear()
    tasks = [asyncio.create_task(client.msign(matrix(n), deadline=5.0 if n == 2 else None)) for n in range(4)]

    await asyncio.wait([tasks[2]])
    server.gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(one).__name__ for one in found] == ["ndarray", "ndarray", "TransportTimeout", "ndarray"]


async def test_closed_client_fails_what_waits() -> None:
    """Calls that have not been sent when the client closes raise ClosedError."""
    server = Server()
    client = client_of(server)
    await client.msign(matrix(9))
    server.gate.clear()
    tasks = [asyncio.create_task(client.msign(matrix(number))) for number in range(3)]
    await asyncio.sleep(0)
    await client.close()
    server.gate.set()

    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(one).__name__ for one in found] == ["ndarray", "ClosedError", "ClosedError"]


def test_client_gathers_in_each_event_loop() -> None:
    """Requests that an ended loop left under way hold up nothing in the next one."""
    server = Server()
    client = client_of(server)

    async def left_behind() -> None:
        server.gate.clear()
        await asyncio.wait([asyncio.create_task(client.msign(matrix(n))) for n in range(9)], timeout=0.0)

    async def answered_later() -> list[Any]:
        server.gate = asyncio.Event()
        server.gate.set()
        return await asyncio.gather(*(client.msign(matrix(number)) for number in range(9)))

    asyncio.run(left_behind())
    server.come = asyncio.Semaphore(0)

    assert [value[0, 0] for value in asyncio.run(answered_later())] == list(range(9))


async def test_copied_client_gathers_for_itself() -> None:
    """A copy shares nothing with the client that it was made of."""
    server = Server()
    client = copy.copy(client_of(server))

    values = await asyncio.gather(*(client.msign(matrix(number)) for number in range(9)))

    assert [value[0, 0] for value in values] == list(range(9))
