"""The servers that are compared: how each is started, watched and spoken to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgpack
import numpy as np

from load import Load, Request, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["CONTENDERS", "Contender", "Server", "matrix", "running"]

_FOLDER: Final = Path(__file__).parent / "servers"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MATFN_LOG_LEVEL": "error",
    "PYTHONWARNINGS": "ignore",
}
_KEPT_PAGES: Final = {  # what `matfn serve` sets for itself
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**27),
}
_FOR_STAND_IN: Final = {
    # the planner predicts another machine's times: they must not cut the stand-in's batches
    "MATFN_BATCH_SECONDS": "1e3",
    "MATFN_QUEUE_SECONDS": "1e6",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """One kind of server.

    Attributes:
        name: its name in tables.
        script: the program that starts it, in `servers/`.
        path: of its route.
        request: the request for a matrix or batch, in the wire format that the server is best at.
        environment: what it is started with beside what all are.
    """

    name: str
    script: str
    path: str
    request: Callable[[np.ndarray], Request]
    environment: Mapping[str, str] = field(default_factory=dict)


def _to_matfn(x: np.ndarray) -> Request:
    tensor = {"dtype": "float32", "shape": x.shape, "data": x.tobytes()}
    body = msgpack.packb({"inputs": {"m": tensor}, "params": {}, "options": {}})
    return Request("application/msgpack", body, x.tobytes(), body.index(x.tobytes()))


def _to_mosec(x: np.ndarray) -> Request:
    return Request("application/msgpack", msgpack.packb({"shape": x.shape, "data": x.tobytes()}), x.tobytes())


def _as_octets(x: np.ndarray) -> Request:
    return Request("application/octet-stream", x.tobytes(), x.tobytes())


CONTENDERS: Final = (
    Contender("matfn", "matfn_server.py", "/v1/msign", _to_matfn, _KEPT_PAGES),
    Contender("mosec", "mosec_server.py", "/inference", _to_mosec),
    Contender("mosec with matfn's malloc settings", "mosec_server.py", "/inference", _to_mosec, _KEPT_PAGES),
    Contender("LitServe", "litserve_server.py", "/predict", _as_octets),
    Contender("FastAPI thread pool", "fastapi_server.py", "/compute", _as_octets),
)


def matrix(*shape: int, seed: int) -> np.ndarray:
    """Normally distributed numbers; each caller has its own."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    address: tuple[str, int] | str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time of the process and of all its living descendants."""
        return sum(_cpu_seconds(pid) for pid in _family(self.pid))


@contextmanager
def running(contender: Contender, workload: str, uds: Path | None = None, **environment: str) -> Iterator[Server]:
    """A server with this workload, which has answered one call; its whole family is gone afterwards."""
    stand_in = _FOR_STAND_IN if workload == "stand_in" else {}
    environment = {**os.environ, **_ENVIRONMENT, **contender.environment, **stand_in, **environment}
    port = _free_port()
    place, address = (str(port), ("127.0.0.1", port)) if uds is None else (str(uds), str(uds))
    command = [sys.executable, str(_FOLDER / contender.script), place, workload]
    process = subprocess.Popen(  # noqa: S603
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        _wait_until_answering(contender, address, process)
        yield Server(address, process.pid)
    finally:
        _end(process)


def _wait_until_answering(contender: Contender, address: tuple[str, int] | str, process: subprocess.Popen) -> None:
    request = contender.request(matrix(8, 8, seed=0))
    unchecked = replace(request, answer=b"")
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if _accepts(address) and measure(Load(address, contender.path, (unchecked,), 1, 0.05)).errors == 0:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{contender.name} did not start")


def _accepts(address: tuple[str, int] | str) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(address) == 0


def _end(process: subprocess.Popen) -> None:
    family = _family(process.pid)
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in family[1:]:  # a worker may outlive its parent
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = [
        int(child) for listed in Path(f"/proc/{pid}/task").glob("*/children") for child in listed.read_text().split()
    ]
    return [pid, *(member for child in children for member in _family(child))]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
