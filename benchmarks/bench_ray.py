"""What Ray Serve makes of the service on one machine: are calls lost when replicas come and go, and do batches form?

16 callers send the demo's matrices through the client to two replicas of one processor each, and compare every answer
with float64. First in alternating rounds behind Ray's own router and behind the one that brings keys together; then for
a minute in which one replica is killed and the deployment is replaced by another version.

Ray listens on all interfaces. Where Linux permits, everything runs in a network of its own, which has none but lo.

    make ray

prints and writes benchmarks/results/ray.md; exit code 1 if a call was lost or an answer was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

_FOLDER: Final = Path(__file__).parent
sys.path.append(str(_FOLDER.parent / "demo"))
_SETTINGS: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_SESSION_ID_HEADER_KEY": "X-Matfn-Key"}
os.environ |= _SETTINGS  # read when Ray is imported

import numpy as np  # noqa: E402
import ray  # noqa: E402
from ray import serve  # noqa: E402
from ray.serve.config import RequestRouterConfig  # noqa: E402

import matfn  # noqa: E402
from cases import Case, cases  # noqa: E402
from matfn.answers import outputs_of  # noqa: E402
from matfn.client import Clock  # noqa: E402
from matfn_kernels.reference import relative_error  # noqa: E402
from matfn_service.ray_app import deployment  # noqa: E402
from matfn_service.ray_router import KeyRouter  # noqa: E402
from provenance import provenance  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLERS: Final = 16
_REPLICAS: Final = 2
_PORT: Final = 18500
_URL: Final = f"http://127.0.0.1:{_PORT}"
_ROUTERS: Final = {"Ray's own": RequestRouterConfig(), "by key": RequestRouterConfig(request_router_class=KeyRouter)}
_FAULTS_AT: Final = 0.2, 0.5  # of the time: when a replica is killed, and when the deployment is replaced


@dataclass(slots=True)
class Seen:
    """What all callers of a run saw."""

    seconds: list[float] = field(default_factory=list)
    matrices: int = 0
    batches: float = 0.0
    retries: int = 0
    wrong: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def calls_a_batch(self) -> float:
        """Mean number of calls in a batch; an answer counts as its part of one."""
        return len(self.seconds) / max(self.batches, 1.0)

    @property
    def mean_batch(self) -> float:
        """Matrices a batch."""
        return self.matrices / max(self.batches, 1.0)

    def quantile(self, share: float) -> float:
        """Seconds in which so many of the calls were answered."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]


class Callers:
    """Threads that call until they are told to stop, each with one case after the other in an order of its own."""

    def __init__(self, work: list[tuple[Case, tuple[Any, ...]]]) -> None:
        self.seen = Seen()
        self._work = work
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._client = matfn.Client(_URL, clock=Clock(sleep=self._retry))

    def run(self, seconds: float, *events: tuple[float, Callable[[], object]]) -> Seen:
        """Calls for so long, and does what is to be done at these moments meanwhile."""
        began = time.monotonic()
        with ThreadPoolExecutor(_CALLERS) as threads, self._client:
            running = [threads.submit(self._call_until_over, number) for number in range(_CALLERS)]
            try:
                for moment, do in (*events, (seconds, lambda: None)):
                    time.sleep(max(0.0, began + moment - time.monotonic()))
                    do()
            finally:
                self._over.set()
            for caller in running:
                caller.result()
        return self.seen

    def _retry(self, seconds: float) -> None:
        with self._lock:
            self.seen.retries += 1
        time.sleep(seconds)

    def _call_until_over(self, number: int) -> None:
        dice = random.Random(number)  # noqa: S311 - an order, no secret
        while not self._over.is_set():
            self._call(*dice.choice(self._work))

    def _call(self, case: Case, truth: tuple[Any, ...]) -> None:
        began = time.perf_counter()
        try:
            answer = getattr(self._client.with_info, case.function)(*case.inputs, **case.keywords)
        except matfn.MatfnError as error:
            with self._lock:
                self.seen.lost[type(error).__name__] += 1
            return
        seconds = time.perf_counter() - began
        values = outputs_of(answer.value)
        right = all(relative_error(x, exact).max() <= case.bound for x, exact in zip(values, truth, strict=True))
        with self._lock:
            self.seen.seconds.append(seconds)
            self.seen.wrong += not right
            self.seen.matrices += len(answer.certificates)
            self.seen.batches += len(answer.certificates) / answer.timing.batch_size


def _with_truth() -> list[tuple[Case, tuple[Any, ...]]]:
    """Every case and its exact answer, for the shifts that a first answer states."""
    with matfn.Client(_URL) as client:
        shifts = [
            np.array(
                [c.shift for c in getattr(client.with_info, case.function)(*case.inputs, **case.keywords).certificates]
            )
            for case in cases()
        ]
    return [(case, case.truth(shift)) for case, shift in zip(cases(), shifts, strict=True)]


