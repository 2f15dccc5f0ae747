"""Whitening, clipping, means and distances of many small matrices: LocalClient beside torch one matrix a core.

Certificates are included. Covariances are of 256 correlated samples each, as of channels of a recording; matrices to
clip are Gaussian. Beside inv_root and eig_clip stands torch.linalg.eigh with its two products, beside mclip
torch.linalg.svd, beside geometric_mean and frechet_distance torch.linalg.eigh twice, by their definitions, in the dtype
of the matrices and on all cores, in the same rounds. An error is the largest relative distance from torch's answers in
float64.

    python benchmarks/bench_spectral.py [--rounds 15] > benchmarks/results/spectral.md
"""

from __future__ import annotations

import argparse
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

import matfn
from provenance import provenance
from turns import quotients, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

SIZES: Final = ((16, 1000), (32, 1000), (64, 1000), (64, 64), (128, 200))
SAMPLES: Final = 256
LIMITS: Final = (-0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Case:
    """A function of a batch, and how one matrix of it is computed with torch.

    Attributes:
        name: in the table.
        given: the matrices (batch, n, n), or pairs of them (batch, 2, n, n).
        asked: matfn's answer, from a client and the matrices.
        plain: the same of one matrix, by torch.
    """

    name: str
    given: Tensor
    asked: Callable[[Any, Tensor], Any]
    plain: Callable[[Tensor], Tensor]


def _covariances(order: int, items: int) -> Tensor:
    generator = torch.Generator().manual_seed(order)
    mixed = torch.randn(order, order, generator=generator, dtype=torch.float64) / order**0.5
    x = torch.randn(items, SAMPLES, order, generator=generator, dtype=torch.float64) @ mixed
    return x.mT @ x / SAMPLES


def _gaussian(order: int, items: int) -> Tensor:
    generator = torch.Generator().manual_seed(order + 1)
    return torch.randn(items, order, order, generator=generator, dtype=torch.float64) / order**0.5


def _whitened(a: Tensor) -> Tensor:
    w, v = torch.linalg.eigh(a)
    return (v * w.rsqrt()) @ v.mT


def _eigenvalues_clipped(a: Tensor) -> Tensor:
    w, v = torch.linalg.eigh(a)
    return (v * w.clamp(*LIMITS)) @ v.mT


def _singular_values_clipped(m: Tensor) -> Tensor:
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    return (u * s.clamp_max(LIMITS[1])) @ vh


def _root(a: Tensor, power: float) -> Tensor:
    w, v = torch.linalg.eigh(a)
    return (v * w.clamp_min(0) ** power) @ v.mT


def _mean(pair: Tensor) -> Tensor:
    root, inverse = _root(pair[0], 0.5), _root(pair[0], -0.5)
    return root @ _root(inverse @ pair[1] @ inverse, 0.5) @ root


def _distance(pair: Tensor) -> Tensor:
    root = _root(pair[0], 0.5)
    shared = torch.linalg.eigvalsh(root @ pair[1] @ root).clamp_min(0).sqrt().sum()
    return (pair[0].trace() + pair[1].trace() - 2 * shared)[None, None]


def _frechet(client: Any, pairs: Tensor) -> Any:
    means = pairs.new_zeros(len(pairs), pairs.shape[-1])
    return client.frechet_distance(means, pairs[:, 0], means, pairs[:, 1])


def _cases(order: int, items: int, dtype: torch.dtype) -> Iterator[Case]:
    covariances, gaussian = _covariances(order, items).to(dtype), _gaussian(order, items).to(dtype)
    yield Case("whitening, inv_root r = 2", covariances, lambda client, a: client.inv_root(a, r=2), _whitened)
    symmetric = (gaussian + gaussian.mT) / 2**0.5
    low, high = LIMITS
    yield Case("eig_clip", symmetric, lambda client, a: client.eig_clip(a, lo=low, hi=high), _eigenvalues_clipped)
    yield Case("mclip", gaussian, lambda client, m: client.mclip(m, hi=high), _singular_values_clipped)
    singular = gaussian @ covariances[:, :, : order // 2] @ covariances[:, : order // 2]
    yield Case("mclip, half the rank", singular, lambda client, m: client.mclip(m, hi=high), _singular_values_clipped)
    pairs = torch.stack((covariances, covariances.flip(0)), 1)
    yield Case("geometric_mean", pairs, lambda client, ab: client.geometric_mean(ab[:, 0], ab[:, 1]), _mean)
    yield Case("frechet_distance", pairs, _frechet, _distance)


def _each(plain: Callable[[Tensor], Tensor], given: Tensor, pool: ThreadPoolExecutor) -> Tensor:
    """A share of the batch a core, one matrix after the other."""
    shares = given.chunk(len(os.sched_getaffinity(0)))
    return torch.cat(list(pool.map(lambda share: torch.stack([plain(one) for one in share]), shares)))


def _difference(found: Tensor, truth: Tensor) -> float:
    """Largest relative distance in the Frobenius norm."""
    found = found.double().reshape(truth.shape)
    missing = torch.linalg.matrix_norm(found - truth) / torch.linalg.matrix_norm(truth)
    return float(missing.max())


def _row(case: Case, client: Any, pool: ThreadPoolExecutor, rounds: int) -> str:
    given = case.given
    works = {"matfn": partial(case.asked, client.with_info, given), "torch": partial(_each, case.plain, given, pool)}
    answer = works["matfn"]()
    truth = _each(case.plain, given.double(), pool)
    errors = [f"{_difference(answer.value, truth):.0e}", _others_error(works["torch"](), truth)]
    spent = timed(works, rounds)
    used, times = answer.certificates[0], [f"{statistics.median(spent[name]):.2f}" for name in works]
    described = [case.name, f"{len(given)} of {given.shape[-1]}", str(given.dtype).removeprefix("torch.")]
    cells = [*described, f"{used.method} {used.precision}", *times, quotients(spent["torch"], spent["matfn"])]
    return f"| {' | '.join([*cells, *errors])} |"


def _others_error(found: Tensor, truth: Tensor) -> str:
    return "-" if found.dtype == truth.dtype else f"{_difference(found, truth):.0e}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(f"{provenance()}\n")
    print(f"Milliseconds a batch, medians of {rounds} rounds, torch one matrix a core; quotients with their range.\n")
    titles = ["function", "batch", "dtype", "answered by", "matfn", "torch", "torch / matfn", "error", "torch's"]
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    cores = len(os.sched_getaffinity(0))
    with (
        matfn.LocalClient() as client,
        ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        for dtype in (torch.float64, torch.float32):
            for order, items in SIZES:
                for case in _cases(order, items, dtype):
                    print(_row(case, client, pool, rounds), flush=True)


if __name__ == "__main__":
    main()
