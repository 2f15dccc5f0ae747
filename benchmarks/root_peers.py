"""What a user would write for inverse fourth roots of A + damping lambda_max I, float32 in and out.

* bare eigh: torch.linalg.eigh in float64 and its two products, one matrix a core;
* scipy: scipy.linalg.eigh in float64, one matrix a core, OpenBLAS on one thread: on several it takes ten times as long,
  and its threads spin on into what is measured next;
* jax: jnp.linalg.eigh in float64, the batch compiled as a whole, where jax is installed;
* Newton: the coupled Newton iteration in float32 as distributed Shampoo publishes it (Anil et al., 2020), one matrix a
  core.
"""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import scipy.linalg
import torch
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = ["PEERS", "has_jax"]

_NEWTON_STEPS: Final = 100
_NEWTON_TOLERANCE: Final = 1e-6

Peer: TypeAlias = "Callable[[Tensor, float], Any]"


def has_jax() -> bool:
    """Whether jax is installed."""
    return importlib.util.find_spec("jax") is not None


def _bare(a: Tensor, damping: float) -> Tensor:
    w, v = torch.linalg.eigh(a.double())
    return ((v * (w + damping * w[-1]).pow(-0.25)) @ v.mT).float()


def _newton(a: Tensor, damping: float) -> Tensor:
    identity = torch.eye(len(a))
    damped = a + damping * torch.linalg.matrix_norm(a, 2) * identity
    z = 5 / (2 * torch.linalg.matrix_norm(damped))
    x, m = identity * z**0.25, damped * z
    for _ in range(_NEWTON_STEPS):
        step = (5 * identity - m) / 4
        square = step @ step
        x, m = x @ step, square @ square @ m
        if (m - identity).abs().max() <= _NEWTON_TOLERANCE:
            break
    return x


def _scipy(a: Tensor, damping: float) -> Tensor:
    w, v = scipy.linalg.eigh(a.double().numpy())
    return torch.from_numpy(((v * (w + damping * w[-1]) ** -0.25) @ v.T).astype(np.float32))


def _jax(a: Tensor, damping: float) -> Tensor:
    return torch.from_numpy(np.array(_compiled()(a.numpy(), damping)))


@cache
def _compiled() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)  # noqa: FBT003 - the signature is jax's

    def root(a: Any, damping: Any) -> Any:
        w, v = jnp.linalg.eigh(a.astype(jnp.float64))
        powers = (w + damping * w[:, -1:]) ** -0.25
        return ((v * powers[:, None, :]) @ v.swapaxes(1, 2)).astype(jnp.float32)

    return jax.jit(root)


@cache
def _cores() -> ThreadPoolExecutor:
    ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=torch.set_num_threads, initargs=(1,))


def _each(root: Peer) -> Peer:
    """One matrix a core."""
    return lambda a, damping: torch.stack(list(_cores().map(lambda one: root(one, damping), a)))


PEERS: Final[Mapping[str, Peer]] = {
    "bare eigh": _each(_bare),
    "scipy": _each(_scipy),
    **({"jax": _jax} if has_jax() else {}),
    "Newton": _each(_newton),
}
