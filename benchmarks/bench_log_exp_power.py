"""Logarithms, exponentials, powers and discrete Riccati equations, certificates included, beside scipy, torch and jax.

In one process, all on the same float64 matrices in the same rounds, each with the machine's cores as it uses them:
scipy solves one matrix after the other, as its functions are called. Beside a time is the largest relative error
against eigenvectors, with that of these themselves, or for the equations the largest relative residual.

    .venv-bench/bin/python benchmarks/bench_log_exp_power.py > benchmarks/results/log_exp_power.md
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import scipy.linalg
import torch

import matfn
from provenance import provenance
from root_peers import has_jax
from turns import quotients, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.float64]"

CELLS: Final = ((32, 1000), (64, 1000), (256, 1))
EQUATIONS: Final = ((4, 1000), (16, 1000), (32, 200), (64, 40))
POWER: Final = 0.3
_SPREAD: Final = 1e3
"""The ratio of the largest and the smallest eigenvalue of the symmetric matrices."""


@dataclass(frozen=True, slots=True)
class Case:
    """One function on one batch.

    Attributes:
        name: in words.
        shape: of the batch, in words.
        ours: matfn's call.
        peers: the others' work on the same batch.
        error: the largest relative error of an answer.
    """

    name: str
    shape: str
    ours: Callable[[], Any]
    peers: dict[str, Callable[[], Any]]
    error: Callable[[Any], float]


def one_by_one(function: Callable[[Array], Array], batch: Array) -> Array:
    """The function of each matrix in turn."""
    return np.stack([function(a) for a in batch])


def symmetric(order: int, items: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Positive definite matrices with eigenvalues from 1 down to the spread, and their eigenvalues and vectors."""
    q = np.linalg.qr(rng.standard_normal((items, order, order)))[0]
    w = np.exp(-rng.random((items, order)) * np.log(_SPREAD))
    return (q * w[:, None, :]) @ q.swapaxes(1, 2), w, q


def general(order: int, items: int, rng: np.random.Generator) -> Array:
    """Gaussian matrices around 2 I, with eigenvalues in a disc of radius 1.2 around 2."""
    return 2 * np.eye(order) + 1.2 * rng.standard_normal((items, order, order)) / order**0.5


def distance(found: Any, exact: Array) -> float:
    """Largest relative distance in the Frobenius norm."""
    value = np.asarray(getattr(found, "value", found))
    return float((np.linalg.norm(value - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))).max())


def symmetric_cases(client: matfn.LocalClient, order: int, items: int, rng: np.random.Generator) -> Iterator[Case]:
    """Functions of symmetric positive definite matrices; the truth is by eigh of the numbers that are sent."""
    a, _, _ = symmetric(order, items, rng)
    t, shape = torch.from_numpy(a), f"{items} of {order}, symmetric"
    w, v = np.linalg.eigh(a)

    def exact(values: Array) -> Array:
        return (v * values[:, None, :]) @ v.swapaxes(1, 2)

    logs = {"scipy logm": partial(one_by_one, scipy.linalg.logm, a)}
    yield Case("log", shape, partial(client.with_info.log, a), logs, partial(distance, exact=exact(np.log(w))))
    yield Case(
        "exp",
        shape,
        partial(client.with_info.exp, a),
        {"scipy expm": partial(scipy.linalg.expm, a), "torch matrix_exp": partial(torch.linalg.matrix_exp, t)}
        | jax_expm(a),
        partial(distance, exact=exact(np.exp(w))),
    )
    powers = {"scipy fractional_matrix_power": partial(one_by_one, power_of, a)}
    yield Case(
        f"power {POWER}",
        shape,
        partial(client.with_info.power, a, POWER),
        powers,
        partial(distance, exact=exact(w**POWER)),
    )


def general_cases(client: matfn.LocalClient, order: int, items: int, rng: np.random.Generator) -> Iterator[Case]:
    """Functions of general matrices; the truth is by their eigenvectors."""
    a = general(order, items, rng)
    t, shape = torch.from_numpy(a), f"{items} of {order}, general"
    exact = {name: truths(name, a) for name in ("log", "exp", "power")}
    ask = partial(partial, structure="general")
    logs = {"scipy logm": partial(one_by_one, scipy.linalg.logm, a)}
    yield Case("log", shape, ask(client.with_info.log, a), logs, partial(distance, exact=exact["log"]))
    yield Case(
        "exp",
        shape,
        ask(client.with_info.exp, a),
        {"scipy expm": partial(scipy.linalg.expm, a), "torch matrix_exp": partial(torch.linalg.matrix_exp, t)}
        | jax_expm(a),
        partial(distance, exact=exact["exp"]),
    )
    powers = {"scipy fractional_matrix_power": partial(one_by_one, power_of, a)}
    yield Case(
        f"power {POWER}", shape, ask(client.with_info.power, a, POWER), powers, partial(distance, exact=exact["power"])
    )


