"""From one device to a thousand, on paper: batches, latencies, bytes, and what breaks first.

A simulation, not a measurement. Its inputs are measured by `--measure` on this machine: the device's speeds, a batch's
launch, a router's look at a replica, and what the event loops of a server and of its fronts take (bench_fronts.py).
From them `traffic.py` prices the calls, `fleet.py` plays them and `ceilings.py` divides.

    .venv-bench/bin/python benchmarks/scaling.py [--measure] [--calls 60000]

writes benchmarks/results/scaling.md and scaling.png; --measure first writes scaling_inputs.json anew. The simulation is
seeded: the same inputs give the same figures.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

from bench_fronts import ALONE, FRONT, SHAPES, rounds_of_all
from ceilings import PROXY_DEVICES, ceilings, demand
from fleet import Fleet, Loop, by_key, shorter_of_two, simulate, uniform
from matfn_kernels import Limits, Profile, batch_of, evaluate, make_plan, measure, parse_call
from matfn_service.affinity import preferred
from matfn_service.queue import Limit
from provenance import provenance
from traffic import Sort, seconds_a_call, sorts, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceilings import Demand
    from fleet import Policy

_RESULTS: Final = Path(__file__).parent / "results"
_INPUTS: Final = _RESULTS / "scaling_inputs.json"
_SIZES: Final = (1, 10, 100, 1000)
_LOAD: Final = 0.6  # of every device's time
_LOOP_LOAD: Final = 0.8  # of an event loop's time, where that is less work
_FULL: Final = 0.98  # of a loop's time: beyond it, waits are as long as the simulation
_WARM: Final = 0.1  # of the time, not counted
_CALLS_A_DEVICE: Final = 1000
_SEED: Final = 0
_MIB: Final = 2**20
_SPEEDS: Final = (1, 10, 100)
_LOOP: Final = "one event loop"
_LOOPS: Final = ("alone", "behind", "front")
_DEVICES_A_SERVER: Final = (8, 20, 40)
_FRONTS: Final = (0, 4)
_LARGER: Final = 64  # matrices in a call of the third traffic, instead of 8
_SLACK: Final = 1.25  # of ray_router.py
_SHORTER: Final = "shorter of two"
_POLICIES: Final[Mapping[str, Policy]] = {
    "random": uniform,
    _SHORTER: shorter_of_two,
    f"by key, slack {_SLACK}": by_key(_SLACK),
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was measured, and where.

    Attributes:
        machine: its processor.
        profile: the device's speeds.
        launch: seconds of a batch beside its matrices.
        look: seconds in which a router looks at one replica.
        alone: the loop of a server that does everything.
        behind: the loop of a server behind fronts.
        front: the loop of a front.
    """

    machine: str
    profile: Profile
    launch: float
    look: float
    alone: Loop
    behind: Loop
    front: Loop


@dataclass(frozen=True, slots=True)
class Point:
    """One simulated fleet: what the table and the plot show of it."""

    traffic: str
    policy: str
    devices: int
    a_server: int
    fronts: int
    calls: float
    fill: float
    quantiles: tuple[float, float, float]
    device: float
    busiest: float
    loop: float
    front: float


def _measured() -> Inputs:
    torch.set_num_threads(1)
    profile = measure()
    call = parse_call("inv_root", {"a": torch.eye(16)[None]}, {"r": 4}, {}, Limits())
    plan, batch = make_plan(call, profile), batch_of(call)
    launch = min(_timed(lambda: evaluate(plan.program, batch, plan.backends)) for _ in range(50)) - plan.seconds
    queues = {str(number): 1 for number in range(1000)}
    look = min(_timed(lambda: preferred(queues, {}, _SLACK)) for _ in range(20)) / len(queues)
    return Inputs(_machine(), profile, launch, look, *_loops())


def _loops() -> tuple[Loop, Loop, Loop]:
    """Of a server alone, of one behind a front, and of the front."""
    found = rounds_of_all()
    alone = {name: [one.server for one in rounds[ALONE]] for name, rounds in found.items()}
    behind = {name: [one.server for one in rounds[FRONT]] for name, rounds in found.items()}
    front = {name: [one.front for one in rounds[FRONT]] for name, rounds in found.items()}
    return _line(alone), _line(behind), _line(front)


