"""What a kept buffer would save a server: bodies read into new memory, against buffers that are kept by size.

Servers that read a body as the service does, and do nothing with it, in processes with the MALLOC_* settings of
`matfn serve`. One of them has a pool without any bookkeeping, which bounds what a real one could gain. CPU time, since
the machine is shared; every cell runs `ROUNDS` times, alternating with the others; median and range are printed.

    python benchmarks/bench_bodies.py > benchmarks/results/bodies.md
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from matfn._aligned import aligned
from matfn.endpoint import Endpoint
from matfn.errors import TransportError
from matfn.http1 import Request
from matfn.transport import SocketTransport
from matfn_service import body
from matfn_service.http_protocol import HttpProtocol
from matfn_service.serve import ENVIRONMENT
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 15
REQUESTS = {1 << 16: 500, 1 << 20: 100, 1 << 24: 10}
KINDS = ("new memory", "kept buffers")


class Pool:
    """Buffers of the sizes seen so far."""

    def __init__(self) -> None:
        self._kept: dict[int, list[memoryview]] = {}

    def take(self, length: int, offset: int = 0) -> memoryview:
        """A buffer of this length, used before if there is one."""
        kept = self._kept.get(length)
        return kept.pop() if kept else aligned(length, offset)

    def give(self, buffer: memoryview) -> None:
        """Takes a buffer back."""
        self._kept.setdefault(len(buffer), []).append(buffer)


def serve(path: str, kind: str) -> None:
    """Serves on a unix socket until the process is ended."""
    pool = Pool() if kind == KINDS[1] else None
    body.lent = aligned if pool is None else pool.take

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = int(dict(scope["headers"])[b"content-length"])
        content = await body.read(receive, length, length)
        if pool is not None:
            pool.give(content)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    uvicorn.run(app, uds=path, http=HttpProtocol, lifespan="off", access_log=False, log_level="warning")


class Server:
    """A server process of one kind and a connection to it."""

    def __init__(self, folder: str, kind: str) -> None:
        path = str(Path(folder) / kind.replace(" ", "-"))
        command = [sys.executable, __file__, path, kind]
        self.process = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT})  # noqa: S603 - our own command
        self.transport = SocketTransport(Endpoint.parse(f"unix://{path}"))
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                self.send(1, 1)
            except TransportError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return

    def send(self, size: int, requests: int) -> None:
        """Sends so many bodies of this size."""
        request = Request("POST", "/", (), (bytes(size),))
        for _ in range(requests):
            self.transport.send(request, 30.0)

    def cpu_ms(self) -> float:
        """CPU time of all threads so far."""
        spent = [path.read_text().split()[0] for path in Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")]
        return sum(map(int, spent)) / 1e6

    def close(self) -> None:
        """Ends the process."""
        self.transport.close()
        self.process.terminate()
        self.process.wait()


def measured(servers: dict[str, Server], size: int, requests: int) -> Iterator[tuple[str, float]]:
    """CPU ms a request of each server in turn."""
    for kind, server in servers.items():
        before = server.cpu_ms()
        server.send(size, requests)
        yield kind, (server.cpu_ms() - before) / requests


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(f"Server CPU ms a body over a unix socket; median (range) of {ROUNDS} alternating rounds\n")
    print(f"| body | {' | '.join(KINDS)} |\n|---|---|---|")
    with ExitStack() as stack:
        servers = {kind: Server(stack.enter_context(tempfile.TemporaryDirectory()), kind) for kind in KINDS}
        for server in servers.values():
            stack.callback(server.close)
        for size, requests in REQUESTS.items():
            found: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for _ in range(ROUNDS):
                for kind, spent in measured(servers, size, requests):
                    found[kind].append(spent)
            cells = [f"{statistics.median(ms):.3f} ({min(ms):.3f}..{max(ms):.3f})" for ms in found.values()]
            print(f"| {size // 1024} KiB | {' | '.join(cells)} |")


if __name__ == "__main__":
    serve(*sys.argv[1:]) if sys.argv[1:] else main()
