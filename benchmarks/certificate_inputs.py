"""Inputs of the study of certificates: matrices by their spectra, and the arguments that are sent with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from matfn_kernels import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["BASES", "ORDERS", "SPECTRA", "Sample", "arguments_of", "cast", "numbers", "sample"]

Array: TypeAlias = "NDArray[Any]"
Generator: TypeAlias = np.random.Generator

ORDERS: Final = {1: 24, 2: 48, 3: 48, 4: 48, 5: 32, 6: 32, 8: 32, 12: 24, 16: 16, 24: 12, 33: 8, 64: 3, 128: 1}
"""Orders and how many matrices of each are computed together."""
SPECTRA: Final = ("geometric", "clustered", "half_small", "rank_deficient", "threshold", "few_small", "one_large")
BASES: Final = ("random", "coordinate", "hidden")
"""The last two set the vectors of the extreme values: coordinate directions, or vectors that sums and alternating sums
of the entries do not see."""
_HALF: Final = {"float16", "bfloat16"}


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs of one shape.

    Attributes:
        inputs: tensors by name, (batch, ...).
        kinds: what each item is, in words.
        factors: of covariances S = F F^T, or P, its inverse and d of a general A = P diag(d) P^-1, without rounding.
    """

    inputs: dict[str, torch.Tensor]
    kinds: tuple[str, ...]
    factors: tuple[Array, ...] = ()


def numbers(x: torch.Tensor) -> Array:
    """The tensor's numbers in float64 or complex128, which hold them exactly."""
    return x.to(torch.complex128 if x.is_complex() else torch.float64).numpy()


def cast(a: Array, dtype: str) -> torch.Tensor:
    """The array in a dtype."""
    real = a if dtype.startswith("complex") else a.real
    return torch.as_tensor(np.ascontiguousarray(real)).to(getattr(torch, dtype))


def sample(function: str, dtype: str, order: int, rng: Generator) -> Sample:
    """Random inputs of a function."""
    return _SAMPLERS[function](dtype, order, ORDERS[order], rng)