def _line(milliseconds: Mapping[str, Sequence[float]]) -> Loop:
    """The seconds of a call and of a byte, from calls of two sizes, which receive as much as they send."""
    (small, few), (large, many) = (
        (2 * 8 * math.prod(SHAPES[name]), 1e-3 * statistics.median(taken)) for name, taken in milliseconds.items()
    )
    byte = (many - few) / (large - small)
    return Loop(few - small * byte, byte)


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
        "loops": {name: asdict(getattr(inputs, name)) for name in _LOOPS},
    }
    _INPUTS.write_text(json.dumps(document, indent=1) + "\n")


def _read() -> Inputs:
    document = json.loads(_INPUTS.read_text())
    profile = document["calibration"]
    rows = tuple((str(o), str(p), int(n), float(s)) for o, p, n, s in profile["seconds"])
    loops = [Loop(**document["loops"][name]) for name in _LOOPS]
    return Inputs(document["machine"], Profile(profile["device"], rows), document["launch"], document["look"], *loops)


def _fleet(devices: int, inputs: Inputs, a_server: int = 1, fronts: int = 0) -> Fleet:
    """So many devices, on servers of equal size."""
    return Fleet(
        replicas=devices // a_server,
        routers=-(-devices // PROXY_DEVICES),
        devices=a_server,
        launch=inputs.launch,
        limit=Limit(seconds=0.1, bytes=256 * _MIB),
        parts=max(2, a_server),
        loop=inputs.behind if fronts else inputs.alone,
        fronts=fronts,
        front=inputs.front,
        hop=1e-4,
        byte=8 / 25e9,
    )


def _rate(uses: tuple[Sort, ...], fleet: Fleet) -> float:
    """Calls a second for one device: its share of the time, or what a loop for each device can take."""
    return min(_LOAD / seconds_a_call(uses), _LOOP_LOAD / demand(uses, 1.0, fleet).loop)


def _point(name: str, uses: tuple[Sort, ...], policy: str, fleet: Fleet, calls: int, rate: float) -> Point:
    """A simulated fleet that is asked for so many calls a second and device."""
    devices = fleet.replicas * fleet.devices
    seconds = max(calls, _CALLS_A_DEVICE * devices) / (rate * devices)
    sent = trace(uses, rate * devices, seconds, _SEED)
    found = simulate(sent, fleet, _POLICIES[policy], _SEED)
    counted = sent.times >= _WARM * seconds
    batches = found.batches[found.batches[:, 0] >= _WARM * seconds]
    waits = (found.finished - sent.times)[counted]
    low, middle, high = np.quantile(waits, (0.5, 0.99, 0.999)).tolist()
    return Point(
        traffic=name,
        policy=policy,
        devices=devices,
        a_server=fleet.devices,
        fronts=fleet.fronts,
        calls=float(batches[:, 1].mean()),
        fill=float(batches[:, 3].mean()) / fleet.limit.seconds,
        quantiles=(low, middle, high),
        device=float(found.device_seconds.mean()) / fleet.devices / seconds,
        busiest=float(found.device_seconds.max()) / fleet.devices / seconds,
        loop=float(found.loop_seconds.max()) / seconds,
        front=float(found.front_seconds.max(initial=0.0)) / seconds,
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


def _servers(points: Sequence[Point]) -> list[str]:
    """Many devices on servers of several, with fronts and without."""
    lines = [
        "| devices a server | fronts | calls a batch | p50 ms | p99 ms | p99.9 ms | device | busiest loop | front |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for point in points:
        waits = " | ".join("full" if point.loop > _FULL else f"{1e3 * wait:.3g}" for wait in point.quantiles)
        shares = " | ".join(f"{share:.2f}" for share in (point.device, point.loop, point.front))
        lines.append(f"| {point.a_server} | {point.fronts} | {point.calls:.2f} | {waits} | {shares} |")
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
    fleet, fronted = _fleet(1, inputs), _fleet(1, inputs, fronts=1)
    rates = [speed * _LOAD / seconds_a_call(uses) for speed in _SPEEDS]
    wanted = [demand(uses, rate, fleet) for rate in rates]
    behind = [demand(uses, rate, fronted) for rate in rates]
    columns = [
        _with_fronts(ceilings(one, _LOAD, fleet, inputs.look), other) for one, other in zip(wanted, behind, strict=True)
    ]
    heads = " | ".join("this core" if speed == 1 else f"{speed} times as fast" for speed in _SPEEDS)
    lines = [f"| full at so many devices | {heads} |", f"|---|{'---|' * len(_SPEEDS)}"]
    lines += [f"| {name} | {' | '.join(f'{column[name]:.3g}' for column in columns)} |" for name in columns[0]]
    figures = {
        "calls/s a device": [one.rate for one in wanted],
        "MB/s received a device": [one.received / 1e6 for one in wanted],
        "MB/s sent a device": [one.sent / 1e6 for one in wanted],
        "GB/s received by 1,000": [one.received / 1e6 for one in wanted],
        "event loop, cores a device": [one.loop for one in wanted],
        "event loop behind fronts, cores a device": [one.loop for one in behind],
        "fronts, cores a device": [one.front for one in behind],
    }
    return [*lines, *(f"| {name} | {' | '.join(f'{value:.3g}' for value in row)} |" for name, row in figures.items())]


def _with_fronts(found: Mapping[str, float], behind: Demand) -> dict[str, float]:
    """The ceilings with that of an event loop behind fronts, after the one that does everything itself."""
    rows = {}
    for name, devices in found.items():
        rows[name] = devices
        if name == _LOOP:
            rows[f"{_LOOP} behind fronts"] = 1 / behind.loop
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
    figure.suptitle(f"simulated, at most {_LOAD:.0%} of every device's time asked for")
    figure.tight_layout()
    figure.savefig(_RESULTS / "scaling.png", dpi=120)


def _head(inputs: Inputs) -> str:
    loops = "; ".join(
        f"{name} {1e3 * loop.call:.2f} ms a call and {1e3 * loop.byte * _MIB:.2f} ms a MiB"
        for name, loop in (
            ("the event loop takes", inputs.alone),
            ("behind fronts", inputs.behind),
            ("a front", inputs.front),
        )
    )
    return (
        f"{provenance('a simulation')}\n\n"
        f"Simulated, not measured. Seed {_SEED}; devices are cores of {inputs.machine}, {_LOAD:.0%} of their"
        f" time asked for without launches, or less where that fills {_LOOP_LOAD:.0%} of a loop for each; a launch"
        f" takes {1e3 * inputs.launch:.2f} ms; {loops}; a router"
        f" {1e6 * inputs.look:.2f} us a replica."
    )


def _fleets(name: str, uses: tuple[Sort, ...], inputs: Inputs, calls: int) -> list[Point]:
    """From one device to a thousand, each with a server of its own."""
    points = []
    for devices in _SIZES:
        fleet = _fleet(devices, inputs)
        points += [_point(name, uses, policy, fleet, calls, _rate(uses, fleet)) for policy in _POLICIES]
        print("\n".join(_rows(points[-len(_POLICIES) :])), file=sys.stderr, flush=True)
    return points


def _larger_servers(name: str, uses: tuple[Sort, ...], inputs: Inputs, calls: int) -> list[Point]:
    """A thousand devices on servers of several each, without fronts and with them."""
    fleets = [_fleet(_SIZES[-1], inputs, many, fronts) for many in _DEVICES_A_SERVER for fronts in _FRONTS]
    rate = _rate(uses, _fleet(1, inputs))
    return [_point(name, uses, _SHORTER, fleet, calls, rate) for fleet in fleets]


def main() -> None:
    """Simulates and writes the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--calls", type=int, default=60_000)
    asked = parser.parse_args()
    if asked.measure:
        _write(_measured())
    inputs = _read()
    mixed, larger = sorts(inputs.profile), sorts(inputs.profile, _LARGER)
    eeg, eeg_of_many = ((replace(uses[-1], share=1.0),) for uses in (mixed, larger))
    together = _fleets("mixed", mixed, inputs, asked.calls)
    servers = _larger_servers("mixed", mixed, inputs, asked.calls)
    alone = _fleets("EEG alone", eeg, inputs, asked.calls)
    parts = [
        [_head(inputs)],
        ["## mixed"],
        *(_kinds(mixed), _ceilings(mixed, inputs), _rows(together), _servers(servers)),
        ["## EEG alone"],
        *(_kinds(eeg), _ceilings(eeg, inputs), _rows(alone)),
        [f"## EEG alone, {_LARGER} matrices a call"],
        *(_kinds(eeg_of_many), _ceilings(eeg_of_many, inputs)),
    ]
    points = together + alone
    (_RESULTS / "scaling.md").write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
    _plot(points)


if __name__ == "__main__":
    main()
