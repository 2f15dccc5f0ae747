"""What is received of a body whose reader has given it up belongs to it all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from uvicorn.server import ServerState

from matfn_service.app import create_app
from matfn_service.server import _config
from matfn_service.settings import Settings
from matfn_service.socket_protocol import SocketProtocol
from scripted import ScriptedExecutor, call_body, until

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio


class Outlet(asyncio.Transport):
    """A connection's sending side that keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keeps it."""
        self.sent += data

    def writelines(self, list_of_data: Sequence[bytes | bytearray | memoryview]) -> None:  # type: ignore[override]
        """Keeps them."""
        self.sent += b"".join(list_of_data)

    def is_closing(self) -> bool:
        """Not yet."""
        return False

    def close(self) -> None:
        """Nothing to close."""

    def pause_reading(self) -> None:
        """What is received is up to the test."""

    def resume_reading(self) -> None:
        """Likewise."""


def receive(protocol: SocketProtocol, stream: bytes) -> None:
    """Puts a stream where the protocol wants it, as much at a time as it has room for."""
    while stream:
        room = protocol.get_buffer(-1)
        size = min(len(room), len(stream))
        room[:size] = stream[:size]
        protocol.buffer_updated(size)
        stream = stream[size:]


async def test_the_rest_of_a_body_given_up_is_no_request(executor: ScriptedExecutor) -> None:
    """A body stops short until its time is over; what then comes of it is thrown away, and its sender told."""
    settings = Settings.model_validate({"body_seconds": 0.05})
    app = create_app(settings, executor=executor)
    config = _config(app, settings)
    config.load()
    content = call_body("msign", 100, 100)
    head = b"POST /v1/msign HTTP/1.1\r\nContent-Type: application/msgpack\r\nContent-Length: %d\r\n\r\n" % len(content)
    async with app.router.lifespan_context(app):
        await app.state.service.admission()
        executor.forget()
        protocol, outlet = SocketProtocol(config=config, server_state=ServerState(), app_state={}), Outlet()
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
