"""From one device to a thousand, on paper: batches, latencies, bytes, and what breaks first.

A simulation, not a measurement. Its inputs are measured: the device's speeds, a batch's launch and a router's look at a
replica by `--measure` on this machine, the event loop's cost by bench_server.py and bench_bodies.py (results/server.md
and bodies.md). From them `traffic.py` prices the calls, `fleet.py` plays them and `ceilings.py` divides.

    .venv-bench/bin/python benchmarks/scaling.py [--measure] [--calls 60000]

writes benchmarks/results/scaling.md and scaling.png; --measure first writes scaling_inputs.json anew. The simulation is
seeded: the same inputs give the same figures.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

from ceilings import PROXY_DEVICES, ceilings, demand
from fleet import Fleet, by_key, shorter_of_two, simulate, uniform
from matfn_kernels import Limits, Profile, batch_of, evaluate, make_plan, measure, parse_call
from matfn_service.affinity import preferred
from matfn_service.queue import Limit
from provenance import provenance
from traffic import Sort, seconds_a_call, sorts, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleet import Policy

_RESULTS: Final = Path(__file__).parent / "results"
_INPUTS: Final = _RESULTS / "scaling_inputs.json"
_SIZES: Final = (1, 10, 100, 1000)
_LOAD: Final = 0.6
_WARM: Final = 0.1  # of the time, not counted
_CALLS_A_DEVICE: Final = 1000
_SEED: Final = 0
_MIB: Final = 2**20
_LOOP_BYTE: Final = (0.191e-3 - 0.053e-3) / (960 * 2**10)  # bodies.md: 64 KiB and 1 MiB in kept buffers
_LOOP_CALL: Final = 0.98 / 2414 - 0.5 * _MIB * _LOOP_BYTE  # an earlier server.md: 32 callers, 256 KiB each way
_FRONTED: Final = 0.76  # fronts.md, calls of 8 matrices: the part of a call's time that its server keeps behind a front
_SPEEDS: Final = (1, 10, 100)
_LOOP: Final = "one event loop"
_SLACK: Final = 1.25  # of ray_router.py
_POLICIES: Final[Mapping[str, Policy]] = {
    "random": uniform,
    "shorter of two": shorter_of_two,
    f"by key, slack {_SLACK}": by_key(_SLACK),
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was measured, and where: the profile, a launch's seconds, and a router's seconds to look at one replica."""

    machine: str
    profile: Profile
    launch: float
    look: float


@dataclass(frozen=True, slots=True)
class Point:
    """One simulated fleet: what the table and the plot show of it."""

    traffic: str
    policy: str
    devices: int
    calls: float
    fill: float
    quantiles: tuple[float, float, float]
    device: float
    busiest: float
    loop: float


def _measured() -> Inputs:
    torch.set_num_threads(1)
    profile = measure()
    call = parse_call("inv_root", {"a": torch.eye(16)[None]}, {"r": 4}, {}, Limits())
    plan, batch = make_plan(call, profile), batch_of(call)
    launch = min(_timed(lambda: evaluate(plan.program, batch, plan.backends)) for _ in range(50)) - plan.seconds
    queues = {str(number): 1 for number in range(1000)}
    look = min(_timed(lambda: preferred(queues, {}, _SLACK)) for _ in range(20)) / len(queues)
    return Inputs(_machine(), profile, launch, look)


def _machine() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _write(inputs: Inputs) -> None:
    profile = {"device": inputs.profile.device, "seconds": inputs.profile.seconds}
    document = {
        "machine": inputs.machine,
        "calibration": profile,
        "launch": inputs.launch,
        "look": inputs.look,
    }
    _INPUTS.write_text(json.dumps(document, indent=1) + "\n")


def _read() -> Inputs:
    document = json.loads(_INPUTS.read_text())
    profile = document["calibration"]
    rows = tuple((str(o), str(p), int(n), float(s)) for o, p, n, s in profile["seconds"])
    return Inputs(document["machine"], Profile(profile["device"], rows), document["launch"], document["look"])


