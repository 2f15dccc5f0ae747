"""A connection keeps its requests apart when a body is given up, and is gone with its end."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
from uvicorn.server import ServerState

from matfn_service.app import create_app
from matfn_service.server import http_config
from matfn_service.settings import Settings
from matfn_service.socket_protocol import SocketProtocol
from outlet import Outlet, receive
from scripted import ScriptedExecutor, call_body, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.anyio


async def test_the_rest_of_a_body_given_up_is_no_request(executor: ScriptedExecutor) -> None:
    """A body stops short until its time is over; what then comes of it is thrown away, and its sender told."""
    settings = Settings.model_validate({"body_seconds": 0.05})
    app = create_app(settings, executor=executor)
    config = http_config(app, settings, connections=1)
    config.load()
    content = call_body("msign", 100, 100)
    head = (
        b"POST /v1/msign HTTP/1.1\r\nHost: m\r\nContent-Type: application/msgpack\r\nContent-Length: %d\r\n\r\n"
        % len(content)
    )
    async with app.router.lifespan_context(app):
        await app.state.service.admission()
        executor.forget()
        protocol, outlet = (
            SocketProtocol(config=config, server_state=ServerState(), app_state={}, most_connections=1),
            Outlet(),
        )
        protocol.connection_made(outlet)
        receive(protocol, head + content[:100])
        await until(lambda: len(protocol.get_buffer(-1)) == len(content) - 100)
        receive(protocol, content[100:2000])
        await until(lambda: not protocol._http.space())
        assert not outlet.sent
        receive(protocol, content[2000:])
        await until(lambda: b"\r\n\r\n" in outlet.sent)

    assert outlet.sent.startswith(b"HTTP/1.1 400")
    assert b"the body had not come" in outlet.sent
    assert not executor.sizes


GET = b"GET /healthz HTTP/1.1\r\nHost: m\r\n\r\n"
POST = b"POST /v1/msign HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n"
BODY = b'{"inputs": {"m": [[1, 2], [3, 4]]}}'


@asynccontextmanager
async def connections(executor: ScriptedExecutor) -> AsyncIterator[Callable[[], tuple[SocketProtocol, Outlet]]]:
    """A service, and what makes a connection to it."""
    settings = Settings()
    app = create_app(settings, executor=executor)
    config = http_config(app, settings, connections=9)
    config.load()
    state = ServerState()

    def connected() -> tuple[SocketProtocol, Outlet]:
        protocol, outlet = SocketProtocol(config=config, server_state=state, app_state={}, most_connections=9), Outlet()
        protocol.connection_made(outlet)
        return protocol, outlet

    async with app.router.lifespan_context(app):
        await app.state.service.admission()
        yield connected
        await until(lambda: not state.tasks)


@contextmanager
def no_collections() -> Iterator[None]:
    """Python collects no garbage meanwhile, and does not look at what there was before, which takes it a second."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("stream", "statuses"),
    [
        (b"", 0),
        (GET, 1),
        (GET * 3, 3),
        (POST + BODY, 1),
        (GET + POST + BODY[:9], 1),
        (GET[:9], 0),
        (b"nonsense\r\n\r\n", 1),
    ],
    ids=["silent", "get", "pipelined", "call", "half a body", "half a head", "nonsense"],
)
async def test_a_connection_is_gone_with_its_end(
    executor: ScriptedExecutor, stream: bytes, statuses: int, error: Exception | None
) -> None:
    """Nothing that a connection is made of waits for a collection of garbage, which is rare under load."""
    async with connections(executor) as connected:
        protocol, outlet = connected()
        remains = weakref.ref(protocol._http)
        receive(protocol, stream)
        await until(lambda: outlet.sent.count(b"HTTP/1.1 ") == statuses)
        with no_collections():
            protocol.connection_lost(error)
            tasks = protocol._http.tasks
            del protocol
            await until(lambda: not tasks)
            await asyncio.sleep(0)

            assert remains() is None


def post(path: str, tree: object) -> bytes:
    """A request with a body in JSON."""
    body = json.dumps(tree).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        b"GET /nothing HTTP/1.1\r\nHost: m\r\n\r\n",
        b"GET /v1/msign HTTP/1.1\r\nHost: m\r\n\r\n",
        post("/v1/msign", {"inputs": {"m": [[1.0]]}}),
        post("/v1/msign", [1]),
        post("/v1/msign", {"inputs": {"m": [[1.0], []]}}),
        post("/v1/inv_root", {"inputs": {"a": [[1.0, 2.0], [3.0, 4.0]]}, "params": {"r": 2}}),
        post("/v1/vjp/msign", {"inputs": {"m": [[1.0]]}, "cotangents": 1}),
        post("/v1/verify/msign", {"inputs": {"m": [[1.0]]}}),
        post("/v1/calls", {"calls": [{"function": "msign", "inputs": {"m": [[1.0]]}}]}),
        post("/v1/calls", {"calls": [{"function": "msign", "inputs": {"m": 1}}, {"function": "none"}, 7]}),
        post("/v1/calls", {"calls": [{"function": "msign", "inputs": {"m": [[1.0]]}, "params": {"x": 1}}]}),
    ],
    ids=lambda request: request.split(b" HTTP")[0].decode().replace(" ", ""),
)
async def test_a_request_is_gone_with_its_answer(executor: ScriptedExecutor, request_: bytes) -> None:
    """Neither a request nor its error and the frames that it passed wait for a collection of garbage."""
    async with connections(executor) as connected:
        protocol, outlet = connected()
        receive(protocol, request_)
        await until(lambda: outlet.sent.count(b"HTTP/1.1 ") == 1)
        with no_collections():
            receive(protocol, request_)
            receive(protocol, GET)  # what the connection keeps is of its last request
            await until(lambda: outlet.sent.count(b"HTTP/1.1 ") == 3)
            await until(lambda: not protocol._http.tasks)
            await asyncio.sleep(0)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            gc.set_debug(0)
            garbage = Counter(type(one).__name__ for one in gc.garbage)
            gc.garbage.clear()

        assert not garbage.keys() & {
            "frame",
            "traceback",
            "BodyReader",
            "RequestResponseCycle",
            "Exchange",
            "memoryview",
        }
        assert not garbage.keys() & {"Refusal", "Rejection", "DecodeError", "HTTPException"}
