"""The private attributes of uvicorn that the protocols and the server use: each is there, and the list is complete."""

from __future__ import annotations

import ast
import asyncio
import inspect
from typing import TYPE_CHECKING, Final

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from matfn_service import body_reader, http_protocol, server
from matfn_service.http_protocol import HttpProtocol
from matfn_service.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

pytestmark = pytest.mark.anyio

CYCLE: Final = {
    "body",
    "default_headers",
    "disconnected",
    "keep_alive",
    "message_event",
    "more_body",
    "on_response",
    "response_complete",
    "response_started",
    "transport",
    "waiting_for_100_continue",
}
FLOW: Final = {"drain", "resume_reading", "write_paused"}
PROTOCOL: Final = {
    "_unset_keepalive_if_required",
    "connection_lost",
    "connection_made",
    "connections",
    "cycle",
    "data_received",
    "flow",
    "headers",
    "loop",
    "on_body",
    "on_header",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "on_url",
    "parser",
    "pause_writing",
    "pipeline",
    "scope",
    "timeout_keep_alive",
    "timeout_keep_alive_handler",
    "transport",
}
SERVER: Final = {"capture_signals", "force_exit", "handle_exit", "server_state", "shutdown", "startup"}
CONNECTIONS: Final = {"connections"}


class Transport(asyncio.Transport):
    """A connection that goes nowhere."""

    def write(self, data: object) -> None:
        """Drops it."""

    def is_closing(self) -> bool:
        """Whether it is closed: never."""
        return False


async def nothing(scope: object, receive: object, send: object) -> None:
    """An application without an answer."""
    del scope, receive, send
    await asyncio.Event().wait()


def config() -> uvicorn.Config:
    """A configuration of uvicorn that logs nothing."""
    made = uvicorn.Config(nothing, http=HttpToolsProtocol, ws="none", lifespan="off", log_config=None)
    made.load()
    return made


@pytest.fixture
async def protocol() -> HttpToolsProtocol:
    """Uvicorn's own protocol in the middle of a request."""
    made = HttpToolsProtocol(config=config(), server_state=ServerState(), app_state={})
    made.connection_made(Transport())
    made.data_received(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nbegun")
    return made


@pytest.mark.parametrize("name", sorted(CYCLE))
async def test_cycle_has(protocol: HttpToolsProtocol, name: str) -> None:
    """A request's cycle has the attributes that the body reader reads and sets."""
    assert hasattr(protocol.cycle, name)


@pytest.mark.parametrize("name", sorted(FLOW))
async def test_flow_has(protocol: HttpToolsProtocol, name: str) -> None:
    """A connection's flow control has the attributes that the protocols use."""
    assert hasattr(protocol.flow, name)


@pytest.mark.parametrize("name", sorted(PROTOCOL))
async def test_protocol_has(protocol: HttpToolsProtocol, name: str) -> None:
    """The protocol has the attributes that ours uses, and the methods that ours extends."""
    assert hasattr(protocol, name)


@pytest.mark.parametrize("name", sorted(SERVER))
def test_server_has(name: str) -> None:
    """The server has the attributes that ours uses, and the methods that ours extends."""
    assert hasattr(uvicorn.Server(config()), name)


@pytest.mark.parametrize("name", sorted(CONNECTIONS))
def test_server_state_has(name: str) -> None:
    """The server's state has the attributes that ours uses."""
    assert hasattr(ServerState(), name)


def test_status_lines_are_there() -> None:
    """Status lines are bytes by status."""
    assert httptools_impl.STATUS_LINE[200] == b"HTTP/1.1 200 OK\r\n"


def attributes(module: ModuleType, *owners: str) -> set[str]:
    """The attributes of these expressions in a module, such as `cycle.body` for `cycle`."""
    nodes: Iterator[ast.AST] = ast.walk(ast.parse(inspect.getsource(module)))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) in owners}


def inherited(module: ModuleType, own: type, base: type) -> set[str]:
    """The attributes of `self` and `super()` that a class has from its base, and the methods that it overrides."""
    made_here = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(own)))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    used = attributes(module, "self") - made_here - set(vars(own))
    overridden = {name for name in vars(own) if hasattr(base, name) and not name.startswith("__")}
    return used | overridden | (attributes(module, "super()") - {"__init__"})


def test_lists_are_complete() -> None:
    """Every attribute of uvicorn's objects in the source of our modules is in the lists."""
    flow = attributes(body_reader, "self._flow") | attributes(http_protocol, "self.flow")

    assert attributes(body_reader, "cycle", "self._cycle") == CYCLE
    assert flow == FLOW
    assert inherited(http_protocol, HttpProtocol, HttpToolsProtocol) | {"parser", "cycle"} == PROTOCOL
    assert inherited(server, HttpServer, uvicorn.Server) | {"force_exit"} == SERVER
    assert attributes(server, "self.server_state") == CONNECTIONS
