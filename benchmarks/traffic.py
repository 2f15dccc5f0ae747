"""The traffic of the simulation: bursts of an optimiser, distances of a generative model, streams of an instrument.

Shampoo: trainers that refresh their preconditioners in bursts, inverse roots of mixed orders. FID: Fréchet distances
of features, few and large. EEG: streams of small covariances to be whitened, a few at a time. What a call asks for is
drawn by Zipf's law from each sort's own list, the k-th entry with weight 1/k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from fleet import Kind, Trace
from matfn_kernels import Limits, batch_key, make_plan, parse_call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from matfn_kernels import Profile

__all__ = ["BURST", "EEG_MATRICES", "SHARES", "Sort", "seconds_a_call", "sorts", "trace"]

SHARES: Final = {"Shampoo": 0.39, "FID": 0.01, "EEG": 0.60}
"""Of all calls."""
BURST: Final = 64
"""Calls of one refresh."""
_BURST_SECONDS: Final = 0.05
_SHAMPOO_ORDERS: Final = (256, 128, 512, 64, 384, 192, 96, 320)
_SHAMPOO_ROOTS: Final = (4, 2)
_FID_ORDERS: Final = (64, 192, 768)
_EEG_ORDERS: Final = (32, 64, 22)
EEG_MATRICES: Final = 8


@dataclass(frozen=True, slots=True)
class Sort:
    """Calls of one use.

    Attributes:
        name: of the use.
        share: of all calls.
        burst: calls that come together.
        kinds: from the most frequent to the rarest.
    """

    name: str
    share: float
    burst: int
    kinds: tuple[Kind, ...]

    @property
    def chances(self) -> NDArray[np.float64]:
        """Of each kind among the sort's calls."""
        weights = 1 / np.arange(1, len(self.kinds) + 1)
        return np.asarray(weights / weights.sum())


def sorts(profile: Profile, eeg_matrices: int = EEG_MATRICES) -> tuple[Sort, ...]:
    """The three uses, priced by the planner with these speeds; EEG with so many matrices in a call."""
    shampoo = tuple(_root(n, r, torch.float32, 1, profile) for n in _SHAMPOO_ORDERS for r in _SHAMPOO_ROOTS)
    fid = tuple(_distance(n, profile) for n in _FID_ORDERS)
    eeg = tuple(_root(n, 2, torch.float64, eeg_matrices, profile) for n in _EEG_ORDERS)
    return (
        Sort("Shampoo", SHARES["Shampoo"], BURST, shampoo),
        Sort("FID", SHARES["FID"], 1, fid),
        Sort("EEG", SHARES["EEG"], 1, eeg),
    )


def seconds_a_call(uses: tuple[Sort, ...]) -> float:
    """Mean predicted device seconds."""
    return math.fsum(use.share * float(use.chances @ [kind.seconds for kind in use.kinds]) for use in uses)


def trace(uses: tuple[Sort, ...], rate: float, seconds: float, seed: int) -> Trace:
    """So many calls a second on average: each use's bursts by a Poisson law, their calls over 50 ms."""
    rng = np.random.default_rng(seed)
    kinds = tuple(kind for use in uses for kind in use.kinds)
    times, which, first = [], [], 0
    for use in uses:
        bursts = rng.uniform(0, seconds, rng.poisson(rate * use.share * seconds / use.burst))
        spread = _BURST_SECONDS if use.burst > 1 else 0.0
        times.append((bursts[:, None] + rng.uniform(0, spread, (len(bursts), use.burst))).ravel())
        which.append(first + rng.choice(len(use.kinds), len(times[-1]), p=use.chances))
        first += len(use.kinds)
    order = np.argsort(np.concatenate(times), kind="stable")
    return Trace(kinds, np.concatenate(times)[order], np.concatenate(which)[order])


def _root(n: int, r: int, dtype: torch.dtype, matrices: int, profile: Profile) -> Kind:
    size = matrices * n * n * dtype.itemsize
    return _kind("inv_root", {"a": torch.eye(n, dtype=dtype)}, {"r": r}, (matrices, size), profile)


def _distance(n: int, profile: Profile) -> Kind:
    mean, covariance = torch.zeros(n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    inputs = {"mu1": mean, "s1": covariance, "mu2": mean, "s2": covariance}
    return _kind("frechet_distance", inputs, {}, (1, mean.itemsize), profile)


def _kind(
    function: str,
    inputs: Mapping[str, Tensor],
    parameters: Mapping[str, object],
    answer: tuple[int, int],
    profile: Profile,
) -> Kind:
    matrices, sent = answer
    call = parse_call(function, inputs, parameters, {}, Limits())
    plan = make_plan(call, profile)
    shape = "x".join(map(str, next(iter(inputs.values())).shape))
    return Kind(
        hint=f"{function}:{str(call.dtype).removeprefix('torch.')}:{shape}",
        key=batch_key(plan.program),
        matrices=matrices,
        seconds=matrices * plan.seconds,
        bytes=matrices * plan.bytes,
        received=matrices * sum(tensor.nbytes for tensor in inputs.values()),
        sent=sent,
    )
