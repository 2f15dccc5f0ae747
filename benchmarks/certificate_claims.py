"""Claimed answers by numpy and SciPy, right and planted wrong, as verification judges them with estimates and proofs.

Right answers count as accepted where their certificate is converged, and wrong ones as rejected where it is not. A
violation is an estimate or a bound below the known size of a planted perturbation. The same seed gives the same claims.

    python benchmarks/certificate_claims.py > benchmarks/results/claims.md
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import scipy.linalg
import torch

from matfn_kernels import (
    FUNCTIONS,
    Certificate,
    Limits,
    Outcome,
    batch_of,
    evaluate,
    load_profile,
    make_plan,
    parse_call,
    screen,
)
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["Judged", "judged", "table"]

Array: TypeAlias = "NDArray[Any]"
Inputs: TypeAlias = "dict[str, Array]"

_ORDERS: Final = (2, 5, 12, 30)
_PERTURBATIONS: Final = (1e-2, 1e-6)
_NOTICED: Final = 0.99
"""Part of a perturbation that a right answer's own error leaves at least."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One claim with its certificate.

    Attributes:
        function: the function whose answer is claimed.
        certify: estimate or proved.
        kind: right, or how it is wrong.
        error: known relative error of a perturbed claim, 0 where none is known.
        certificate: by verification.
    """

    function: str
    certify: str
    kind: str
    error: float
    certificate: Certificate

    @property
    def accepted(self) -> bool:
        """Whether the certificate is converged."""
        return self.certificate.outcome is Outcome.CONVERGED

    @property
    def violates(self) -> bool:
        """Whether the estimate or the bound is below the known error."""
        stated = (self.certificate.error_estimate, self.certificate.error_bound)
        return any(one is not None and one < _NOTICED * self.error for one in stated)


def _positive(n: int, rng: np.random.Generator) -> Array:
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a: Array = (q * np.geomspace(1e-3, 1, n)) @ q.T
    return (a + a.T) / 2


def _power(a: Array, exponent: float) -> Array:
    w, v = np.linalg.eigh(a)
    power: Array = (v * w**exponent) @ v.T
    return power


def _drawn(n: int, rng: np.random.Generator) -> dict[str, tuple[Inputs, dict[str, Any], Array, Array]]:
    """Inputs, parameters, the right answer and that of another power or side, by function."""
    a, m, b = _positive(n, rng), rng.standard_normal((n + 2, n)), rng.standard_normal((n, 3))
    u, s, vh = np.linalg.svd(m, full_matrices=False)
    t, stable, q = np.tril(rng.standard_normal((n, n))) / n + np.eye(n), a + np.eye(n), _positive(n, rng)
    inverse = scipy.linalg.solve_triangular(t, np.eye(n), lower=True)
    indefinite = a - 0.1 * np.eye(n)
    w, v = np.linalg.eigh(indefinite)
    return {
        "root": ({"a": a}, {"r": 3}, _power(a, 1 / 3), _power(a, 1 / 2)),
        "inv_root": ({"a": a}, {"r": 4}, _power(a, -1 / 4), _power(a, -1 / 2)),
        "msign": ({"m": m}, {}, u @ vh, m),
        "mclip": ({"m": m}, {"hi": 0.5}, (u * np.minimum(s, 0.5)) @ vh, (u * np.minimum(s, 0.4)) @ vh),
        "eig_clip": ({"a": indefinite}, {"lo": 0.0}, (v * np.maximum(w, 0)) @ v.T, (v * np.minimum(w, 0)) @ v.T),
        "tri_inv": ({"t": t}, {}, inverse, inverse.T),
        "tri_solve": ({"t": t, "b": b}, {}, inverse @ b, inverse.T @ b),
        "solve_sylvester": (
            {"a": stable, "b": stable, "q": q},
            {},
            scipy.linalg.solve_sylvester(stable, stable, q),
            scipy.linalg.solve_sylvester(stable, 2 * stable, q),
        ),
        "solve_lyapunov": (
            {"a": t, "q": q},
            {},
            scipy.linalg.solve_continuous_lyapunov(t, q),
            scipy.linalg.solve_continuous_lyapunov(t.T, q),
        ),
    }


def _claims(right: Array, other: Array, rng: np.random.Generator) -> Iterator[tuple[str, float, Array]]:
    """Kind and known error of each claim."""
    yield "right", 0.0, right
    yield "another power or side", 0.0, other
    yield "sign", 0.0, -right
    noise = rng.standard_normal(right.shape)
    for size in _PERTURBATIONS:
        yield f"off by {size:g}", size, right + size * np.linalg.norm(right) / np.linalg.norm(noise) * noise


def _certificate(function: str, claim: Array, inputs: Inputs, parameters: dict[str, Any], certify: str) -> Certificate:
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in {"x": claim, **inputs}.items()}
    call = screen(parse_call(f"verify/{function}", tensors, parameters, {"certify": certify}, Limits()))
    plan = make_plan(call, load_profile())
    (certificate,) = evaluate(plan.program, batch_of(call), plan.backends).certificates
    return certificate


def judged(seed: int, orders: Iterable[int] = _ORDERS) -> Iterator[Judged]:
    """All claims of a seed, with estimates and, where there are proofs, with bounds."""
    rng = np.random.default_rng(seed)
    for order in orders:
        for function, (inputs, parameters, right, other) in _drawn(order, rng).items():
            ways = ("estimate", "proved") if FUNCTIONS[function].verifiability == "bound" else ("estimate",)
            for kind, error, claim in _claims(right, other, rng):
                for certify in ways:
                    found = _certificate(function, claim, inputs, parameters, certify)
                    yield Judged(function, certify, kind, error, found)


def table(found: Iterable[Judged]) -> Iterator[str]:
    """Rows of the table, by function and kind of certificate."""
    groups: defaultdict[tuple[str, str], list[Judged]] = defaultdict(list)
    for one in found:
        groups[one.function, one.certify].append(one)
    yield "| function | certify | right | accepted | wrong | rejected | with a bound | violations |"
    yield "|---" * 8 + "|"
    for names, listed in groups.items():
        yield f"| {' | '.join((*names, *map(str, _counts(listed))))} |"


def _counts(listed: list[Judged]) -> tuple[int, ...]:
    right, wrong = ([one for one in listed if (one.kind == "right") is wanted] for wanted in (True, False))
    return (
        len(right),
        sum(one.accepted for one in right),
        len(wrong),
        sum(not one.accepted for one in wrong),
        sum(one.certificate.error_bound is not None for one in listed),
        sum(one.violates for one in listed),
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [one for number in range(arguments.rounds) for one in judged(arguments.seed + number)]
    print(f"{provenance()}\n")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