def _deploy(router: str, **settings: str) -> None:
    """Brings two replicas up and waits for them; other settings make another version."""
    actor = dict(deployment.ray_actor_options)
    actor["runtime_env"] = {"env_vars": {**actor["runtime_env"]["env_vars"], "MATFN_LOG_LEVEL": "warning", **settings}}
    chosen = deployment.options(
        num_replicas=_REPLICAS,
        autoscaling_config=None,
        ray_actor_options=actor,
        request_router_config=_ROUTERS[router],
    )
    serve.run(chosen.bind(), name="matfn")


def _kill_replica() -> None:
    """Kills one of the replicas that this process has started."""
    raylet = _children(os.getpid(), "raylet")[0]
    os.kill(_children(raylet, "ray::ServeReplica")[0], signal.SIGKILL)


def _children(parent: int, name: str) -> list[int]:
    found = subprocess.run(  # noqa: S603 - our own command
        [_tool("pgrep"), "--parent", str(parent), "--full", name], capture_output=True, text=True, check=True
    )
    return [int(line) for line in found.stdout.split()]


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        sys.exit(f"{name} is not installed")
    return path


def _compare(rounds: int, seconds: float) -> dict[str, list[Seen]]:
    """The same load behind each router, in alternating rounds."""
    found: dict[str, list[Seen]] = {router: [] for router in _ROUTERS}
    for number in range(rounds):
        for router in list(_ROUTERS)[:: 1 if number % 2 else -1]:
            _deploy(router)
            work = _with_truth()
            found[router].append(Callers(work).run(seconds))
    return found


def _disturb(seconds: float) -> Seen:
    """A replica is killed, and later the deployment is replaced, while callers call."""
    _deploy("by key")
    kill, replace = (share * seconds for share in _FAULTS_AT)
    return Callers(_with_truth()).run(
        seconds, (kill, _kill_replica), (replace, lambda: _deploy("by key", MATFN_LOG_FORMAT="json"))
    )


def _report(compared: dict[str, list[Seen]], disturbed: Seen, seconds: float) -> str:
    lines = [
        provenance(command="make ray"),
        "",
        f"Ray {ray.__version__}; {_REPLICAS} replicas of one processor, {_CALLERS} callers beside them.",
        "",
        "| router | calls a batch, each round | matrices a batch, each round | calls/s | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for router, runs in compared.items():
        calls = ", ".join(f"{seen.calls_a_batch:.2f}" for seen in runs)
        sizes = ", ".join(f"{seen.mean_batch:.2f}" for seen in runs)
        rate = statistics.mean(len(seen.seconds) for seen in runs) / seconds
        middle, tail = (1e3 * statistics.median(seen.quantile(share) for seen in runs) for share in (0.5, 0.99))
        lines.append(f"| {router} | {calls} | {sizes} | {rate:.0f} | {middle:.0f} | {tail:.0f} |")
    lost = ", ".join(f"{number} {name}" for name, number in disturbed.lost.items()) or "0"
    lines += [
        "",
        "| a replica killed, the deployment replaced | |",
        "|---|---|",
        f"| calls answered | {len(disturbed.seconds)} |",
        f"| calls lost | {lost} |",
        f"| wrong answers | {disturbed.wrong} |",
        f"| retries by the client | {disturbed.retries} |",
        f"| p50, p99, longest call | {', '.join(f'{disturbed.quantile(q):.2f} s' for q in (0.5, 0.99, 1.0))} |",
    ]
    return "\n".join(lines)


def _secluded() -> None:
    """Starts this process again in a network of its own, if that may be."""
    inside = ["sh", "-c", 'ip link set lo up && exec "$0" "$@"', sys.executable, *sys.argv, "--inside"]
    probe = ["unshare", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]
    if shutil.which("unshare") and not subprocess.run(probe, capture_output=True, check=False).returncode:  # noqa: S603
        os.execvp("unshare", ["unshare", "--map-root-user", "--net", *inside])  # noqa: S606, S607 - our own command
    print("warning: no network of our own; Ray listens on all interfaces of this machine", file=sys.stderr)


def main() -> int:
    """Measures, prints, writes; 0 if no call was lost and no answer wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each round")
    parser.add_argument("--minute", type=float, default=60.0, help="seconds with faults")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        _secluded()
    ray.init(
        num_cpus=_REPLICAS,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=2**28,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": _PORT})
        compared, disturbed = _compare(options.rounds, options.seconds), _disturb(options.minute)
    finally:
        serve.shutdown()
        ray.shutdown()
    report = _report(compared, disturbed, options.seconds)
    print(report)
    (_FOLDER / "results" / "ray.md").write_text(f"{report}\n")
    runs = [disturbed, *(seen for several in compared.values() for seen in several)]
    return 1 if any(seen.lost or seen.wrong for seen in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
