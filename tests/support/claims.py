"""Claimed answers, right and wrong, with the truth in longdouble: what proofs are tried on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

import extended
from matfn_kernels.proofs import Bounds, bound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

__all__ = [
    "LEFT_OPEN",
    "Question",
    "claims",
    "clip_of_eigenvalues",
    "clip_of_values",
    "definite",
    "errors",
    "function_of",
    "low_rank",
    "pair",
    "polar_factors",
    "power",
    "proved",
    "rectangular",
    "repeated",
    "triangle",
    "unitary",
]

Array: TypeAlias = "NDArray[Any]"
_REAL: Final = {"complex64": "float32", "complex128": "float64"}
LEFT_OPEN: Final = 16 * float(np.finfo(np.longdouble).eps)
"""Error of the truths in units of the condition."""


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


def rectangular(rng: np.random.Generator, shape: tuple[int, int, int], kappa: float, dtype: str, kind: str) -> Array:
    """Matrices of a shape (items, m, n), of full rank and about that condition."""
    items, m, n = shape
    least = min(m, n)
    u, v = unitary(rng, items, m, least, dtype), unitary(rng, items, n, least, dtype)
    return np.asarray((u * spectrum(kind, least, kappa, rng)) @ np.conj(v.swapaxes(1, 2))).astype(dtype)


def power(function: str, r: int, s: int, a: Array, kappa: float) -> Question:
    """The power of positive definite matrices."""
    sign = -1 if function == "inv_root" else 1
    truth = _power_of(a, sign * np.longdouble(s) / r)
    return Question(function, {"a": a}, (truth,), {"r": r, "s": s}, uncertainty=LEFT_OPEN * kappa * max(1.0, s / r))


def function_of(
    name: str, a: Array, f: Callable[[Array], Array], kappa: float, parameters: Mapping[str, object], **more: Array
) -> Question:
    """A function of the eigenvalues of A, or of A + shift I, multiplied from the left by g if that is given.

    Args:
        name: of the function.
        a: symmetric matrices.
        f: of eigenvalues in longdouble.
        kappa: the function's condition.
        parameters: by name.
        more: shift and g.
    """
    shift, g = more.get("shift"), more.get("g")
    whole = extended.wide(a)
    whole = (whole + whole.swapaxes(1, 2)) / 2
    if shift is not None:
        whole = whole + shift[:, None, None] * np.eye(whole.shape[-1], dtype=np.longdouble)
    with np.errstate(all="ignore"):
        truth = extended.function_of(whole, f)
    inputs = {"a": a} if g is None else {"a": a, "g": g}
    truth = truth if g is None else extended.wide(g) @ truth
    return Question(name, inputs, (truth,), parameters, shift, LEFT_OPEN * kappa)


def pair(a: Array, kappa: float, shift: Array) -> Question:
    """Both square roots of positive definite A + shift I."""
    truths = tuple(_power_of(a, np.longdouble(sign) / 2, shift) for sign in (1, -1))
    return Question("sqrt_pair", {"a": a}, truths, shift=shift, uncertainty=LEFT_OPEN * kappa)


def _power_of(a: Array, exponent: np.longdouble, shift: Array | None = None) -> Array:
    """((A + A^H) / 2 + shift I)^exponent in longdouble, complex matrices embedded."""
    a = extended.wide(a)
    a = (a + a.swapaxes(1, 2)) / 2
    if shift is not None:
        a = a + shift[:, None, None] * np.eye(a.shape[-1], dtype=np.longdouble)
    with np.errstate(divide="ignore", invalid="ignore"):
        return extended.function_of(a, lambda w: np.maximum(w, 0) ** exponent)


def polar_factors(m: Array, kappa: float) -> tuple[Question, Question]:
    """msign, and for no fewer rows than columns polar, of matrices of full rank."""
    u, s, vt = _svd(m)
    unitary_factor, modulus = _turned_back(m, u @ vt), (vt.swapaxes(1, 2) * s[:, None, :]) @ vt
    open_ = LEFT_OPEN * kappa
    sign = Question("msign", {"m": m}, (unitary_factor,), uncertainty=open_)
    return sign, Question("polar", {"m": m}, (unitary_factor, modulus), uncertainty=open_)


def clip_of_values(m: Array, hi: float | None) -> Question:
    """Mclip with lo = 0."""
    u, s, vt = _svd(m)
    clipped = s if hi is None else np.minimum(s, np.longdouble(hi))
    truth = _turned_back(m, (u * clipped[:, None, :]) @ vt)
    return Question("mclip", {"m": m}, (truth,), {"hi": hi, "lo": 0.0}, uncertainty=LEFT_OPEN / min(hi or 1.0, 1.0))


def clip_of_eigenvalues(a: Array, lo: float | None, hi: float | None) -> Question:
    """eig_clip."""
    a_wide = extended.wide(a)
    a_wide = (a_wide + a_wide.swapaxes(1, 2)) / 2
    least, most = (np.longdouble(x if x is not None else side * np.inf) for x, side in ((lo, -1), (hi, 1)))
    truth = extended.function_of(a_wide, lambda w: np.clip(w, least, most))
    return Question("eig_clip", {"a": a}, (truth,), {"lo": lo, "hi": hi}, uncertainty=LEFT_OPEN * 10)


def triangle(t: Array, b: Array | None, *, lower: bool, unit: bool = False, transpose: bool = False) -> Question:
    """tri_inv, or tri_solve with B."""
    read = np.tril(t) if lower else np.triu(t)
    if unit:
        read[:, range(t.shape[-1]), range(t.shape[-1])] = 1
    inverse = extended.inverse(_longest(read), lower=lower)
    open_ = LEFT_OPEN * float(np.linalg.cond(read.astype(np.complex128)).max())
    shared = {"lower": lower, "unit_diagonal": unit}
    if b is None:
        return Question("tri_inv", {"t": t}, (extended.embedded(inverse),), shared, uncertainty=open_)
    solution = extended.embedded((inverse.swapaxes(1, 2) if transpose else inverse) @ _longest(b))
    return Question("tri_solve", {"t": t, "b": b}, (solution,), {**shared, "transpose": transpose}, uncertainty=open_)


def low_rank(factors: tuple[Array, Array, Array], b: Array | None, *, transpose: bool = False) -> Question:
    """dplr_inv, or dplr_solve with B."""
    diag, q, k = map(_longest, factors)
    t = np.tril(q @ k.swapaxes(1, 2), -1) + diag[:, :, None] * np.eye(diag.shape[-1], dtype=np.longdouble)
    solved = triangle(t, b, lower=True, transpose=transpose)
    given = dict(zip(("diag", "q", "k"), factors, strict=True))
    if b is None:
        return Question("dplr_inv", given, solved.truths, uncertainty=solved.uncertainty)
    return Question("dplr_solve", {**given, "b": b}, solved.truths, {"transpose": transpose}, None, solved.uncertainty)


def _longest(x: Array) -> Array:
    """X in longdouble, real or complex."""
    return x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble)


def _svd(m: Array) -> tuple[Array, Array, Array]:
    """U, S, V^T of M, or of M^T where it has more columns than rows."""
    m = extended.wide(m)
    return extended.svd(m if m.shape[1] >= m.shape[2] else m.swapaxes(1, 2))


def _turned_back(m: Array, x: Array) -> Array:
    return x if m.shape[1] >= m.shape[2] else x.swapaxes(1, 2)


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


def repeated(question: Question, times: int) -> Question:
    """The matrices so many times over, for as many claims about each in one call."""

    def over(x: Array) -> Array:
        return np.concatenate([x] * times)

    inputs = {name: over(x) for name, x in question.inputs.items()}
    truths = tuple(over(truth) for truth in question.truths)
    return replace(
        question, inputs=inputs, truths=truths, shift=None if question.shift is None else over(question.shift)
    )


def errors(question: Question, outputs: tuple[Array, ...]) -> Array:
    """True relative errors, of pairs the larger, infinite where there is no truth, (batch,)."""
    with np.errstate(all="ignore"):
        distances = [extended.distance(x, truth) for x, truth in zip(outputs, question.truths, strict=True)]
    return np.asarray(np.nan_to_num(np.max(distances, axis=0), nan=np.inf))