def truths(name: str, a: Array) -> Array:
    """The functions of general matrices by eigenvectors, which are well conditioned here."""
    w, v = np.linalg.eig(a)
    function: dict[str, Callable[[Any], Any]] = {"log": np.log, "exp": np.exp, "power": lambda x: x**POWER}
    values = (v * function[name](w)[:, None, :]) @ np.linalg.inv(v)
    return np.ascontiguousarray(values.real)


def power_of(a: Array) -> Array:
    """The power by scipy."""
    return np.asarray(scipy.linalg.fractional_matrix_power(a, POWER))


def jax_expm(a: Array) -> dict[str, Callable[[], Any]]:
    """The exponential by jax, compiled for the batch; nothing where jax is not installed."""
    if not has_jax():
        return {}
    import jax

    jax.config.update("jax_enable_x64", True)  # noqa: FBT003 - the signature is jax's
    compiled = jax.jit(jax.vmap(jax.scipy.linalg.expm))
    put = jax.numpy.asarray(a)
    return {"jax expm": lambda: compiled(put).block_until_ready()}


def equation_cases(client: matfn.LocalClient, order: int, items: int, rng: np.random.Generator) -> Iterator[Case]:
    """Discrete equations of stable matrices with two inputs."""
    a = 0.9 * rng.standard_normal((items, order, order)) / order**0.5
    b = rng.standard_normal((items, order, 2))
    q, r = np.broadcast_to(np.eye(order), a.shape).copy(), np.broadcast_to(np.eye(2), (items, 2, 2)).copy()
    shape = f"{items} of {order}"

    def residual(found: Any) -> float:
        x = np.asarray(getattr(found, "value", found))
        gain = np.linalg.solve(r + b.swapaxes(1, 2) @ x @ b, b.swapaxes(1, 2) @ x @ a)
        left = a.swapaxes(1, 2) @ x @ a - x - a.swapaxes(1, 2) @ x @ b @ gain + q
        return float((np.linalg.norm(left, axis=(1, 2)) / np.linalg.norm(x, axis=(1, 2))).max())

    def scipys() -> Array:
        return np.stack([scipy.linalg.solve_discrete_are(*one) for one in zip(a, b, q, r, strict=True)])

    yield Case(
        "solve_dare",
        shape,
        partial(client.with_info.solve_dare, a, b, q, r),
        {"scipy solve_discrete_are": scipys},
        residual,
    )

    def stein(found: Any) -> float:
        x = np.asarray(getattr(found, "value", found))
        left = a @ x @ a.swapaxes(1, 2) - x + q
        return float((np.linalg.norm(left, axis=(1, 2)) / np.linalg.norm(x, axis=(1, 2))).max())

    def lyapunovs() -> Array:
        return np.stack([scipy.linalg.solve_discrete_lyapunov(*one) for one in zip(a, q, strict=True)])

    yield Case(
        "solve_discrete_lyapunov",
        shape,
        partial(client.with_info.solve_discrete_lyapunov, a, q),
        {"scipy solve_discrete_lyapunov": lyapunovs},
        stein,
    )


def rows(case: Case, rounds: int) -> Iterator[str]:
    """One row for matfn and one for each peer."""
    works = {"matfn": case.ours} | case.peers
    answers = {name: work() for name, work in works.items()}
    spent = timed(works, rounds)
    states = {str(one.outcome) for one in answers["matfn"].certificates}
    for name in works:
        error = f"{case.error(answers[name]):.0e}"
        words = f"{', '.join(sorted(states))}, {answers['matfn'].certificates[0].method}" if name == "matfn" else ""
        ratio = quotients(spent[name], spent["matfn"]) if name != "matfn" else ""
        cells = case.name, case.shape, name, f"{statistics.median(spent[name]):.1f}", error, ratio, words
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a row's function and batch: 'log, 1000 of 32, general'")
    asked = parser.parse_args()
    print(f"{provenance()}\n")
    print(f"Milliseconds a batch, medians of {asked.rounds} rounds; quotients within rounds, with their range.")
    print("" if has_jax() else "jax is not installed: it has no row.\n")
    print("| function | batch | who | ms | error | time over matfn's | certificates |\n|---|---|---|---|---|---|---|")
    functions, equations = ("log", "exp", f"power {POWER}"), ("solve_dare", "solve_discrete_lyapunov")
    cells = [
        *((functions, f"{items} of {order}, symmetric", symmetric_cases, (order, items)) for order, items in CELLS),
        *((functions, f"{items} of {order}, general", general_cases, (order, items)) for order, items in CELLS),
        *((equations, f"{items} of {order}", equation_cases, (order, items)) for order, items in EQUATIONS),
    ]
    with matfn.LocalClient() as client:
        for names, shape, cases, (order, items) in cells:
            if not any(asked.only in f"{name}, {shape}" for name in names):
                continue
            for case in cases(client, order, items, np.random.default_rng(order)):
                if asked.only in f"{case.name}, {case.shape}":
                    print("\n".join(rows(case, asked.rounds)), flush=True)


if __name__ == "__main__":
    main()
