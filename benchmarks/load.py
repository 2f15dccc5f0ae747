"""The load of every server benchmark: closed-loop callers on raw keep-alive connections, one event loop for all.

The client does as little as can be done: a request is one prepared buffer, and of an answer it reads the status line,
the Content-Length and the number of bytes. The first answer of each caller is compared with what that caller has to
get, byte for byte; of the others the length.

    python benchmarks/load.py < plan.json

reads a Plan as JSON from its standard input and prints a Measurement as JSON. It is a process of its own, so that a
server never shares its interpreter with its callers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import uvloop

__all__ = ["Load", "Measurement", "Request", "measure"]

_STATUS_OK: Final = b"HTTP/1.1 200"
_MARGIN: Final = 0.15  # of the measured time, before it and after it, with the same load


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller sends again and again, and what it must get.

    Attributes:
        content_type: of the body.
        body: the body.
        answer: bytes that every answer must hold; empty if any will do.
        offset: where in the body the numbers begin, which matfn's clients say.
    """

    content_type: str
    body: bytes
    answer: bytes = b""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Callers for some seconds at one address: each has a connection, and the requests go round among them.

    Attributes:
        address: host and port, or the path of a unix socket.
        path: the path of every request.
        requests: caller number i sends number i modulo their count.
        callers: how many there are.
        seconds: how long.
        key: their API key; empty where the server asks for none.
    """

    address: tuple[str, int] | str
    path: str
    requests: tuple[Request, ...]
    callers: int
    seconds: float
    key: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the callers saw; milliseconds."""

    rate: float
    p50: float
    p99: float
    errors: int


def measure(load: Load) -> Measurement:
    """What the callers of a load see, who live in a process of their own."""
    command = [sys.executable, str(Path(__file__))]
    done = subprocess.run(command, input=_dumped(load), capture_output=True, check=False, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Measurement(**json.loads(done.stdout))


def _dumped(load: Load) -> str:
    requests = [
        {**asdict(r), "body": b64encode(r.body).decode(), "answer": b64encode(r.answer).decode()} for r in load.requests
    ]
    return json.dumps({**asdict(load), "requests": requests})


def _loaded(text: str) -> Load:
    fields = json.loads(text)
    requests = tuple(
        Request(**{**r, "body": b64decode(r["body"]), "answer": b64decode(r["answer"])}) for r in fields.pop("requests")
    )
    address = fields.pop("address")
    return Load(address if isinstance(address, str) else (address[0], address[1]), requests=requests, **fields)


class _Caller(asyncio.Protocol):
    """Sends its request, waits for the answer, notes the time, and begins again until the end."""

    def __init__(self, head: bytes, request: Request, until: float, ended: asyncio.Future[None]) -> None:
        self._message = head + request.body
        self._answer = request.answer
        self._until = until
        self.ended = ended
        self._pieces: list[bytes] = []
        self._missing = 0
        self.seen: list[tuple[float, float]] = []
        self.errors = 0

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        """Sends the first request."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Counts what has come of the answer; the head is taken to come in one piece."""
        if not self._missing:
            head, _, rest = data.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if not head.startswith(_STATUS_OK) or not length:
                self.errors += 1
                self._stop()
                return
            self._missing = int(length)
            data = rest
        self._missing -= len(data)
        if self._answer:
            self._pieces.append(data)
        if not self._missing:
            self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        """An end that the caller did not ask for is an error."""
        del exc
        if not self.ended.done():
            self.errors += 1
            self.ended.set_result(None)

    def _take(self) -> None:
        now = time.perf_counter()
        self.seen.append((self._began, now))
        if self._answer:
            self.errors += self._answer not in b"".join(self._pieces)
            self._answer = b""  # once is enough: looking through every answer would be a load of its own
            self._pieces.clear()
        if now < self._until:
            self._send()
        else:
            self._stop()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._message)

    def _stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._transport.close()


async def _run(load: Load) -> Measurement:
    begins = time.perf_counter() + load.seconds * _MARGIN
    ends = begins + load.seconds
    callers = [await _connected(load, number, ends + load.seconds * _MARGIN) for number in range(load.callers)]
    async with asyncio.timeout(3 * load.seconds + 30):
        await asyncio.gather(*(caller.ended for caller in callers))
    seen = [call for caller in callers for call in caller.seen]
    times = sorted(1e3 * (end - start) for start, end in seen if begins <= start and end <= ends)
    errors = sum(caller.errors for caller in callers)
    if not times:
        return Measurement(0.0, 0.0, 0.0, errors)
    rate = sum(_share(call, begins, ends) for call in seen) / load.seconds
    return Measurement(rate, times[len(times) // 2], times[int(0.99 * len(times))], errors)


def _share(call: tuple[float, float], begins: float, ends: float) -> float:
    """How much of a call lies between two times; to count whole ones only would forget one a caller at the ends."""
    start, end = call
    return max(0.0, min(end, ends) - max(start, begins)) / (end - start)


async def _connected(load: Load, number: int, until: float) -> _Caller:
    loop = asyncio.get_running_loop()
    request = load.requests[number % len(load.requests)]
    lines = [
        f"POST {load.path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {request.content_type}",
        f"Content-Length: {len(request.body)}",
        *([f"X-Matfn-Offset: {request.offset}"] if request.offset else []),
        *([f"Authorization: Bearer {load.key}"] if load.key else []),
        "",
        "",
    ]
    caller = _Caller("\r\n".join(lines).encode(), request, until, loop.create_future())
    if isinstance(load.address, str):
        await loop.create_unix_connection(lambda: caller, load.address)
    else:
        await loop.create_connection(lambda: caller, *load.address)
    return caller


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_run(_loaded(sys.stdin.read()))))))
