"""Claimed answers, right and wrong, with the truth in longdouble: what proofs are tried on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

import extended
from matfn_kernels.proofs import Bounds, bound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["SPECTRA", "Question", "claims", "definite", "errors", "power_of", "proved", "unitary"]

Array: TypeAlias = "NDArray[Any]"
_REAL: Final = {"complex64": "float32", "complex128": "float64"}
SPECTRA: Final = ("spread", "clustered", "half_small", "one_small")


@dataclass(frozen=True)
class Question:
    """A function of some matrices and its exact values in longdouble, complex ones embedded in real ones.

    Attributes:
        function: its name.
        inputs: its inputs by name.
        truths: the exact outputs, to within `uncertainty`, relative to their norms.
        parameters: its parameters by name.
        shift: what is added to the diagonal, (batch,), or None.
        uncertainty: how far rounding in longdouble leaves the truths open.
    """

    function: str
    inputs: Mapping[str, Array]
    truths: tuple[Array, ...]
    parameters: Mapping[str, object] = field(default_factory=dict)
    shift: Array | None = None
    uncertainty: float = 0.0


def unitary(rng: np.random.Generator, items: int, m: int, n: int, dtype: str) -> Array:
    """Orthonormal columns (items, m, n)."""
    x = rng.standard_normal((items, m, n))
    if dtype.startswith("complex"):
        x = x + 1j * rng.standard_normal((items, m, n))
    return np.asarray(np.linalg.qr(x)[0])


def spectrum(kind: str, n: int, kappa: float, rng: np.random.Generator) -> Array:
    """Values between 1 / kappa and 1."""
    if n == 1:
        return np.ones(1)
    if kind == "spread":
        return np.asarray(kappa ** -np.linspace(0, 1, n))
    if kind == "clustered":
        return np.asarray(kappa ** -rng.choice([0.0, 0.5, 1.0], n) * (1 + 1e-7 * rng.random(n)))
    small = n // 2 if kind == "half_small" else n - 1
    return np.where(np.arange(n) < small, 1.0, 1 / kappa)


def definite(rng: np.random.Generator, items: int, n: int, kappa: float, dtype: str, kind: str = "spread") -> Array:
    """Positive definite matrices (items, n, n) of about that condition."""
    q = unitary(rng, items, n, n, dtype)
    a = (q * spectrum(kind, n, kappa, rng)) @ np.conj(q.swapaxes(1, 2))
    return np.asarray((a + np.conj(a.swapaxes(1, 2))) / 2).astype(dtype)


def power_of(a: Array, exponent: float | np.longdouble, shift: Array | None = None) -> Array:
    """((A + A^H) / 2 + shift I)^exponent in longdouble, complex matrices embedded."""
    a = extended.wide(a)
    a = (a + a.swapaxes(1, 2)) / 2
    if shift is not None:
        a = a + shift[:, None, None] * np.eye(a.shape[-1], dtype=np.longdouble)
    with np.errstate(divide="ignore", invalid="ignore"):
        return extended.function_of(a, lambda w: np.maximum(w, 0) ** np.longdouble(exponent))


def claims(question: Question, dtype: str, rng: np.random.Generator) -> Iterator[tuple[Array, ...]]:
    """Claimed outputs: the truth rounded, perturbed by known amounts in several ways, and plainly wrong ones."""
    truths = tuple(_unembedded(np.nan_to_num(truth, posinf=0, neginf=0), dtype) for truth in question.truths)
    eps = float(np.finfo(_REAL.get(dtype, dtype)).eps)
    yield _cast(truths, dtype)
    for number, size in enumerate((eps, 30 * eps, 1e3 * eps, 1e-3, 0.1)):
        for noise in ((_noise, _symmetric_noise), (_one_entry, _relative_noise))[number % 2]:
            yield _cast(tuple(noise(truth, size, rng) for truth in truths), dtype)
    for wrong in (np.negative, lambda x: x * 2, lambda x: x * (1 + 1e-2), _turned, np.zeros_like, _powered):
        yield _cast(tuple(wrong(truth) for truth in truths), dtype)


def _cast(outputs: tuple[Array, ...], dtype: str) -> tuple[Array, ...]:
    with np.errstate(all="ignore"):
        return tuple(output.astype(dtype) for output in outputs)


def _unembedded(x: Array, dtype: str) -> Array:
    if not dtype.startswith("complex"):
        return x
    m, n = x.shape[-2] // 2, x.shape[-1] // 2
    return np.asarray(x[:, :m, :n] + 1j * x[:, m:, :n])


def _sized(x: Array, error: Array, size: float) -> Array:
    axes = (-2, -1)
    return np.asarray(x + error * size * np.sqrt((abs(x) ** 2).sum(axes) / (abs(error) ** 2).sum(axes))[:, None, None])


def _noise(x: Array, size: float, rng: np.random.Generator) -> Array:
    return _sized(x, rng.standard_normal(x.shape), size)


def _symmetric_noise(x: Array, size: float, rng: np.random.Generator) -> Array:
    error = rng.standard_normal(x.shape)
    return _sized(x, error + error.swapaxes(1, 2) if x.shape[1] == x.shape[2] else error, size)


def _one_entry(x: Array, size: float, rng: np.random.Generator) -> Array:
    error = np.zeros(x.shape)
    error[:, rng.integers(x.shape[1]), rng.integers(x.shape[2])] = 1
    return _sized(x, error, size)


def _relative_noise(x: Array, size: float, rng: np.random.Generator) -> Array:
    return np.asarray(x * (1 + size * rng.standard_normal(x.shape)))


def _turned(x: Array) -> Array:
    return np.asarray(x[:, ::-1])


def _powered(x: Array) -> Array:
    return np.asarray(x @ x if x.shape[1] == x.shape[2] else x * abs(x))


def proved(question: Question, outputs: tuple[Array, ...]) -> Bounds:
    """The bounds of claimed outputs."""
    return bound(
        question.function,
        {name: torch.from_numpy(x) for name, x in question.inputs.items()},
        question.parameters,
        [torch.from_numpy(output) for output in outputs],
        None if question.shift is None else torch.from_numpy(question.shift),
    )


def errors(question: Question, outputs: tuple[Array, ...]) -> Array:
    """True relative errors, of pairs the larger, infinite where there is no truth, (batch,)."""
    with np.errstate(all="ignore"):
        distances = [extended.distance(x, truth) for x, truth in zip(outputs, question.truths, strict=True)]
    return np.asarray(np.nan_to_num(np.max(distances, axis=0), nan=np.inf))
