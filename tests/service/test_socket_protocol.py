"""What is received of a body whose reader has given it up belongs to it all the same."""

from __future__ import annotations

import pytest
from uvicorn.server import ServerState

from matfn_service.app import create_app
from matfn_service.server import _config
from matfn_service.settings import Settings
from matfn_service.socket_protocol import SocketProtocol
from outlet import Outlet, receive
from scripted import ScriptedExecutor, call_body, until

pytestmark = pytest.mark.anyio


async def test_the_rest_of_a_body_given_up_is_no_request(executor: ScriptedExecutor) -> None:
    """A body stops short until its time is over; what then comes of it is thrown away, and its sender told."""
    settings = Settings.model_validate({"body_seconds": 0.05})
    app = create_app(settings, executor=executor)
    config = _config(app, settings, connections=1)
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
