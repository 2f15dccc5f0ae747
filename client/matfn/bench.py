"""Time that a server takes for calls like a user's, by stage, beside that of LAPACK on this machine.

Calls are repeated in windows until three of them in a row agree within a tenth, as Triton's perf_analyzer does; the
time of a call is that on the device, that in the queue, that of this thread's processor, and the rest, the wire.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from matfn import call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from matfn.answers import Answer
    from matfn.invocation import Invocation

    Clock = Callable[[], float]

__all__ = ["PRESETS", "Measured", "Workload", "measure", "verdict", "workload_of"]

_TOLERANCE: Final = 0.1  # of the mean of three windows, perf_analyzer's default
_WINDOWS: Final = 3
_MOST_WINDOWS: Final = 10  # after which a machine that is never quiet is measured as it is
_LOCAL_CALLS: Final = 3
_FORM: Final = re.compile(r"(?P<function>\w+):(?P<shape>\d+x\d+x\d+)(:(?P<dtype>float32|float64))?")


@dataclass(frozen=True, slots=True)
class Workload:
    """One call of a function that is measured.

    Attributes:
        name: of the workload.
        function: that is called.
        shape: of its input, (batch, rows, columns).
        dtype: of its input.
    """

    name: str
    function: str
    shape: tuple[int, int, int]
    dtype: str

    @property
    def matrices(self) -> int:
        """Matrices in one call."""
        return self.shape[0]

    def invocation(self) -> Invocation[Any]:
        """The call, of Gaussian numbers or of their covariances."""
        return _CALLS[self.function](self._matrices())

    def local(self) -> Any:
        """Its value by numpy and LAPACK in this process."""
        return _LOCAL[self.function](self._matrices())

    def _matrices(self) -> NDArray[Any]:
        numbers = np.random.default_rng(0).standard_normal(self.shape).astype(self.dtype)
        return numbers if self.function == "msign" else numbers @ numbers.mT / self.shape[-1]


PRESETS: Final[dict[str, tuple[str, tuple[int, int, int], str]]] = {
    "shampoo1024": ("inv_root", (4, 1024, 1024), "float32"),
    "gpt2": ("msign", (4, 768, 3072), "float32"),
    "moonlight": ("msign", (4, 2048, 1408), "float32"),
    "eeg64": ("inv_root", (1000, 64, 64), "float64"),
}
"""Workloads by name: four factors of Shampoo, matrices that Muon orthogonalises, covariances of EEG to whiten."""


def workload_of(name: str) -> Workload:
    """The workload of a preset, or of FUNCTION:BATCHxROWSxCOLUMNS:DTYPE.

    Raises:
        ValueError: if it is neither.
    """
    if name in PRESETS:
        return Workload(name, *PRESETS[name])
    match = _FORM.fullmatch(name)
    sizes = tuple(map(int, match["shape"].split("x"))) if match else ()
    function, dtype = (match["function"], match["dtype"] or "float32") if match else ("", "")
    if function not in _CALLS or 0 in sizes or (function != "msign" and sizes[1] != sizes[2]):
        known = f"{', '.join(PRESETS)}, or FUNCTION:BATCHxROWSxCOLUMNS:DTYPE with {' or '.join(_CALLS)}"
        raise ValueError(f"{name}: a workload is {known}, such as inv_root:16x256x256:float32")
    return Workload(name, function, (sizes[0], sizes[1], sizes[2]), dtype)


def _by_eigh(power: float) -> Callable[[NDArray[Any]], Any]:
    """A^power by numpy.linalg.eigh, with eigenvalues of 8 eps of the largest at least, as the service damps."""

    def value(a: NDArray[Any]) -> Any:
        values, vectors = np.linalg.eigh(a)
        least = 8 * np.finfo(a.dtype).eps * values[:, -1:]
        return (vectors * (np.maximum(values, least) ** power)[:, None, :]) @ vectors.mT

    return value


def _by_svd(m: NDArray[Any]) -> Any:
    u, _, vh = np.linalg.svd(m, full_matrices=False)
    return u @ vh


_CALLS: Final[dict[str, Callable[[Any], Invocation[Any]]]] = {
    "inv_root": lambda a: call.inv_root(a, r=4),
    "root": lambda a: call.root(a, r=2),
    "msign": call.msign,
}
_LOCAL: Final[dict[str, Callable[[NDArray[Any]], Any]]] = {
    "inv_root": _by_eigh(-0.25),
    "root": _by_eigh(0.5),
    "msign": _by_svd,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of one call.

    Attributes:
        seconds: the median.
        slow_seconds: the 99th percentile.
        parts: medians of its parts.
        calls: how many were measured.
        is_stable: whether the last windows agreed.
        local_seconds: the median of the same value by LAPACK in this process.
    """

    seconds: float
    slow_seconds: float
    parts: Mapping[str, float]
    calls: int
    is_stable: bool
    local_seconds: float


