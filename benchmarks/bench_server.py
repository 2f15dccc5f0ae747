"""Dynamic batching against its peers: the same device, the same callers, each server with the wire it is best at.

First the stand-in device: 2 ms a launch and 0.05 ms a matrix, one launch at a time, 256 KiB each way. It measures what
a server adds to a device. Then real polar factors on this machine's cores, against what the cores do without a server.

Every round starts every server anew, in another order; the table has the median of the rounds and their range.

    python -m venv .venv-bench && .venv-bench/bin/pip install -c constraints.txt -e '.[bench]'
    .venv-bench/bin/python benchmarks/bench_server.py [--rounds 5] [--seconds 3]

writes benchmarks/results/server.md and server.png. The five rounds take about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

import matplotlib as mpl
import matplotlib.pyplot as plt

from contenders import CONTENDERS, Contender, Server, matrix, running
from load import Load, Measurement, Request, measure
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

_FOLDER: Final = Path(__file__).parent
_RESULTS: Final = _FOLDER / "results"
_CALLERS: Final = (1, 8, 32)
_CROWD: Final = 32
_ORDER, _SMALL, _OTHER = 256, 64, 96
_MANY: Final = 1000
_DEVICE_MS: Final = 2.05
_MATFN, _MOSEC, _TUNED = CONTENDERS[:3]

Found = dict[tuple[object, ...], list[float]]
"""Figures of all rounds, by what they are of."""


def _round(number: int, seconds: float, found: Found) -> None:
    """Measures everything once."""
    turn = number % len(CONTENDERS)
    for contender in (*CONTENDERS[turn:], *CONTENDERS[:turn]):
        _on_stand_in(contender, seconds, found)
    _two_shapes(seconds, found)
    real: list[Callable[[float, Found], None]] = [_real, _real_mosec, _one_large_request]
    for part in (*real[number % 3 :], *real[: number % 3]):
        part(seconds, found)


def _on_stand_in(contender: Contender, seconds: float, found: Found) -> None:
    with running(contender, "stand_in") as server:
        for callers in _CALLERS:
            requests = tuple(contender.request(matrix(_ORDER, _ORDER, seed=seed)) for seed in range(callers))
            _note(
                found,
                (contender.name, callers),
                server,
                Load(server.address, contender.path, requests, callers, seconds),
            )


def _note(found: Found, key: tuple[object, ...], server: Server, load: Load) -> Measurement:
    """Measures a load and keeps rate, latencies and the server's processor time."""
    before, began = server.cpu_seconds(), time.perf_counter()
    seen = measure(load)
    cores = (server.cpu_seconds() - before) / (time.perf_counter() - began)
    if seen.errors:
        raise RuntimeError(f"{key}: {seen.errors} wrong answers")
    for name, value in [("rate", seen.rate), ("p50", seen.p50), ("p99", seen.p99), ("cores", cores)]:
        found[(*key, name)].append(value)
    return seen


def _two_shapes(seconds: float, found: Found) -> None:
    with running(_MATFN, "stand_in") as server:
        for orders in [(_SMALL,), (_OTHER,), (_SMALL, _OTHER)]:
            requests = tuple(_MATFN.request(matrix(n, n, seed=seed)) for seed in range(16) for n in orders)
            _note(found, ("shapes", orders), server, Load(server.address, _MATFN.path, requests, _CROWD, seconds))
    alone = [found["shapes", (order,), "rate"][-1] for order in (_SMALL, _OTHER)]
    both = found["shapes", (_SMALL, _OTHER), "rate"][-1]
    found["shapes", "ratio"].append(both / statistics.harmonic_mean(alone))


def _real(seconds: float, found: Found) -> None:
    """Certified polar factors at both orders, and what the cores do in batches of the same size."""
    for order in (_ORDER, _SMALL):
        with running(_MATFN, "msign") as server:
            requests = tuple(_unchecked(_MATFN, matrix(order, order, seed=seed)) for seed in range(_CROWD))
            load = Load(server.address, _MATFN.path, requests, _CROWD, seconds)
            rate = _note(found, ("matfn", "msign", order), server, load).rate
            size = _mean_batch(server)
        found["bound", order].append(_bound(order, size, seconds))
        found["batch", order].append(size)
        found["share", order].append(rate / found["bound", order][-1])


def _real_mosec(seconds: float, found: Found) -> None:
    for workload in ("msign", "bmm"):
        with running(_TUNED, workload) as server:
            requests = tuple(_unchecked(_TUNED, matrix(_SMALL, _SMALL, seed=seed)) for seed in range(_CROWD))
            load = Load(server.address, _TUNED.path, requests, _CROWD, seconds)
            _note(found, ("mosec", workload, _SMALL), server, load)