def arguments_of(function: str, dtype: str, rng: Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random parameters and options of a call but for its method; half of the calls have the default options."""
    parameters = {name: choices[rng.integers(len(choices))] for name, choices in _CHOICES.get(function, {}).items()}
    parameters = {name: value for name, value in parameters.items() if value is not None}
    return parameters, _options(dtype, rng)


def _options(dtype: str, rng: Generator) -> dict[str, Any]:
    options: dict[str, Any] = {"on_failure": "nan"}
    eps = torch.finfo(getattr(torch, dtype)).eps
    chosen = rng.integers(8)
    if chosen >= 6:  # noqa: PLR2004 - a quarter of the calls
        options["tol"] = float(max(2 * eps, 10.0 ** rng.uniform(-14, -1)))
    if chosen in {4, 5, 7}:
        options["precision"] = ("bf16", "fp32", "fp32", "fp64")[rng.integers(4)]
    return options


_POWERS: Final = {
    "r": (1, 2, 2, 2, 3, 4, 4, 8),
    "s": (1, 1, 1, 1, 2, 3, 5),
    "damping": (None, None, 0.0, 0.0, 1e-6, 1e-3, "range"),
    "structure": (*(None,) * 7, "general"),
}
_CHOICES: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "root": _POWERS,
    "inv_root": _POWERS,
    "sqrt_pair": {name: _POWERS[name] for name in ("damping", "structure")},
    "mclip": {"hi": (1.0, 0.3, 0.3, 1e-3, 2.0), "lo": (0.0, 0.0, 1e-3, 1e-4)},
    "msign": {"steps": (None,) * 9 + (8,)},
    "log": {name: _POWERS[name] for name in ("damping", "structure")},
    "exp": {"t": (1.0, 1.0, -1.0, 0.1, 20.0), "structure": _POWERS["structure"]},
    "power": {
        "p": (0.5, -0.5, 0.3, -0.25, 1.7, -2.4, 0.999, 10.5, -9.25, 0, 1, 2, -1, 3, -7),
        **{name: _POWERS[name] for name in ("damping", "structure")},
    },
    "spectral_projector": {"half": ("right", "left")},
    "tri_inv": {"lower": (True, False), "unit_diagonal": (False, False, True)},
    "tri_solve": {"lower": (True, False), "unit_diagonal": (False, False, True), "transpose": (True, False)},
    "dplr_solve": {"transpose": (True, False)},
    "eig_clip": {"lo": (None, 0.0, 1e-3, -0.2), "hi": (None, 0.3, 1.0)},
    "geometric_mean": {"t": (0.5, 0.5, 0.5, 0.0, 0.2, 0.9, 1.0, -1.0, 2.5)},
    "eigenbasis": {"order": ("previous", "ascending", "descending")},
    "max_logit": {"causal": (True, False), "scale": (None, 0.3)},
    "qk_clip": {"tau": (100.0, 7.0)},
    "delta_rule": {"chunk": (1, 4, 64)},
}


def _spectrum(kind: str, count: int, condition: float, eps: float, rng: Generator) -> Array:
    """Values from 1 downwards."""
    t = np.linspace(0, 1, count)
    if kind == "clustered":
        return np.asarray(condition ** -(np.round(2 * t) / 2) * (1 + 1e-9 * rng.random(count)))
    if kind in {"half_small", "one_large"}:
        return np.where(np.arange(count) < (1 if kind == "one_large" else count / 2), 1, 1 / condition)
    if kind == "few_small":
        return np.where(np.arange(count) < count - rng.integers(1, 3), 1 - t / 2, 1 / condition)
    values = min(condition, 1e3 if kind != "geometric" else condition) ** -t
    few = np.arange(count) >= max(1, count - int(rng.integers(1, max(2, count // 2))))
    if kind == "threshold":
        return np.where(few, 8 * eps * (1 + 10.0 ** rng.uniform(-4, 0) * rng.choice([-1, 1], count)), values)
    return np.where(few & (kind == "rank_deficient"), 0, values)


def _basis(kind: str, count: int, rows: int, columns: int, rng: Generator, *, is_complex: bool) -> Array:
    """Orthonormal columns (count, rows, columns), the two extreme ones as the kind says."""
    x = rng.standard_normal((count, rows, columns)) + 0j
    if is_complex:
        x = x + 1j * rng.standard_normal(x.shape)
    extremes = (0, columns - 1)
    if kind == "coordinate":
        for at, column in enumerate(dict.fromkeys(extremes)):
            x[:, :, column] = 0
            x[:, (at * 7 + rng.integers(rows)) % rows if at == 0 else 0, column] += 1
    if kind == "hidden" and rows > 2:  # noqa: PLR2004 - there is a vector that neither sum sees
        seen = np.stack([np.ones(rows), (-1.0) ** np.arange(rows)], -1)
        for column in dict.fromkeys(extremes):
            x[:, :, column] -= x[:, :, column] @ np.linalg.pinv(seen).T @ seen.T
    return _leading(x, extremes)


def _leading(x: Array, extremes: tuple[int, int]) -> Array:
    """Q of the QR factors with the extreme columns first, each column back in its place."""
    columns = x.shape[-1]
    order = list(dict.fromkeys((extremes[1], extremes[0], *range(columns))))
    q = np.linalg.qr(x[:, :, order])[0]
    return np.asarray(q[:, :, np.argsort(order)])


@dataclass(frozen=True, slots=True)
class _Kinds:
    """What each item of a batch is."""

    spectra: tuple[str, ...]
    bases: tuple[str, ...]
    conditions: tuple[float, ...]

    @classmethod
    def drawn(cls, items: int, eps: float, rng: Generator) -> _Kinds:
        """Kinds and conditions, most of which the dtype can hold."""
        most = 1 - np.log10(eps)
        return cls(
            tuple(rng.choice(SPECTRA, items)),
            tuple(rng.choice(BASES, items, p=[0.6, 0.2, 0.2])),
            tuple(float(10**x) for x in rng.uniform(0, 1, items) ** 1.3 * most),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """In words."""
        rows = zip(self.spectra, self.bases, self.conditions, strict=True)
        return tuple(f"{spectrum}, {basis}, {condition:.0e}" for spectrum, basis, condition in rows)

    def values(self, count: int, eps: float, rng: Generator) -> Array:
        """Spectra (items, count)."""
        pairs = zip(self.spectra, self.conditions, strict=True)
        return np.stack([_spectrum(kind, count, condition, eps, rng) for kind, condition in pairs])

    def vectors(self, rows: int, columns: int, rng: Generator, *, is_complex: bool) -> Array:
        """Orthonormal columns (items, rows, columns)."""
        return np.concatenate([_basis(kind, 1, rows, columns, rng, is_complex=is_complex) for kind in self.bases])


def _scales(items: int, dtype: str, rng: Generator) -> Array:
    spread = 1.0 if dtype in _HALF else 4.0
    scales = 10 ** rng.uniform(-spread, spread, items)
    return np.asarray(np.where(rng.random(items) < 0.5, 1, scales))[:, None, None]  # noqa: PLR2004 - half of them


def _eps(dtype: str) -> float:
    return float(torch.finfo(getattr(torch, dtype)).eps)


def _hermitian(values: Array, q: Array) -> Array:
    a = (q * values[:, None, :]) @ np.conj(np.swapaxes(q, -1, -2))
    return np.asarray((a + np.conj(np.swapaxes(a, -1, -2))) / 2)


def _positive(dtype: str, order: int, items: int, rng: Generator, kinds: _Kinds | None = None) -> tuple[Array, _Kinds]:
    kinds = kinds or _Kinds.drawn(items, _eps(dtype), rng)
    q = kinds.vectors(order, order, rng, is_complex=dtype.startswith("complex"))
    return _hermitian(kinds.values(order, _eps(dtype), rng), q) * _scales(items, dtype, rng), kinds


def _root(
    dtype: str, order: int, items: int, rng: Generator, *, takes_g: bool = True, near_one: bool = False
) -> Sample:
    if dtype not in _HALF and order <= 8 and rng.random() < 0.12:  # noqa: PLR2004 - one call in eight
        return _unimodular(dtype, order, items, rng)
    a, kinds = _positive(dtype, order, items, rng)
    if near_one and rng.random() < 0.2 and dtype not in _HALF:  # noqa: PLR2004 - a fifth of the calls
        a = np.eye(order) + 10.0 ** rng.uniform(-6, -1) * a / np.abs(a).max((-2, -1), keepdims=True)
    inputs = {"a": cast(a, dtype)}
    if takes_g and rng.random() < 0.25:  # noqa: PLR2004 - a quarter of the calls
        rows = int(rng.integers(1, order + 2))
        inputs["g"] = cast(rng.standard_normal((items, rows, order)) + 0j, dtype)
    return Sample(inputs, kinds.names)


def _unimodular(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    """Matrices P diag(d) P^-1 of integers, P of determinant 1, far from normal."""
    shape = (items, order, order)
    lower, upper = (np.tril(rng.integers(-1, 2, shape) * (rng.random(shape) < 0.4), -1) for _ in range(2))  # noqa: PLR2004
    one = np.eye(order)
    p = (one + lower) @ np.swapaxes(one + upper, -1, -2)
    inverse = np.rint(np.linalg.inv(p))
    d = rng.integers(1, 10 ** rng.integers(1, 4), (items, order)).astype(float)
    a = (p * d[:, None, :]) @ inverse
    fits = np.abs(a).max((-2, -1)) < 2 / _eps(dtype)
    keep = fits[:, None, None]
    p, inverse, a = np.where(keep, p, one), np.where(keep, inverse, one), np.where(keep, a, d[:, None, :] * one)
    return Sample({"a": cast(a, dtype)}, ("unimodular",) * items, (p, inverse, d))


def _exponent(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    """Matrices from tiny to so large that their exponentials span the range of float32, or of half precision."""
    largest = 1.0 if dtype in _HALF else 80.0
    if dtype not in _HALF and order <= 8 and rng.random() < 0.12:  # noqa: PLR2004 - as the roots'
        given = _unimodular(dtype, order, items, rng)
        p, inverse, d = given.factors
        small = 2.0 ** -np.ceil(np.log2(d.max(-1) / 8))
        scaled = numbers(given.inputs["a"]) * small[:, None, None]
        return Sample({"a": cast(scaled, dtype)}, given.kinds, (p, inverse, d * small[:, None]))
    given = _indefinite(dtype, order, items, rng)
    a = numbers(given.inputs["a"]) * largest * 10 ** rng.uniform(-6, 0, (items, 1, 1))
    return Sample({"a": cast(a, dtype)}, given.kinds)


def _pair(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    return _root(dtype, order, items, rng, takes_g=False)


def _rectangular(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    rows, columns = order, max(1, int(order * rng.choice([1, 1, 1, 0.5, 0.25])))
    kinds = _Kinds.drawn(items, _eps(dtype), rng)
    is_complex = dtype.startswith("complex")
    u = kinds.vectors(rows, columns, rng, is_complex=is_complex)
    v = kinds.vectors(columns, columns, rng, is_complex=is_complex)
    m = (u * kinds.values(columns, _eps(dtype), rng)[:, None, :]) @ np.conj(np.swapaxes(v, -1, -2))
    m = m * _scales(items, dtype, rng)
    return Sample({"m": cast(np.swapaxes(m, -1, -2) if rng.random() < 0.3 else m, dtype)}, kinds.names)  # noqa: PLR2004


def _indefinite(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    kinds = _Kinds.drawn(items, _eps(dtype), rng)
    q = kinds.vectors(order, order, rng, is_complex=dtype.startswith("complex"))
    values = kinds.values(order, _eps(dtype), rng) * rng.choice([-1, 1], (items, order))
    return Sample({"a": cast(_hermitian(values, q), dtype)}, kinds.names)


def _with_basis(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    """Matrices with orthonormal bases, from their own to any."""
    given = _indefinite(dtype, order, items, rng)
    v = np.linalg.eigh(numbers(given.inputs["a"]))[1] + 0j
    noise = rng.standard_normal(v.shape) * 10.0 ** rng.uniform(-6, 1, (items, 1, 1))
    q = np.linalg.qr(v if rng.random() < 0.2 else v @ (np.eye(order) + noise - np.swapaxes(noise, -1, -2)))[0]  # noqa: PLR2004
    return Sample(given.inputs | {"q": cast(q, dtype)}, given.kinds)


def _means(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    a, kinds = _positive(dtype, order, items, rng)
    b, _ = _positive(dtype, order, items, rng, kinds if rng.random() < 0.5 else None)  # noqa: PLR2004
    return Sample({"a": cast(a, dtype), "b": cast(b, dtype)}, kinds.names)


def _gaussians(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    """Covariances F F^T without rounding, the second one often near the first."""
    bits = {"float16": 3, "bfloat16": 2, "float32": 8, "float64": 22, "complex64": 8, "complex128": 22}[dtype]
    kinds, is_complex = _Kinds.drawn(items, _eps(dtype), rng), dtype.startswith("complex")
    vectors = kinds.vectors(order, order, rng, is_complex=is_complex)
    factor = (vectors if is_complex else vectors.real) * np.sqrt(kinds.values(order, _eps(dtype), rng))[:, None]
    near = factor + 10.0 ** rng.uniform(-6, 0, (items, 1, 1)) * _gaussian(factor.shape, rng, is_complex=is_complex)
    factors = tuple(np.round(f / np.abs(f).max((-2, -1), keepdims=True) * 2**bits) / 2**bits for f in (factor, near))
    s1, s2 = (f @ np.conj(np.swapaxes(f, -1, -2)) for f in factors)
    mu1, mu2 = _gaussian((2, items, order), rng, is_complex=is_complex) * (rng.random((items, 1)) < 0.5)  # noqa: PLR2004
    inputs = {"mu1": mu1, "s1": s1, "mu2": mu2, "s2": s2}
    return Sample({name: cast(array, dtype) for name, array in inputs.items()}, kinds.names, factors)


def _general(order: int, items: int, values: Array, rng: Generator, *, is_complex: bool = False) -> Array:
    """Matrices with those eigenvalues, from normal to far from it."""
    upper = np.triu(_gaussian((items, order, order), rng, is_complex=is_complex), 1)
    t = upper * 10 ** rng.uniform(-2, 0.5, (items, 1, 1)) + values[:, None, :] * np.eye(order)
    q = np.linalg.qr(_gaussian((items, order, order), rng, is_complex=is_complex))[0]
    return np.asarray(q @ t @ np.conj(np.swapaxes(q, -1, -2)))


def _gaussian(shape: tuple[int, ...], rng: Generator, *, is_complex: bool) -> Array:
    real: Array = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape) if is_complex else real


def _signed(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    kinds, is_complex = _Kinds.drawn(items, _eps(dtype), rng), dtype.startswith("complex")
    values = kinds.values(order, _eps(dtype), rng) * rng.choice([-1, 1], (items, order))
    return Sample({"a": cast(_general(order, items, values, rng, is_complex=is_complex), dtype)}, kinds.names)


def _sylvester(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    kinds, is_complex = _Kinds.drawn(items, _eps(dtype), rng), dtype.startswith("complex")
    other = max(1, order - int(rng.integers(0, 2)))
    a = _general(order, items, kinds.values(order, _eps(dtype), rng), rng, is_complex=is_complex)
    b = _general(other, items, kinds.values(other, _eps(dtype), rng), rng, is_complex=is_complex)
    q = _gaussian((items, order, other), rng, is_complex=is_complex)
    return Sample({name: cast(x, dtype) for name, x in {"a": a, "b": b, "q": q}.items()}, kinds.names)


def _lyapunov(dtype: str, order: int, items: int, rng: Generator, *, discrete: bool = False) -> Sample:
    """A with eigenvalues to the left of the axis, or of sizes up to 1.5, and in a third of the calls a descriptor."""
    kinds, is_complex = _Kinds.drawn(items, _eps(dtype), rng), dtype.startswith("complex")
    factors = rng.uniform(0.5, 1.5, (items, 1)) if discrete else -1.0
    a = _general(order, items, factors * kinds.values(order, _eps(dtype), rng), rng, is_complex=is_complex)
    inputs = {"a": a, "q": _gaussian(a.shape, rng, is_complex=is_complex)}
    if rng.random() < 1 / 3:
        inputs["e"] = np.eye(order) + _gaussian(a.shape, rng, is_complex=is_complex) / order
    return Sample({name: cast(x, dtype) for name, x in inputs.items()}, kinds.names)


def _riccati(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    kinds, is_complex = _Kinds.drawn(items, _eps(dtype), rng), dtype.startswith("complex")
    values = kinds.values(order, _eps(dtype), rng) * rng.choice([-1, 1], (items, order))
    a = _general(order, items, values, rng, is_complex=is_complex)
    inputs_of = int(rng.integers(1, order + 1))
    b = _gaussian((items, order, inputs_of), rng, is_complex=is_complex)
    c, d = (_gaussian((items, k, k), rng, is_complex=is_complex) for k in (order, inputs_of))
    q, r = (x @ np.conj(np.swapaxes(x, -1, -2)) for x in (c, d))
    r = r + np.eye(inputs_of)
    inputs = {"a": a, "b": b, "q": q, "r": r}
    if rng.random() < 1 / 4:
        inputs["e"] = np.eye(order) + _gaussian(a.shape, rng, is_complex=is_complex) / order
    if rng.random() < 1 / 4:
        inputs["s"] = _gaussian(b.shape, rng, is_complex=is_complex) / 4
    return Sample({name: cast(x, dtype) for name, x in inputs.items()}, kinds.names)


def _triangle(dtype: str, order: int, items: int, rng: Generator, *, takes_b: bool = False) -> Sample:
    kinds, is_complex = _Kinds.drawn(items, _eps(dtype), rng), dtype.startswith("complex")
    t = _gaussian((items, order, order), rng, is_complex=is_complex) * 10 ** rng.uniform(-3, 0, (items, 1, 1))
    t = t * (1 - np.eye(order)) + _diagonal(kinds, order, dtype, rng)[:, None, :] * np.eye(order)
    columns = int(rng.integers(1, 4))
    right = {"b": cast(_gaussian((items, order, columns), rng, is_complex=is_complex), dtype)} if takes_b else {}
    return Sample({"t": cast(t, dtype)} | right, kinds.names)


def _diagonal(kinds: _Kinds, order: int, dtype: str, rng: Generator) -> Array:
    """Entries (items, n) of any sign, or phase, none below eps."""
    sizes = np.maximum(kinds.values(order, _eps(dtype), rng), _eps(dtype))
    signs: Array = rng.choice([-1, 1, 1j, -1j] if dtype.startswith("complex") else [-1, 1], sizes.shape)
    return sizes * signs


def _low_rank(dtype: str, order: int, items: int, rng: Generator, *, takes_b: bool = False) -> Sample:
    kinds, is_complex = _Kinds.drawn(items, _eps(dtype), rng), dtype.startswith("complex")
    diagonal = _diagonal(kinds, order, dtype, rng)
    rank, columns = int(rng.integers(1, min(order, 8) + 1)), int(rng.integers(1, 4))
    q, k = (
        _gaussian((2, items, order, rank), rng, is_complex=is_complex) * 10 ** rng.uniform(-2, 0, (items, 1, 1)) / rank
    )
    right = {"b": _gaussian((items, order, columns), rng, is_complex=is_complex)} if takes_b else {}
    return Sample({n: cast(x, dtype) for n, x in {"diag": diagonal, "q": q, "k": k, **right}.items()}, kinds.names)


def _logits(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    q = rng.standard_normal((items, 2, order, 8))
    k = rng.standard_normal((items, 1, order + 1, 8))
    if rng.random() < 0.5:  # noqa: PLR2004 - products that cancel
        k = k - np.sum(q[:, :1, :1] * k, -1, keepdims=True) * q[:, :1, :1] / np.sum(
            q[:, :1, :1] ** 2, -1, keepdims=True
        )
    return Sample({"q": cast(q, dtype), "k": cast(k, dtype)}, ("attention",) * items)


def _weights(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    w_q, w_k = rng.standard_normal((2, items, 3, order, 4))
    return Sample(
        {
            "w_q": cast(w_q, dtype),
            "w_k": cast(w_k, dtype),
            "max_logit": cast(10 ** rng.uniform(0, 3, (items, 3)), dtype),
        },
        ("attention",) * items,
    )


def _sequence(dtype: str, order: int, items: int, rng: Generator) -> Sample:
    k = rng.standard_normal((items, order, 6))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    inputs = {"q": rng.standard_normal(k.shape), "k": k, "v": rng.standard_normal((items, order, 5))}
    inputs["beta"] = rng.random((items, order)) * rng.choice([1, 2])
    inputs["log_gate"] = -rng.random((items, order)) * 10.0 ** rng.uniform(-3, 1)
    return Sample({name: cast(array, dtype) for name, array in inputs.items()}, ("attention",) * items)


def _solved(plain: Callable[..., Sample]) -> Callable[[str, int, int, Generator], Sample]:
    """The sampler with right-hand sides."""
    return lambda dtype, order, items, rng: plain(dtype, order, items, rng, takes_b=True)


_SAMPLERS: Final[dict[str, Callable[[str, int, int, Generator], Sample]]] = {
    "root": _root,
    "inv_root": _root,
    "sqrt_pair": _pair,
    "log": partial(_root, takes_g=False, near_one=True),
    "exp": _exponent,
    "power": partial(_root, near_one=True),
    "msign": _rectangular,
    "mclip": _rectangular,
    "polar": _rectangular,
    "norm2": _rectangular,
    "cond": _rectangular,
    "mcsgn": _signed,
    "spectral_projector": _signed,
    "solve_sylvester": _sylvester,
    "solve_lyapunov": _lyapunov,
    "solve_discrete_lyapunov": partial(_lyapunov, discrete=True),
    "solve_care": _riccati,
    "solve_dare": _riccati,
    "tri_inv": _triangle,
    "tri_solve": _solved(_triangle),
    "dplr_inv": _low_rank,
    "dplr_solve": _solved(_low_rank),
    "frechet_distance": _gaussians,
    "eig_clip": _indefinite,
    "eigh": _indefinite,
    "eigenbasis": _with_basis,
    "geometric_mean": _means,
    "max_logit": _logits,
    "qk_clip": _weights,
    "delta_rule": _sequence,
}
assert set(_SAMPLERS) == set(FUNCTIONS)
