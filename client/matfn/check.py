"""The self-test of a client's answers against float64 truth that is known by construction.

Every matrix is built from its spectrum and seeded orthogonal factors, so that its function is the same factors around
the function of the spectrum; nothing is computed that could be wrong in the same way. Only the triangular truths are
computed, by `numpy.linalg.solve` in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from matfn import call
from matfn.errors import MatfnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from matfn.invocation import Invocation
    from matfn.wire import Certificate
    from matfn.with_info import Asker

__all__ = ["DTYPES", "Case", "Verdict", "cases", "verdict_of", "verdicts"]

Array: TypeAlias = "NDArray[np.float64]"

DTYPES: Final = ("float32", "float64")

_BATCH: Final = 3
_ORDER: Final = 24
_CONDITION: Final = 100.0
_SLACK: Final = 50.0  # what a backward-stable method may lose beside the condition number, and the data's own rounding


@dataclass(frozen=True, slots=True)
class Case:
    """One call with its true outputs; `bound` is the relative error that is still right."""

    dtype: str
    invocation: Invocation[Any]
    truth: tuple[Array, ...]
    bound: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one case came out: its largest relative error, or the error raised instead of an answer."""

    case: Case
    error: float
    certificate: Certificate | None
    milliseconds: float
    problem: str = ""

    @property
    def right(self) -> bool:
        """Whether the answer is within the bound; NaN is not."""
        return self.error <= self.case.bound


def verdicts(client: Asker, chosen: Iterable[Case]) -> Iterator[Verdict]:
    """Asks the client for every case and judges each answer."""
    for case in chosen:
        yield verdict_of(client, case)


def verdict_of(client: Asker, case: Case) -> Verdict:
    """The verdict on one case; an error of the service is a wrong answer here."""
    try:
        answer = client.ask(case.invocation)
    except MatfnError as error:
        return Verdict(case, float("nan"), None, 0.0, str(error))
    values = answer.value if isinstance(answer.value, tuple) else (answer.value,)
    errors = [_distance(value, truth) for value, truth in zip(values, case.truth, strict=True)]
    return Verdict(case, float(np.max(errors)), answer.certificates[0], answer.timing.device_ms)


def _distance(value: Any, truth: Array) -> float:
    """The largest relative error of the batch, in the Frobenius norm."""
    if np.shape(value) != truth.shape:
        return float("nan")
    difference = np.linalg.norm(np.asarray(value, np.float64) - truth, axis=(-2, -1))
    return float(np.max(difference / np.linalg.norm(truth, axis=(-2, -1))))


def cases(seed: int = 0) -> list[Case]:
    """One case per function and dtype; the same matrices for the same seed."""
    rng = np.random.default_rng(seed)
    rows = [row for family in (_roots, _polar, _triangular, _low_rank) for row in family(rng)]
    return [_case(dtype, *row) for dtype in DTYPES for row in rows]


def _case(
    dtype: str, builder: Callable[..., Invocation[Any]], inputs: tuple[Array, ...], truth: tuple[Array, ...]
) -> Case:
    sent = [array.astype(dtype) for array in inputs]
    return Case(dtype, builder(*sent), truth, _SLACK * float(np.finfo(dtype).eps) * _CONDITION)


_Row: TypeAlias = "tuple[Callable[..., Invocation[Any]], tuple[Array, ...], tuple[Array, ...]]"


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    q, _ = np.linalg.qr(rng.standard_normal((_BATCH, rows, columns)))
    return np.asarray(q)


def _around(u: Array, spectrum: Array, v: Array) -> Array:
    """U diag(spectrum) V^T."""
    return np.asarray((u * spectrum) @ np.swapaxes(v, -1, -2))


def _solved(matrix: Array, right: Array) -> Array:
    return np.asarray(np.linalg.solve(matrix, right), np.float64)


def _roots(rng: np.random.Generator) -> list[_Row]:
    """Powers of symmetric positive definite matrices."""
    v = _orthogonal(rng, _ORDER, _ORDER)
    w = np.geomspace(1 / _CONDITION, 1, _ORDER)
    a, g = _around(v, w, v), rng.standard_normal((_BATCH, 7, _ORDER))
    halves = (_around(v, w**0.5, v), _around(v, w**-0.5, v))
    return [
        (lambda a: call.root(a, 3), (a,), (_around(v, w ** (1 / 3), v),)),
        (lambda a: call.inv_root(a, 4), (a,), (_around(v, w**-0.25, v),)),
        (lambda a, g: call.inv_root(a, 2, g=g), (a, g), (g @ halves[1],)),
        (call.sqrt_pair, (a,), halves),
    ]


def _polar(rng: np.random.Generator) -> list[_Row]:
    """Functions of singular values."""
    u, v = _orthogonal(rng, 2 * _ORDER, _ORDER), _orthogonal(rng, _ORDER, _ORDER)
    s = np.geomspace(1 / _CONDITION, 1, _ORDER)
    m = _around(u, s, v)
    return [
        (call.msign, (m,), (_around(u, np.ones_like(s), v),)),
        (lambda m: call.mclip(m, hi=0.5, lo=0.1), (m,), (_around(u, np.clip(s, 0.1, 0.5), v),)),
    ]


def _triangular(rng: np.random.Generator) -> list[_Row]:
    """Inverses and solutions; the noise above the diagonal must not be read."""
    noise = rng.standard_normal((_BATCH, _ORDER, _ORDER))
    t = np.tril(noise, -1) / _ORDER + np.eye(_ORDER)
    b = rng.standard_normal((_BATCH, _ORDER, 5))
    stored = t + np.triu(noise, 1)
    return [
        (call.tri_inv, (stored,), (_solved(t, np.broadcast_to(np.eye(_ORDER), t.shape)),)),
        (call.tri_solve, (stored, b), (_solved(t, b),)),
    ]


def _low_rank(rng: np.random.Generator) -> list[_Row]:
    """Diagonal plus strictly lower low-rank matrices."""
    diag = rng.uniform(1, 2, (_BATCH, _ORDER))
    q, k = rng.standard_normal((2, _BATCH, _ORDER, 4)) / _ORDER
    b = rng.standard_normal((_BATCH, _ORDER, 5))
    matrix = np.tril(q @ np.swapaxes(k, -1, -2), -1) + diag[..., None] * np.eye(_ORDER)
    inverse = _solved(matrix, np.broadcast_to(np.eye(_ORDER), matrix.shape))
    return [
        (call.dplr_inv, (diag, q, k), (inverse,)),
        (call.dplr_solve, (diag, q, k, b), (_solved(matrix, b),)),
    ]