def _one_large_request(seconds: float, found: Found) -> None:
    with tempfile.TemporaryDirectory() as folder, running(_MATFN, "msign", Path(folder) / "matfn.sock") as server:
        requests = (_unchecked(_MATFN, matrix(_MANY, _SMALL, _SMALL, seed=0)),)
        seen = _note(found, ("large",), server, Load(server.address, _MATFN.path, requests, 1, seconds))
    found["large", "bound"].append(_bound(_SMALL, _MANY // _cores(), seconds))
    found["large", "share"].append(_MANY * seen.rate / found["large", "bound"][-1])


def _unchecked(contender: Contender, x: object) -> Request:
    """A request whose answer is not the input."""
    return replace(contender.request(x), answer=b"")


def _bound(order: int, size: int, seconds: float) -> float:
    command = [sys.executable, str(_FOLDER / "servers" / "bound.py"), str(order), str(size), str(seconds)]
    environment = {**os.environ, **_MATFN.environment, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def _mean_batch(server: Server) -> int:
    assert isinstance(server.address, tuple)
    host, port = server.address
    with urlopen(f"http://{host}:{port}/v1/status") as answer:
        batches = json.load(answer)["batches"]
    return max(1, round(batches["by_function"]["msign"]["matrices"] / batches["by_function"]["msign"]["batches"]))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _spread(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def _table(found: Found) -> list[str]:
    """The stand-in device's table."""
    lines = ["| server | callers | requests/s | p50 ms | p99 ms | cores |", "|---|---|---|---|---|---|"]
    for contender in CONTENDERS:
        for callers in _CALLERS:
            digits = {"rate": 0, "p50": 2, "p99": 1, "cores": 2}
            cells = [_spread(found[contender.name, callers, name], places) for name, places in digits.items()]
            lines.append(f"| {contender.name} | {callers} | {' | '.join(cells)} |")
    return lines


def _claims(found: Found) -> list[str]:
    """What is claimed of matfn, and what was found."""
    ours, small = found[_MATFN.name, _CROWD, "rate"], found["matfn", "msign", _SMALL, "rate"]
    certified, bare = (found["mosec", work, _SMALL, "rate"] for work in ("msign", "bmm"))
    rows = [
        *(
            (f"throughput at 32 callers over {peer.name}", _ratios(ours, found[peer.name, _CROWD, "rate"]), "2")
            for peer in (_MOSEC, _TUNED)
        ),
        ("ms that one caller waits beyond the device's", [p50 - _DEVICE_MS for p50 in _alone(found)], "at most 1.2"),
        ("throughput of two interleaved shapes over one", found["shapes", "ratio"], "0.95"),
        ("real, order 256: share of the cores' own rate", found["share", _ORDER], "0.85"),
        ("real, order 64: over mosec with the same certified evaluation", _ratios(small, certified), "1"),
        ("real, order 64: over mosec with five bare bmm steps", _ratios(small, bare), "1"),
        ("real, 1000 of order 64 in one request: share of the cores' own rate", found["large", "share"], "0.80"),
    ]
    lines = [f"| {claim} | {_spread(values, 2)} | {wanted} |" for claim, values, wanted in rows]
    return ["| claim | median (range) | wanted |", "|---|---|---|", *lines]


def _alone(found: Found) -> list[float]:
    """The median latency of one caller, round by round."""
    return found[_MATFN.name, 1, "p50"]


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _bounds(found: Found) -> list[str]:
    """The real figures behind the shares."""
    lines = ["| real msign | requests/s | bound, matrices/s | batch |", "|---|---|---|---|"]
    for order in (_ORDER, _SMALL):
        rate, bound = found["matfn", "msign", order, "rate"], found["bound", order]
        batch = found["batch", order]
        lines.append(f"| 32 callers, order {order} | {_spread(rate)} | {_spread(bound)} | {_spread(batch)} |")
    rate, bound = found["large", "rate"], found["large", "bound"]
    return [*lines, f"| {_MANY} of order {_SMALL} in one | {_spread(rate, 1)} | {_spread(bound)} | {_MANY} |"]


def _plot(found: Found) -> None:
    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(8, 4.5))
    width = 0.8 / len(CONTENDERS)
    for number, contender in enumerate(CONTENDERS):
        rates = [found[contender.name, callers, "rate"] for callers in _CALLERS]
        middle = [statistics.median(rate) for rate in rates]
        below = [m - min(rate) for m, rate in zip(middle, rates, strict=True)]
        above = [max(rate) - m for m, rate in zip(middle, rates, strict=True)]
        places = [place + (number - (len(CONTENDERS) - 1) / 2) * width for place in range(len(_CALLERS))]
        axes.bar(places, middle, width, yerr=[below, above], capsize=2, label=contender.name)
    axes.set_xticks(range(len(_CALLERS)), [str(callers) for callers in _CALLERS])
    axes.set_xlabel("closed-loop callers")
    axes.set_ylabel("requests/s, 256 KiB each way")
    axes.set_title("2 ms a launch + 0.05 ms a matrix; median and range of the rounds")
    axes.legend()
    figure.tight_layout()
    figure.savefig(_RESULTS / "server.png", dpi=150)


def _machine(rounds: int, seconds: float) -> str:
    return f"{provenance()}\n\nServers and callers on the same machine, {rounds} rounds of {seconds:g} s."


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    found: Found = defaultdict(list)
    for number in range(asked.rounds):
        print(f"round {number + 1} of {asked.rounds}", file=sys.stderr)
        _round(number, asked.seconds, found)
    parts = [[_machine(asked.rounds, asked.seconds)], _claims(found), _table(found), _bounds(found)]
    text = "\n\n".join("\n".join(part) for part in parts) + "\n"
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "server.md").write_text(text)
    _plot(found)
    print(text)


if __name__ == "__main__":
    main()