def _fleet(devices: int, inputs: Inputs) -> Fleet:
    return Fleet(
        replicas=devices,
        routers=-(-devices // PROXY_DEVICES),
        launch=inputs.launch,
        limit=Limit(seconds=0.1, bytes=256 * _MIB),
        loop_call=_LOOP_CALL,
        loop_byte=_LOOP_BYTE,
        hop=1e-4,
        byte=8 / 25e9,
    )


def _point(name: str, uses: tuple[Sort, ...], policy: str, fleet: Fleet, calls: int) -> Point:
    rate = _LOAD / seconds_a_call(uses) * fleet.replicas
    seconds = max(calls, _CALLS_A_DEVICE * fleet.replicas) / rate
    sent = trace(uses, rate, seconds, _SEED)
    found = simulate(sent, fleet, _POLICIES[policy], _SEED)
    counted = sent.times >= _WARM * seconds
    batches = found.batches[found.batches[:, 0] >= _WARM * seconds]
    waits = (found.finished - sent.times)[counted]
    low, middle, high = np.quantile(waits, (0.5, 0.99, 0.999)).tolist()
    return Point(
        traffic=name,
        policy=policy,
        devices=fleet.replicas,
        calls=float(batches[:, 1].mean()),
        fill=float(batches[:, 3].mean()) / fleet.limit.seconds,
        quantiles=(low, middle, high),
        device=float(found.device_seconds.mean()) / seconds,
        busiest=float(found.device_seconds.max()) / seconds,
        loop=float(found.loop_seconds.max()) / seconds,
    )


def _rows(points: Sequence[Point]) -> list[str]:
    lines = [
        "| devices | router | calls a batch | fill | p50 ms | p99 ms | p99.9 ms | device | busiest | busiest loop |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for point in points:
        waits = " | ".join(f"{1e3 * wait:.3g}" for wait in point.quantiles)
        shares = " | ".join(f"{share:.2f}" for share in (point.device, point.busiest, point.loop))
        head = f"| {point.devices} | {point.policy} | {point.calls:.2f} | {point.fill:.3f}"
        lines.append(f"{head} | {waits} | {shares} |")
    return lines


def _kinds(uses: tuple[Sort, ...]) -> list[str]:
    lines = ["| use | share of calls | ms a call | longest ms | received KiB | sent KiB |", "|---|---|---|---|---|---|"]
    for use in uses:
        mean = {
            name: float(use.chances @ [getattr(kind, name) for kind in use.kinds])
            for name in ("seconds", "received", "sent")
        }
        longest = max(kind.seconds for kind in use.kinds)
        times = f"{1e3 * mean['seconds']:.3g} | {1e3 * longest:.3g}"
        lines.append(
            f"| {use.name} | {use.share:.2f} | {times} | {mean['received'] / 1024:.0f} | {mean['sent'] / 1024:.0f} |"
        )
    return lines


def _ceilings(uses: tuple[Sort, ...], inputs: Inputs) -> list[str]:
    """Devices that each resource can feed, for this machine's core and for made-up faster devices."""
    fleet = _fleet(1, inputs)
    wanted = [demand(uses, speed * _LOAD / seconds_a_call(uses), fleet) for speed in _SPEEDS]
    columns = [_with_fronts(ceilings(one, _LOAD, fleet, inputs.look)) for one in wanted]
    heads = " | ".join("this core" if speed == 1 else f"{speed} times as fast" for speed in _SPEEDS)
    lines = [f"| full at so many devices | {heads} |", f"|---|{'---|' * len(_SPEEDS)}"]
    lines += [f"| {name} | {' | '.join(f'{column[name]:.3g}' for column in columns)} |" for name in columns[0]]
    figures = {
        "calls/s a device": [one.rate for one in wanted],
        "MB/s received a device": [one.received / 1e6 for one in wanted],
        "MB/s sent a device": [one.sent / 1e6 for one in wanted],
        "GB/s received by 1,000": [one.received / 1e6 for one in wanted],
        "event loop, cores a device": [one.loop for one in wanted],
    }
    return [*lines, *(f"| {name} | {' | '.join(f'{value:.3g}' for value in row)} |" for name, row in figures.items())]


def _with_fronts(found: Mapping[str, float]) -> dict[str, float]:
    """The ceilings with that of an event loop behind fronts, after the one that does everything itself."""
    rows = {}
    for name, devices in found.items():
        rows[name] = devices
        if name == _LOOP:
            rows[f"{_LOOP} behind fronts"] = devices / _FRONTED
    return rows


def _plot(points: Sequence[Point]) -> None:
    mpl.use("Agg")
    names = list(dict.fromkeys(point.traffic for point in points))
    figure, axes = plt.subplots(2, len(names), figsize=(10, 7), sharex=True, squeeze=False)
    for column, name in enumerate(names):
        for policy in _POLICIES:
            chosen = [point for point in points if (point.traffic, point.policy) == (name, policy)]
            sizes = [point.devices for point in chosen]
            axes[0, column].plot(sizes, [point.calls for point in chosen], marker="o", label=policy)
            axes[1, column].plot(sizes, [1e3 * point.quantiles[1] for point in chosen], marker="o", label=policy)
        axes[0, column].set_title(name)
        axes[1, column].set_xlabel("devices, each a core")
        for row in (0, 1):
            axes[row, column].set_ylim(bottom=0)
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_ylabel("calls a batch")
    axes[1, 0].set_ylabel("p99 ms")
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(f"simulated, {_LOAD:.0%} of every device's time asked for")
    figure.tight_layout()
    figure.savefig(_RESULTS / "scaling.png", dpi=120)


def _head(inputs: Inputs) -> str:
    return (
        f"{provenance('a simulation')}\n\n"
        f"Simulated, not measured. Seed {_SEED}; devices are cores of {inputs.machine}, {_LOAD:.0%} of their"
        f" time asked for without launches; a launch takes {1e3 * inputs.launch:.2f} ms, the event loop"
        f" {1e3 * _LOOP_CALL:.2f} ms a call and {1e3 * _LOOP_BYTE * _MIB:.2f} ms a MiB, a router"
        f" {1e6 * inputs.look:.2f} us a replica."
    )


def main() -> None:
    """Simulates and writes the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--calls", type=int, default=60_000)
    asked = parser.parse_args()
    if asked.measure:
        _write(_measured())
    inputs = _read()
    mixed = sorts(inputs.profile)
    traffics = {"mixed": mixed, "EEG alone": (replace(mixed[-1], share=1.0),)}
    parts = [[_head(inputs)]]
    points: list[Point] = []
    for name, uses in traffics.items():
        for devices in _SIZES:
            fleet = _fleet(devices, inputs)
            points += [_point(name, uses, policy, fleet, asked.calls) for policy in _POLICIES]
            print("\n".join(_rows(points[-len(_POLICIES) :])), file=sys.stderr, flush=True)
        own = [point for point in points if point.traffic == name]
        parts += [[f"## {name}"], _kinds(uses), _ceilings(uses, inputs), _rows(own)]
    (_RESULTS / "scaling.md").write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
    _plot(points)


if __name__ == "__main__":
    main()
