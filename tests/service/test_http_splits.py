"""However the bytes of requests are cut into packets, their verdicts are the same."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from matfn_service.app import create_app
from matfn_service.server import http_config
from matfn_service.settings import Settings
from matfn_service.socket_protocol import SocketProtocol
from outlet import Outlet, receive
from scripted import ScriptedExecutor, until

if TYPE_CHECKING:
    from collections.abc import Sequence

BODY: Final = b'{"inputs": {"m": [[1, 2], [3, 4]]}}'
KEYLESS: Final = b"POST /v1/msign HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n"
POST: Final = KEYLESS + b"Authorization: Bearer secret\r\n"
UPGRADE: Final = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
LENGTH: Final = b"Content-Length: 35\r\n\r\n" + BODY
CHUNKS: Final = b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + BODY[:5] + b"\r\n1e;x=y\r\n" + BODY[5:] + b"\r\n0\r\n"
PLAIN: Final = POST + LENGTH
HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: m\r\n\r\n"

STREAMS: Final[dict[str, tuple[bytes, list[int]]]] = {
    "plain": (PLAIN, [200]),
    "pipelined": (PLAIN + HEALTH + PLAIN, [200, 200, 200]),
    "upgrade": (POST + UPGRADE + LENGTH + PLAIN, [200, 200]),
    "upgrade with chunks": (POST + UPGRADE + CHUNKS + b"\r\n" + PLAIN, [200, 200]),
    "second upgrade": (PLAIN + HEALTH[:-2] + UPGRADE + b"\r\n" + PLAIN, [200, 200, 200]),
    "trailers": (POST + CHUNKS + b"Authorization: Bearer wrong\r\nX: y\r\n\r\n" + HEALTH, [200, 200]),
    "key in a trailer": (KEYLESS + CHUNKS + b"Authorization: Bearer secret\r\n\r\n", [401]),
    "two keys": (POST + b"Authorization: Bearer secret\r\n" + LENGTH, [400]),
    "no host": (HEALTH + PLAIN.replace(b"Host: m\r\n", b""), [200, 400]),
    "two codings": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", [501]),
    "long length": (POST + b"Content-Length: 1000000000000000000\r\n\r\n", [413]),
    "longer length": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", [413]),
    "two framings": (POST + b"Transfer-Encoding: chunked\r\n" + LENGTH, [400]),
    "connect": (b"CONNECT m:99999 HTTP/1.1\r\nHost: m\r\n\r\n", [400]),
    "port": (b"GET http://m:65536/healthz HTTP/1.1\r\nHost: m\r\n\r\n", [400]),
    "nonsense behind": (PLAIN + PLAIN + b"nonsense\r\n\r\n", [200, 200, 400]),
    "bad chunk": (PLAIN + POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [200, 400]),
    "no carriage returns": (HEALTH.replace(b"\r", b""), [400]),
    "later minor": (PLAIN.replace(b"1.1", b"1.9") + HEALTH, [200, 200]),
    "other major": (HEALTH + PLAIN.replace(b"1.1", b"2.0"), [200, 505]),
    "preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [505]),
    "no version": (b"GET /healthz\r\n\r\n", [505]),
    "empty lines": (b"\r\n\r\n" + HEALTH + b"\r\n" + HEALTH, [200, 200]),
}


class Wire(Outlet):
    """A connection that ends when either side says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keeps it, while the connection is open."""
        if not self.is_closed:
            super().write(data)

    def writelines(self, list_of_data: Sequence[bytes | bytearray | memoryview]) -> None:  # type: ignore[override]
        """Keeps them, while the connection is open."""
        if not self.is_closed:
            super().writelines(list_of_data)

    def can_write_eof(self) -> bool:
        """It can be closed one side at a time."""
        return True

    def write_eof(self) -> None:
        """Nothing more is sent."""
        self.is_closed = True

    def close(self) -> None:
        """Nothing more is sent."""
        self.is_closed = True

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.is_closed


async def verdicts(stream: bytes, cuts: Sequence[int], expected: int) -> list[int]:
    """The statuses of the answers to a stream that is cut into packets there."""
    config_of = Settings.model_validate({"api_keys": "secret"})
    app = create_app(config_of, executor=ScriptedExecutor())
    config = http_config(app, config_of, connections=1)
    config.load()
    async with app.router.lifespan_context(app):
        await app.state.service.admission()
        protocol = SocketProtocol(config=config, server_state=ServerState(), app_state={}, most_connections=1)
        wire = Wire()
        protocol.connection_made(wire)
        bounds = [0, *sorted(cut % len(stream) for cut in cuts), len(stream)]
        for start, stop in pairwise(bounds):
            receive(protocol, stream[start:stop])
            await asyncio.sleep(0)
        await until(lambda: len(statuses(wire.sent)) >= expected)
        protocol.connection_lost(None)
    return statuses(wire.sent)


def statuses(sent: bytes) -> list[int]:
    """The statuses in what was sent, where each answer is whole."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", sent)]


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_cuts_change_no_verdict(name: str, cuts: list[int]) -> None:
    """A stream has the same answers in one packet and in any others."""
    stream, expected = STREAMS[name]

    assert asyncio.run(verdicts(stream, cuts, len(expected))) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_single_bytes_change_no_verdict(name: str) -> None:
    """A stream has the same answers byte by byte."""
    stream, expected = STREAMS[name]

    assert asyncio.run(verdicts(stream, range(len(stream)), len(expected))) == expected
