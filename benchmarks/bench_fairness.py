"""Small calls of one key while another key floods the server, against the same calls on a quiet server.

One caller computes a root of order 8 again and again. The other key has all its callers wait for costly answers at all
times. Every flood is measured `ROUNDS` times, each time after the quiet server; the medians of the rounds are printed.

Two processes that compute at the workers' low priority and call nobody show what the machine alone does to a small call
when its cores are taken: the row "no flood, cores busy".

    python benchmarks/bench_fairness.py [FLOOD] > benchmarks/results/fairness.md
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgpack
import numpy as np

from load import Load, Measurement, Request, measure
from provenance import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROUNDS: Final = 3
SECONDS: Final = 6.0
_WORKERS: Final = 2
_KEYS: Final = "flood-secret name=flood\nsmall-secret name=small\n"
_SPIN: Final = "import os\nos.nice(10)\nprint(flush=True)\nwhile True: pass"
_MARGIN: Final = 1.6  # of the measured time: the flood lasts from before the small calls to behind them


@dataclass(frozen=True)
class Flood:
    """Requests that so many callers send all the time."""

    path: str
    body: Callable[[], bytes]
    callers: int


def _tensor(array: np.ndarray) -> dict[str, object]:
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": array.tobytes()}


def _call(name: str, array: np.ndarray, **params: object) -> bytes:
    packed: bytes = msgpack.packb({"inputs": {name: _tensor(array)}, "params": params, "options": {}})
    return packed


def _noise(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _positive(count: int, order: int) -> Any:
    g = _noise(count, order, 2 * order)
    return g @ g.swapaxes(-1, -2) / order


def _escalating(count: int, order: int) -> Any:
    """Positive definite matrices whose smallest eigenvalues fp32 and fp64 iterations cannot resolve."""
    q, _ = np.linalg.qr(_noise(count, order, order).astype(np.float64))
    a = (q * np.geomspace(1, 1e-15, order)) @ q.swapaxes(-1, -2)
    return ((a + a.swapaxes(-1, -2)) / 2).astype(np.float32)


def _many_calls(count: int) -> bytes:
    one = {"function": "inv_root", "inputs": {"a": _tensor(np.eye(4, dtype=np.float32))}, "params": {"r": 2}}
    packed: bytes = msgpack.packb({"calls": [one] * count})
    return packed


FLOODS: Final[Mapping[str, Flood]] = {
    "costly batches": Flood("/v1/inv_root", lambda: _call("a", _positive(64, 128), r=4), 8),
    "no fast method": Flood("/v1/mcsgn", lambda: _call("a", _noise(100, 32, 32)), 16),
    "escalating, order 4": Flood("/v1/inv_root", lambda: _call("a", _escalating(2000, 4), r=4), 8),
    "escalating, order 64": Flood("/v1/inv_root", lambda: _call("a", _escalating(64, 64), r=4), 8),
    "single matrices of order 1024": Flood("/v1/inv_root", lambda: _call("a", _positive(1, 1024), r=4), 4),
    "tiny calls": Flood("/v1/inv_root", lambda: _call("a", _positive(1, 4), r=2), 32),
    "requests of 1000 calls": Flood("/v1/calls", lambda: _many_calls(1000), 4),
}
_SMALL: Final = Flood("/v1/inv_root", lambda: _call("a", _positive(1, 8), r=2), 1)


def _load(flood: Flood, address: tuple[str, int], seconds: float, key: str) -> Load:
    request = Request("application/msgpack", flood.body())
    return Load(address, flood.path, (request,), flood.callers, seconds, key)


def _seen(address: tuple[str, int]) -> Measurement:
    seen = measure(_load(_SMALL, address, SECONDS, "small-secret"))
    if seen.errors:
        raise RuntimeError("a small call was refused")
    return seen


@contextmanager
def _flooded(address: tuple[str, int], flood: Flood) -> Iterator[list[Measurement]]:
    """The flood, for as long as small calls are measured within the block; then what its callers saw."""
    found: list[Measurement] = []
    load = _load(flood, address, SECONDS * _MARGIN, "flood-secret")
    thread = threading.Thread(target=lambda: found.append(measure(load)))
    thread.start()
    try:
        yield found
    finally:
        thread.join()


@contextmanager
def _busy_cores() -> Iterator[None]:
    """As many processes as there are workers, each computing at the workers' priority."""
    with ExitStack() as ends:
        for _ in range(_WORKERS):
            process = subprocess.Popen([sys.executable, "-c", _SPIN], stdout=subprocess.PIPE)  # noqa: S603
            ends.callback(process.communicate)
            ends.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
        yield


def _row(name: str, quiet: list[Measurement], flooded: list[Measurement], rates: list[float]) -> str:
    seen = [
        (one.p50, one.p99, other.p50, other.p99, other.p99 / one.p99) for one, other in zip(quiet, flooded, strict=True)
    ]
    *times, ratios = zip(*seen, strict=True)
    cells = [name, *(f"{statistics.median(column):.2f}" for column in times)]
    cells += [f"{statistics.median(ratios):.1f} ({min(ratios):.1f}..{max(ratios):.1f})"]
    return f"| {' | '.join([*cells, f'{statistics.median(rates):.3g}' if rates else '-'])} |"


def _busy_row(address: tuple[str, int]) -> str:
    quiet, busy = [], []
    for _ in range(ROUNDS):
        quiet.append(_seen(address))
        with _busy_cores():
            busy.append(_seen(address))
    return _row("no flood, cores busy", quiet, busy, [])


def _flood_row(name: str, address: tuple[str, int], flood: Flood) -> str:
    quiet, flooded, rates = [], [], []
    for _ in range(ROUNDS):
        quiet.append(_seen(address))
        with _flooded(address, flood) as found:
            flooded.append(_seen(address))
        rates += [seen.rate for seen in found]
        if found[0].errors:
            raise RuntimeError(f"{name}: {found[0].errors} refused")
    return _row(name, quiet, flooded, rates)


def main() -> None:
    """Prints the table."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{provenance()}\n")
    print(f"Milliseconds of a root of order 8, {_WORKERS} workers; median (range) of {ROUNDS} rounds.\n")
    names = ("flood", "quiet p50", "quiet p99", "p50", "p99", "p99 over quiet", "the flood's requests a second")
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(_KEYS)
        with running_server(api_keys_file=str(keys), workers=str(_WORKERS)) as server:
            if not wanted:
                print(_busy_row(server.address), flush=True)
            for name, flood in FLOODS.items():
                if wanted in name:
                    print(_flood_row(name, server.address, flood), flush=True)


if __name__ == "__main__":
    main()