class _Asker(Protocol):
    def ask(self, invocation: Invocation[Any], /) -> Answer[Any]:
        """The answer to a call."""


def measure(client: _Asker, workload: Workload, *, window: float, clock: Clock, cpu: Clock) -> Measured:
    """Repeats the workload's call until windows agree.

    Args:
        client: what is asked.
        workload: what is asked of it.
        window: seconds of one window; a call that is under way ends it.
        clock: seconds since any moment.
        cpu: seconds of this thread's processor.
    """
    invocation = workload.invocation()
    client.ask(invocation)  # connects, and warms both sides
    windows: list[list[tuple[float, dict[str, float]]]] = []
    while len(windows) < _MOST_WINDOWS and not _agree(windows):
        windows.append(_window(client, invocation, window, clock, cpu))
    calls = [one for last in windows[-_WINDOWS:] for one in last]
    times = [seconds for seconds, _ in calls]
    return Measured(
        seconds=median(times),
        slow_seconds=quantiles(times, n=100, method="inclusive")[-1] if len(times) > 1 else times[0],
        parts={part: median(parts[part] for _, parts in calls) for part in calls[0][1]},
        calls=len(calls),
        is_stable=_agree(windows),
        local_seconds=median(_timed(workload.local, clock) for _ in range(_LOCAL_CALLS)),
    )


def _window(
    client: _Asker, invocation: Invocation[Any], length: float, clock: Clock, cpu: Clock
) -> list[tuple[float, dict[str, float]]]:
    """Seconds of each call until the window has passed, with their parts."""
    calls, started = list[tuple[float, dict[str, float]]](), clock()
    while not calls or clock() - started < length:
        begun, busy = clock(), cpu()
        timing = client.ask(invocation).timing
        seconds, own = clock() - begun, cpu() - busy
        queued, computed = timing.queue_ms / 1e3, timing.device_ms / 1e3
        wire = max(seconds - own - queued - computed, 0.0)
        calls.append((seconds, {"client": own, "wire": wire, "queue": queued, "device": computed}))
    return calls


def _agree(windows: Sequence[Sequence[tuple[float, object]]]) -> bool:
    """Whether the last windows' medians lie within the tolerance of their mean."""
    if len(windows) < _WINDOWS:
        return False
    medians = [median(seconds for seconds, _ in window) for window in windows[-_WINDOWS:]]
    mean = sum(medians) / len(medians)
    return all(abs(value - mean) <= _TOLERANCE * mean for value in medians)


def _timed(compute: Callable[[], object], clock: Clock) -> float:
    started = clock()
    compute()
    return clock() - started


def verdict(workload: Workload, measured: Measured) -> str:
    """One sentence: which is faster, this machine's LAPACK or the server over this link."""
    ratio = measured.local_seconds / measured.seconds
    if ratio >= 1:
        return f"{workload.name}: the server takes 1/{ratio:.2g} of the time of this machine's LAPACK; ask the server."
    computed = measured.parts["device"] + measured.parts["queue"]
    reason = (
        "the link and this process take longer than LAPACK"
        if computed < measured.local_seconds
        else "its device is no faster"
    )
    return (
        f"{workload.name}: this machine's LAPACK takes {ratio:.2g} of the server's time ({reason}); compute here, "
        "unless the processor is needed for something else or the certificate is wanted."
    )
