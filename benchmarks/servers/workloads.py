"""What every benchmarked server computes on a batch: the same callable behind each of them.

`stand_in` is no computation but a device's cost: so much a launch and so much a matrix, one launch at a time, with the
interpreter free meanwhile. `msign` is matfn's own evaluation, certificates included; `bmm` is five plain Newton-Schulz
steps in batched products, which proves nothing about its answer.
"""

from __future__ import annotations

import os
import time
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import Limits, batch_of, evaluate, load_profile, make_plan, parse_call

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from matfn_kernels import Call, Profile, Program

__all__ = ["LAUNCH_SECONDS", "MATRIX_SECONDS", "MAX_BATCH", "WORKLOADS", "occupy"]

LAUNCH_SECONDS: Final = float(os.environ.get("STAND_IN_LAUNCH", "2e-3"))
MATRIX_SECONDS: Final = float(os.environ.get("STAND_IN_MATRIX", "5e-5"))
MAX_BATCH: Final = 32

_MUON: Final = (3.4445, -4.7750, 2.0315)
_device = Lock()


def occupy(items: int) -> None:
    """Holds the stand-in device for a batch."""
    with _device:
        time.sleep(LAUNCH_SECONDS + MATRIX_SECONDS * items)


def stand_in(batch: np.ndarray) -> np.ndarray:
    """The batch as it came, after the stand-in device's time for it."""
    occupy(len(batch))
    return batch


def msign(batch: np.ndarray) -> np.ndarray:
    """Orthogonal polar factors by the method that matfn would choose, certified one by one."""
    torch.set_num_threads(1)
    matrices = torch.from_numpy(batch)
    program, prepared = _planned(tuple(batch.shape[1:])), batch_of(_call(matrices))
    return evaluate(program, prepared, _profile().backends).outputs[0].numpy()


def bmm(batch: np.ndarray) -> np.ndarray:
    """Five Newton-Schulz steps with Muon's coefficients, nothing checked."""
    torch.set_num_threads(1)
    a, b, c = _MUON
    x = torch.from_numpy(batch)
    x = x / x.norm(dim=(-2, -1), keepdim=True)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.numpy()


def _call(matrices: torch.Tensor) -> Call:
    return parse_call("msign", {"m": matrices}, {}, {}, Limits())


@cache
def _profile() -> Profile:
    return load_profile()  # the same plans as matfn's own server makes


@cache
def _planned(shape: tuple[int, ...]) -> Program:
    return make_plan(_call(torch.zeros(1, *shape)), _profile()).program


WORKLOADS: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {"stand_in": stand_in, "msign": msign, "bmm": bmm}
