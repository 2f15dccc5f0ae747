"""Callers on bare sockets, who do what clients of the package do not: pipelines, half-closed and slow connections."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from ends import PATIENCE, End, Ended, ended
from matfn import call
from matfn.check import Case
from matfn.exchange import CallExchange, prepare
from matfn.http1 import Response

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedReader

__all__ = ["AT_ONCE", "Pace", "Service", "cut_short", "large_case", "read_at", "spoken"]

_TRIANGLE: Final = 64
_PIECE: Final = 1 << 20
_BUFFER: Final = 1 << 16  # of the system, for callers who read slowly
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER by which a close is a reset


@dataclass(frozen=True, slots=True)
class Service:
    """Where the service is, and a key that it takes."""

    address: tuple[str, int]
    key: str = ""

    @property
    def url(self) -> str:
        """The URL for clients."""
        host, port = self.address
        return f"http://{host}:{port}"

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(self.address, timeout=PATIENCE)


@dataclass(frozen=True, slots=True)
class Pace:
    """How an answer is read: so many bytes at a time, with a pause of so many seconds before each."""

    piece: int = _PIECE
    pause: float = 0.0


AT_ONCE: Final = Pace()


def spoken(service: Service, chosen: Sequence[Case], *, is_half_closed: bool = False) -> list[Ended]:
    """Sends requests on one connection without waiting for answers, and reads those to the connection's end.

    Args:
        service: whom.
        chosen: one case a request.
        is_half_closed: whether the sending side is closed at once.
    """
    began, ends, stage = time.monotonic(), list[Ended](), "connecting"
    try:
        with service.connect() as connection:
            stage = "sending"
            connection.sendall(b"".join(_request(service, case) for case in chosen))
            if is_half_closed:
                connection.shutdown(socket.SHUT_WR)
            stage = "reading"
            _hear(connection, chosen, ends)
    except TimeoutError:
        ends.append(Ended(End.HUNG, f"{stage} request {len(ends) + 1} of {len(chosen)} at {time.strftime('%X')}"))
    except OSError:
        pass
    ends += [Ended(End.CLOSED)] * (len(chosen) - len(ends))
    return [replace(one, seconds=time.monotonic() - began) for one in ends]


def _hear(connection: socket.socket, chosen: Sequence[Case], ends: list[Ended]) -> None:
    stream = connection.makefile("rb")
    for case in chosen:
        response = _response(stream)
        if response is None:
            return
        ends.append(_read(case, response))
    with suppress(ConnectionError):
        connection.shutdown(socket.SHUT_WR)
        if rest := stream.read():
            ends[-1] = Ended(End.WRONG, f"answered twice: {rest[:80]!r}")


def read_at(pace: Pace, service: Service, case: Case) -> Ended:
    """The end of a request whose answer is read at this pace."""
    began, end = time.monotonic(), Ended(End.CLOSED)
    try:
        with service.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            connection.sendall(_request(service, case))
            stream = cast("BufferedReader", connection.makefile("rb", buffering=_BUFFER))
            if response := _response(stream, pace):
                end = _read(case, response)
    except TimeoutError:
        end = Ended(End.HUNG, "no bytes of a large answer")
    except OSError:
        pass
    return replace(end, seconds=time.monotonic() - began)


def cut_short(service: Service, case: Case, share: float, *, is_reset: bool) -> None:
    """Sends a part of a request and hangs up, by a reset or in good order."""
    request = _request(service, case)
    with suppress(OSError), service.connect() as connection:
        connection.sendall(request[: int(share * len(request))])
        if is_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def large_case(megabytes: int, seed: int) -> Case:
    """A call whose body and answer have so many megabytes, and which is cheap to compute: half of what is sent."""
    items = (megabytes << 20) // (4 * _TRIANGLE**2)
    b = np.random.default_rng(seed).standard_normal((items, _TRIANGLE, _TRIANGLE), np.float32)
    halving = call.tri_solve(2 * np.eye(_TRIANGLE, dtype=np.float32), b)
    return Case("float32", halving, (b.astype(np.float64) / 2,), float(np.finfo(np.float32).eps))


def _request(service: Service, case: Case) -> bytes:
    request = CallExchange(prepare(case.invocation)).request(0.0)
    body = b"".join(request.body)
    headers = [*request.headers, ("Host", "checked"), ("Authorization", f"Bearer {service.key}")]
    lines = [f"POST {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _response(stream: BufferedReader, pace: Pace = AT_ONCE) -> Response | None:
    """The next response; None where the connection ends before its end."""
    status = stream.readline().split()
    if len(status) < 2:  # noqa: PLR2004 - the version and a number
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body, length = bytearray(), int(headers.get("content-length", 0))
    while len(body) < length:
        time.sleep(pace.pause)
        octets = stream.read(min(pace.piece, length - len(body)))
        if not octets:
            return None
        body += octets
    return Response(int(status[1]), headers, body)


def _read(case: Case, response: Response) -> Ended:
    exchange = CallExchange(prepare(case.invocation))
    return ended(case, lambda: exchange.read(response))
