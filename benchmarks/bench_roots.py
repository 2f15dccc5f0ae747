"""Inverse fourth roots of Shampoo's factors: matfn, certificates included, beside what a user would write.

In one process: LocalClient beside the functions of `root_peers`. Through a server on loopback: matfn's service with its
Python client beside thirty lines of FastAPI around torch.linalg.eigh, each batch in one request. All are given the same
matrices (`root_matrices`) in the same rounds and have the machine's cores. Beside a time is the largest relative
error.

    python benchmarks/bench_roots.py [--rounds 9] [--only perceptron] > benchmarks/results/roots.md
"""

from __future__ import annotations

import argparse
import http.client
import statistics
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

import matfn
from contenders import CONTENDERS, Contender, running
from load import Request
from provenance import provenance
from root_matrices import SOURCES
from root_peers import PEERS, has_jax
from turns import quotients, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from turns import Works

CELLS: Final = ((64, 4), (64, 16), (128, 4), (128, 16), (256, 8), (512, 4))
SERVED: Final = ((64, 16), (128, 16), (256, 8))
LARGEST: Final = {"a language model's": 256}
DAMPINGS: Final = (1e-4, 1e-6, None)
PLAIN: Final = Contender(
    "FastAPI eigh",
    "eigh_server.py",
    "/inv_root?order=8&r=4&damping=0.1",
    lambda x: Request("application/octet-stream", x.tobytes()),
)


def _relative(damping: float | None) -> float:
    """What is added, as a part of the largest eigenvalue; by default the most that matfn adds."""
    return 8 * float(torch.finfo(torch.float32).eps) if damping is None else damping


def _error(found: Tensor, a: Tensor, shifts: Any) -> float:
    """Largest relative error against eigh of A + shift I in float64."""
    w, v = np.linalg.eigh(a.double().numpy() + np.asarray(shifts)[:, None, None] * np.eye(a.shape[-1]))
    exact = (v * np.maximum(w, 1e-300)[:, None, :] ** -0.25) @ v.swapaxes(1, 2)
    missing = np.linalg.norm(found.double().numpy() - exact, axis=(1, 2))
    return float((missing / np.linalg.norm(exact, axis=(1, 2))).max())


def _row(head: str, a: Tensor, damping: float | None, works: Works, rounds: int) -> str:
    """One row: matfn comes first and answers with its certificates, the others with the roots."""
    first, *others = works
    answer, top = works[first](), torch.linalg.eigvalsh(a.double())[:, -1].numpy()
    shifts = [certificate.shift or 0.0 for certificate in answer.certificates]
    errors = {first: _error(answer.value, a, shifts)}
    errors |= {name: _error(works[name](), a, _relative(damping) * top) for name in others}
    spent = timed(works, rounds)
    cells = [f"{statistics.median(spent[name]):.2f}, {errors[name]:.0e}" for name in works]
    used = answer.certificates[0]
    described = [head, f"{len(a)} of {a.shape[-1]}", "default" if damping is None else f"{damping:g}"]
    ratios = [quotients(spent[name], spent[first]) for name in others]
    return f"| {' | '.join([*described, f'{used.method} {used.precision}', *cells, *ratios])} |"


def _titles(names: list[str]) -> str:
    first, *others = names
    ratios = [f"{name} / {first}" for name in others]
    titles = ["factors", "batch", "damping", "answered by", *names, *ratios]
    return f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|"


def _matrices(cells: tuple[tuple[int, int], ...], only: str) -> Iterator[tuple[str, Tensor]]:
    for source, made in SOURCES.items():
        for order, items in cells:
            if only in source and order <= LARGEST.get(source, order):
                yield source, made(order, items)


def _in_process(rounds: int, only: str) -> None:
    print(_titles(["matfn", *PEERS]))
    with matfn.LocalClient() as client:
        for source, a in _matrices(CELLS, only):
            for damping in DAMPINGS:
                works = {"matfn": partial(client.with_info.inv_root, a, r=4, damping=damping)}
                works |= {name: partial(peer, a, _relative(damping)) for name, peer in PEERS.items()}
                print(_row(source, a, damping, works, rounds), flush=True)


def _served(rounds: int, only: str) -> None:
    print("\n" + _titles(["matfn's service", PLAIN.name]))
    with running(CONTENDERS[0], "inv_root") as ours, running(PLAIN, "inv_root") as theirs:
        address, other = ours.address, theirs.address
        assert not isinstance(address, str)
        assert not isinstance(other, str)
        url = f"http://{address[0]}:{address[1]}"
        with matfn.Client(url) as client, closing(http.client.HTTPConnection(*other)) as plain:
            for source, a in _matrices(SERVED, only):
                for damping in DAMPINGS:
                    works = {
                        "matfn's service": partial(client.with_info.inv_root, a, r=4, damping=damping),
                        PLAIN.name: partial(_asked, plain, a, _relative(damping)),
                    }
                    print(_row(source, a, damping, works, rounds), flush=True)


def _asked(connection: http.client.HTTPConnection, a: Tensor, damping: float) -> Tensor:
    """The answer of the plain server."""
    path = f"/inv_root?order={a.shape[-1]}&r=4&damping={damping}"
    connection.request("POST", path, a.numpy().tobytes(), {"Content-Type": "application/octet-stream"})
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK:
        raise RuntimeError(body.decode())
    return torch.frombuffer(bytearray(body), dtype=torch.float32).reshape(a.shape)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    print(f"{provenance()}\n")
    print(f"Milliseconds a batch, medians of {asked.rounds} rounds, and errors; quotients within rounds, with ranges.")
    print("" if has_jax() else "jax is not installed: it has no column.\n")
    _in_process(asked.rounds, asked.only)
    _served(asked.rounds, asked.only)


if __name__ == "__main__":
    main()
