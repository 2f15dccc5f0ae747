"""Calls of every function in many shapes and dtypes, each of several matrices that are easy, hard or without an answer.

Matrices of one call share a batch in the tests of bits: what is computed of one must not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from spectra import orthogonal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["KINDS", "Case", "Size", "cases", "name_of"]

Array: TypeAlias = "NDArray[Any]"
Size: TypeAlias = "int | tuple[int, ...]"
Rng: TypeAlias = np.random.Generator
Builder: TypeAlias = "Callable[[Rng, Size, Scale], dict[str, Array]]"

KINDS: Final = ("well", "ill", "deficient", "large", "other", "small", "singular", "zero", "failing")
"""Of the matrices of a call, in order."""

_ORDERS: Final = (1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 31, 33, 48, 64, 65)
_SOME: Final = (1, 5, 7, 9, 16, 17, 33)
_FEW: Final = (5, 9, 33)
_LARGE: Final = (96, 127, 129)
_RECTANGLES: Final = (
    (1, 7), (7, 1), (9, 5), (5, 9), (16, 7), (7, 16), (48, 16), (17, 33), (33, 17), (65, 64), (130, 31), (31, 130)
)  # fmt: skip
_FEW_RECTANGLES: Final = ((9, 5), (7, 16), (33, 17))

_MAIN: Final = 8
"""Sizes of an entry that is no variation of another."""

HALF: Final = ("float16", "bfloat16")
REAL: Final = ("float32", "float64")
COMPLEX: Final = ("complex64", "complex128")


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes that a dtype bears.

    Attributes:
        ill: a large condition number that still leaves digits.
        singular: one that leaves none.
        large: the exponent of two of large matrices; small ones have its negative.
        is_complex: whether entries are complex.
    """

    ill: float
    singular: float
    large: int
    is_complex: bool = False


_SCALES: Final[Mapping[str, Scale]] = {
    "float16": Scale(1e2, 1e4, 6),
    "bfloat16": Scale(1e2, 1e4, 60),
    "float32": Scale(1e3, 3e7, 60),
    "float64": Scale(1e6, 3e15, 400),
    "complex64": Scale(1e3, 3e7, 60, is_complex=True),
    "complex128": Scale(1e6, 3e15, 400, is_complex=True),
}


@dataclass(frozen=True, eq=False)
class Case:
    """One call of several matrices.

    Attributes:
        function: a name of the catalogue.
        keywords: its parameters and options.
        size: what its builder makes of it.
        dtype: of the inputs.
        build: the matrices from a generator, the size and the dtype's scale.
        is_brief: whether it belongs to the short form of the tests.
    """

    function: str
    keywords: Mapping[str, object]
    size: Size
    dtype: str
    build: Builder
    is_brief: bool

    @property
    def name(self) -> str:
        """Readable, unique."""
        return "-".join([self.function, *map(name_of, self.keywords.items()), _size_name(self.size), self.dtype])

    def inputs(self, kinds: Sequence[str] = KINDS) -> dict[str, Tensor]:
        """The matrices (items, ...), one of each kind."""
        rng = np.random.default_rng(len(self.function))
        with np.errstate(over="ignore"):
            arrays = self.build(rng, self.size, _SCALES[self.dtype])
        dtype: torch.dtype = getattr(torch, self.dtype)
        wanted = [KINDS.index(kind) for kind in kinds]
        return {name: torch.from_numpy(array[wanted]).to(dtype) for name, array in arrays.items()}


def name_of(keyword: tuple[str, object]) -> str:
    """A keyword and its value in an id."""
    name, value = keyword
    return f"{name}={value if not isinstance(value, list) else len(value)}"


def _size_name(size: Size) -> str:
    return "x".join(map(str, (size,) if isinstance(size, int) else size))


def cases() -> Iterable[Case]:
    """All of them."""
    for function, keywords, sizes, dtypes, build in _ENTRIES:
        for dtype in dtypes:
            few = dtype in HALF
            for index, size in enumerate(sizes):
                if few and index % 2:
                    continue
                yield Case(function, keywords, size, dtype, build, _is_brief(size, sizes, dtype))


def _is_brief(size: Size, sizes: Sequence[Size], dtype: str) -> bool:
    """Odd sizes, where alignment differs from matrix to matrix: one where an entry is a variation, some elsewhere.

    Columns and rows are among them: a dimension of one may have any stride.
    """
    sizes_that_tell: tuple[Size, ...] = (9, 33, (33, 17), (9, 5), (7, 1), (1, 7), (4, 2, 9, 9, 5), (3, 3, 9, 7, 5))
    brief = [entry for entry in sizes_that_tell if entry in sizes]
    if len(sizes) < _MAIN or dtype not in {*REAL, "complex128"}:
        brief = brief[:1]
    if dtype == "bfloat16" or (len(sizes) < _MAIN and dtype not in REAL):
        brief = []
    return size in brief


def _spectrum(order: int, condition: float) -> Array:
    return np.asarray(condition ** -np.linspace(0, 1, order))


def _values(order: int, kind: str, scale: Scale) -> Array:
    """Eigenvalues or singular values of a kind of matrix."""
    match kind:
        case "ill" | "singular":
            return _spectrum(order, scale.ill if kind == "ill" else scale.singular)
        case "deficient":
            return _spectrum(order, 10.0) * (np.arange(order) < max(1, order // 2))
        case "large" | "small":
            return np.ldexp(_spectrum(order, 10.0), scale.large if kind == "large" else -scale.large)
        case "zero":
            return np.zeros(order)
        case "failing":
            return -_spectrum(order, 3.0)
        case _:
            return _spectrum(order, 30.0)


def _noise(rng: Rng, scale: Scale, *shape: int) -> Array:
    real: Array = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape) if scale.is_complex else real


def _phases(rng: Rng, scale: Scale, order: int) -> Array:
    """Numbers of modulus 1, (order,): ones where entries are real."""
    return np.exp(2j * np.pi * rng.random(order)) if scale.is_complex else np.ones(order)


def _positives(rng: Rng, order: int, scale: Scale, kinds: Sequence[str] = KINDS) -> Array:
    """Hermitian matrices (kinds, n, n)."""
    found = []
    for kind in kinds:
        q = orthogonal(rng, order, order, is_complex=scale.is_complex)
        a = (q * _values(order, kind, scale)) @ q.conj().T
        found.append((a + a.conj().T) / 2)
    return np.stack(found)


def _positive(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    assert isinstance(size, int)
    return {"a": _positives(rng, size, scale)}


def _multiplied(rows: int, rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    assert isinstance(size, int)
    return {**_positive(rng, size, scale), "g": _noise(rng, scale, len(KINDS), rows, size)}


def _with_basis(turned: float, rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    """Hermitian matrices, and orthonormal bases that are theirs up to a turn of about that size."""
    assert isinstance(size, int)
    found = _positives(rng, size, scale)
    with np.errstate(all="ignore"):
        sizes = np.abs(found).max((-2, -1), keepdims=True)
        _, v = np.linalg.eigh(found / np.where(sizes > 0, sizes, 1))
    noise = turned * _noise(rng, scale, *found.shape)
    skew = noise - np.conj(np.swapaxes(noise, -1, -2))
    return {"a": found, "q": np.linalg.qr(v[..., rng.permutation(size)] @ (np.eye(size) + skew))[0]}


def _two_positive(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    assert isinstance(size, int)
    turned = (*KINDS[2:6], "well", "ill", "other", "well", "well")
    return {"a": _positives(rng, size, scale), "b": _positives(rng, size, scale, turned)}


def _gaussians(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    both = _two_positive(rng, size, scale)
    assert isinstance(size, int)
    means = _noise(rng, scale, 2, len(KINDS), size)
    return {"mu1": means[0], "s1": both["a"], "mu2": means[1], "s2": both["b"]}


def _rectangular(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    rows, columns = (size, size) if isinstance(size, int) else size
    small = min(rows, columns)
    found = []
    for kind in KINDS:
        u = orthogonal(rng, rows, small, is_complex=scale.is_complex)
        v = orthogonal(rng, columns, small, is_complex=scale.is_complex)
        found.append((u * _values(small, kind, scale)) @ v.conj().T)
    return {"m": np.stack(found)}


def _squares(rng: Rng, order: int, scale: Scale, kinds: Sequence[str] = KINDS, *, right: bool = False) -> Array:
    """Matrices (kinds, n, n) with eigenvalues in both half planes, or the right; failing ones have some on the axis."""
    found = []
    for kind in kinds:
        values = _values(order, "well" if kind == "failing" else kind, scale)
        signs = np.ones(order) if right else np.where(np.arange(order) % 2, -1.0, 1.0)
        middle = np.diag(values * signs)
        for i in range(0, order - 1, 2):  # pairs of complex eigenvalues, or nearly so
            middle[i, i + 1], middle[i + 1, i] = values[i] / 3, -values[i] / 3
        if kind == "failing":
            middle[0, 0] = -1.0 if right else 0.0
            middle[: min(2, order), : min(2, order)] *= 1 - np.eye(min(2, order)) * (not right)
        basis = np.eye(order) + np.triu(_noise(rng, scale, order, order), 1) / max(4, order)
        q = orthogonal(rng, order, order, is_complex=scale.is_complex)
        found.append(q @ basis @ middle @ np.linalg.inv(basis) @ q.conj().T)
    return np.stack(found)


def _square(rng: Rng, size: Size, scale: Scale, *, right: bool = False) -> dict[str, Array]:
    assert isinstance(size, int)
    return {"a": _squares(rng, size, scale, right=right)}


def _bounded(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    """Square matrices whose exponentials are in range, but for the large one and the failing one."""
    found = _square(rng, size, scale)["a"]
    found[KINDS.index("failing")] *= 1e4
    return {"a": found}


def _general_with_g(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    assert isinstance(size, int)
    return {**_square(rng, size, scale, right=True), "g": _noise(rng, scale, len(KINDS), 3, size)}


def _sylvester(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    rows, columns = (size, size) if isinstance(size, int) else size
    a = _squares(rng, rows, scale, right=True)
    b = _squares(
        rng, columns, scale, ("well", "other", "ill", "large", "well", "small", "well", "well", "well"), right=True
    )
    b[-1] = -np.eye(columns) * np.abs(a[-1]).max()
    a[-1] = np.eye(rows) * np.abs(a[-1]).max()
    return {"a": a, "b": b, "q": _noise(rng, scale, len(KINDS), rows, columns)}


def _lyapunov(rng: Rng, size: Size, scale: Scale, *, e: bool = False) -> dict[str, Array]:
    assert isinstance(size, int)
    right = _noise(rng, scale, len(KINDS), size, size)
    right[::2] += right[::2].swapaxes(-1, -2).conj()
    found = {"a": _squares(rng, size, scale, right=True), "q": right}
    return found | ({"e": _descriptors(rng, size, scale)} if e else {})


def _descriptors(rng: Rng, order: int, scale: Scale) -> Array:
    """Matrices (kinds, n, n) that are well conditioned."""
    return np.eye(order) + _noise(rng, scale, len(KINDS), order, order) / max(4, 2 * order)


def _stein(rng: Rng, size: Size, scale: Scale, *, e: bool = False) -> dict[str, Array]:
    """Eigenvalues without inverses among them, but for those of the failing ones."""
    found = _lyapunov(rng, size, scale, e=e)
    found["a"] = 0.7 * found["a"]
    found["a"][-1] = found["e"][-1] if e else np.eye(found["a"].shape[-1])
    return found


def _riccati(rng: Rng, size: Size, scale: Scale, *, more: bool = False, factor: float = 1.0) -> dict[str, Array]:
    """With `more`, E and S too; A times a factor."""
    order, columns = (size, max(1, size // 2)) if isinstance(size, int) else size
    a = factor * _squares(rng, order, scale)
    a[3] = a[0] * 8
    a[5] = a[0] / 8
    b = _noise(rng, scale, len(KINDS), order, columns)
    b[-1] = 0
    weights = {"q": order, "r": columns}
    found = {"a": a, "b": b} | {name: np.tile(np.eye(n), (len(KINDS), 1, 1)) for name, n in weights.items()}
    cross = _noise(rng, scale, len(KINDS), order, columns) / (4 * order) if more else None
    return found if cross is None else found | {"e": _descriptors(rng, order, scale), "s": cross}


def _triangles(rng: Rng, order: int, scale: Scale, *, lower: bool) -> Array:
    """Triangles (kinds, n, n) with numbers in the other triangle that are not to be read."""
    found = []
    for kind in KINDS:
        t = _noise(rng, scale, order, order) / max(1, order)
        diagonal = (1 + rng.random(order)) * _phases(rng, scale, order)
        if kind in {"ill", "singular"}:
            diagonal *= _values(order, kind, scale)
        if kind == "deficient":
            t *= max(1, order)  # as random triangles are: their condition grows like 2^n
        t[np.diag_indices(order)] = diagonal
        if kind in {"large", "small"}:
            t = np.ldexp(t.real, scale.large if kind == "large" else -scale.large) + 0 * t
        if kind in {"zero", "failing"}:
            t[order // 2, order // 2] = 0
        found.append(t if lower else t.T)
    return np.stack(found)


def _triangle(rng: Rng, size: Size, scale: Scale, *, lower: bool = True) -> dict[str, Array]:
    assert isinstance(size, int)
    return {"t": _triangles(rng, size, scale, lower=lower)}


def _system(columns: int, rng: Rng, size: Size, scale: Scale, *, lower: bool = True) -> dict[str, Array]:
    assert isinstance(size, int)
    return {**_triangle(rng, size, scale, lower=lower), "b": _noise(rng, scale, len(KINDS), size, columns)}


def _low_rank(columns: int | None, rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    order, rank = (size, 3) if isinstance(size, int) else size
    diag = 1 + rng.random((len(KINDS), order))
    q, k = (_noise(rng, scale, len(KINDS), order, rank) / max(1, order) for _ in range(2))
    diag[1] *= _spectrum(order, scale.ill)
    diag[6] *= _spectrum(order, scale.singular)
    k[2] = 0
    diag[3] = np.ldexp(diag[3], scale.large)
    diag[5] = np.ldexp(diag[5], -scale.large // 2)
    diag[7:, order // 2] = 0
    right = {} if columns is None else {"b": _noise(rng, scale, len(KINDS), order, columns)}
    return {"diag": diag * _phases(rng, scale, order), "q": q, "k": k, **right}


def _factors(scale: Scale) -> Array:
    factors = np.ones(len(KINDS))
    factors[[3, 5, 7]] = 2.0 ** (scale.large // 2), 2.0 ** -(scale.large // 2), 0
    return factors


def _heads(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    heads, key_heads, queries, keys, width = (2, 1, size, size + 2, 5) if isinstance(size, int) else size
    q = rng.standard_normal((len(KINDS), heads, queries, width)) * _factors(scale)[:, None, None, None]
    return {"q": q, "k": rng.standard_normal((len(KINDS), key_heads, keys, width))}


def _weights(rng: Rng, size: Size, scale: Scale) -> dict[str, Array]:
    heads, key_heads, rows, key_rows, inner = (3, 3, size, size, 5) if isinstance(size, int) else size
    factors = _factors(scale)[:, None, None, None]
    return {
        "w_q": rng.standard_normal((len(KINDS), heads, rows, inner)) * factors,
        "w_k": rng.standard_normal((len(KINDS), key_heads, key_rows, inner)),
        "max_logit": 200 * rng.random((len(KINDS), heads)),
    }


def _sequence(
    rng: Rng, size: Size, scale: Scale, *, gated: bool = True, state: bool = False, channels: bool = False
) -> dict[str, Array]:
    length, key_width, value_width = (size, 5, 7) if isinstance(size, int) else size
    keys = rng.standard_normal((len(KINDS), length, key_width)) / key_width**0.5
    inputs = {
        "q": rng.standard_normal(keys.shape),
        "k": keys,
        "v": rng.standard_normal((len(KINDS), length, value_width)) * _factors(scale)[:, None, None],
    }
    if gated:
        inputs |= {"beta": rng.random((len(KINDS), length)), "log_gate": -rng.random((len(KINDS), length))}
    if channels:
        inputs = {name: x for name, x in inputs.items() if name != "log_gate"}
        inputs["channel_log_gate"] = -rng.random(keys.shape) * 8.0 ** rng.integers(-2, 3, (len(KINDS), 1, key_width))
    if state:
        inputs["initial_state"] = rng.standard_normal((len(KINDS), key_width, value_width))
    return inputs


_Entry: TypeAlias = tuple[str, dict[str, object], "Sequence[Size]", tuple[str, ...], Builder]
_ALL: Final = (*HALF, *REAL, *COMPLEX)
_ANY_REAL: Final = (*HALF, *REAL)
_GENERAL: Final[dict[str, object]] = {"structure": "general"}
_right = partial(_square, right=True)
_upper = partial(_triangle, lower=False)
_by_channel = partial(_sequence, state=True, channels=True)

_ROOTS: Final[tuple[_Entry, ...]] = (
    ("inv_root", {"r": 2}, (*_ORDERS, *_LARGE), _ALL, _positive),
    ("inv_root", {"r": 4}, _ORDERS, _ALL, _positive),
    ("inv_root", {"r": 3, "s": 2}, _SOME, _ALL, _positive),
    ("inv_root", {"r": 1}, _FEW, REAL, _positive),
    ("inv_root", {"r": 2, "damping": 0.0}, _FEW, REAL, _positive),
    ("inv_root", {"r": 2, "damping": 1e-2}, _SOME, _ALL, _positive),
    ("inv_root", {"r": 4, "damping": "range"}, _SOME, _ALL, _positive),
    ("inv_root", {"r": 2, "tol": 1e-2}, (5, 9, 33, 48, 65), (*_ANY_REAL, *COMPLEX), _positive),
    ("inv_root", {"r": 4, "tol": 1e-14}, _FEW, ("float64",), _positive),
    ("inv_root", {"r": 4, "tol": 1e-6}, _FEW, ("float32", "complex64"), _positive),
    ("inv_root", {"r": 4, "precision": "fp32"}, _SOME, _ALL, _positive),
    ("inv_root", {"r": 4, "precision": "fp64"}, _FEW, ("float32", "complex64"), _positive),
    ("inv_root", {"r": 4, "precision": "bf16"}, _SOME, _ANY_REAL, _positive),
    ("inv_root", {"r": 4}, _SOME, _ALL, partial(_multiplied, 3)),
    ("inv_root", {"r": 2}, (9, 33, 64), REAL, partial(_multiplied, 17)),
    ("root", {"r": 2}, _ORDERS, _ALL, _positive),
    ("root", {"r": 3}, _SOME, _ALL, _positive),
    ("root", {"r": 7, "s": 3}, _FEW, REAL, _positive),
    ("root", {"r": 2, "damping": "range"}, _FEW, REAL, _positive),
    ("root", {"r": 2, "precision": "bf16"}, _FEW, ("float32",), _positive),
    ("root", {"r": 3}, _SOME, _ALL, partial(_multiplied, 4)),
    ("sqrt_pair", {}, _ORDERS, _ALL, _positive),
    ("sqrt_pair", {"precision": "fp32"}, _FEW, REAL, _positive),
    ("sqrt_pair", {"precision": "bf16"}, _FEW, ("float32",), _positive),
    ("sqrt_pair", {"damping": 1e-3}, _FEW, REAL, _positive),
    ("root", {"r": 2, **_GENERAL}, (1, 2, 5, 8, 9, 33), _ALL, _right),
    ("inv_root", {"r": 3, **_GENERAL}, (1, 2, 5, 9, 17), _ALL, _right),
    ("inv_root", {"r": 3, "s": 2, **_GENERAL}, (9,), (*REAL, *COMPLEX), _general_with_g),
    ("inv_root", {"r": 2, "damping": 0.1, **_GENERAL}, (9,), REAL, _right),
    ("sqrt_pair", _GENERAL, (1, 5, 9, 16), _ALL, _right),
)
_POLARS: Final[tuple[_Entry, ...]] = (
    ("msign", {}, (*_ORDERS, *_RECTANGLES, *_LARGE), _ALL, _rectangular),
    ("msign", {"tol": 1e-2}, (*_SOME, *_FEW_RECTANGLES), _ANY_REAL, _rectangular),
    ("msign", {"tol": 1e-14}, (9, 33, (33, 17)), ("float64",), _rectangular),
    ("msign", {"tol": 1e-6}, (9, 33, (33, 17)), ("float32", "complex64"), _rectangular),
    ("msign", {"precision": "fp32"}, (*_FEW, *_FEW_RECTANGLES), _ALL, _rectangular),
    ("msign", {"precision": "bf16"}, (*_FEW, *_FEW_RECTANGLES), _ANY_REAL, _rectangular),
    ("msign", {"steps": 5}, (*_SOME, *_FEW_RECTANGLES), _ANY_REAL, _rectangular),
    ("msign", {"coefficients": [[3.4445, -4.775, 2.0315]], "steps": 4}, (9, (33, 17)), _ANY_REAL, _rectangular),
    ("mclip", {}, (*_ORDERS, *_RECTANGLES), _ALL, _rectangular),
    ("mclip", {"hi": 0.5, "lo": 0.1}, (*_SOME, *_FEW_RECTANGLES), _ALL, _rectangular),
    ("mclip", {"hi": None, "lo": 0.2}, (9, (7, 16)), REAL, _rectangular),
    ("mclip", {"hi": 0.5, "precision": "bf16"}, (9, (7, 16)), ("float32",), _rectangular),
    ("polar", {}, (*_SOME, *_RECTANGLES), _ALL, _rectangular),
    ("norm2", {}, (*_SOME, *_RECTANGLES), _ALL, _rectangular),
    ("cond", {}, (*_SOME, *_RECTANGLES), _ALL, _rectangular),
    ("polar", {"precision": "fp32"}, (9, (9, 5), (7, 16)), ("float64", "complex128"), _rectangular),
)
_EQUATIONS: Final[tuple[_Entry, ...]] = (
    ("mcsgn", {}, (*_ORDERS, *_LARGE[1:2]), _ALL, _square),
    ("mcsgn", {"tol": 1e-14}, _FEW, ("float64", "complex128"), _square),
    ("spectral_projector", {}, _ORDERS, _ALL, _square),
    ("spectral_projector", {"half": "left"}, _FEW, _ALL, _square),
    ("solve_sylvester", {}, (1, 2, 5, 8, 9, (9, 5), (7, 16), (33, 17)), _ALL, _sylvester),
    ("solve_lyapunov", {}, (1, 2, 5, 8, 9, 33), _ALL, _lyapunov),
    ("solve_lyapunov", {}, (3, 7, 17), _ALL, partial(_lyapunov, e=True)),
    ("solve_discrete_lyapunov", {}, (1, 2, 5, 8, 9, 33), _ALL, _stein),
    ("solve_discrete_lyapunov", {}, (3, 7, 17), _ALL, partial(_stein, e=True)),
    ("solve_care", {}, (1, 2, 5, 8, 9, (9, 5), (17, 3)), _ALL, _riccati),
    ("solve_care", {}, (3, 7, (16, 3)), _ALL, partial(_riccati, more=True)),
    ("solve_care", {"gain": True}, (2, (7, 3)), _ALL, partial(_riccati, more=True)),
    ("solve_dare", {}, (1, 2, 5, 8, 9, (9, 5), (17, 3)), _ALL, partial(_riccati, factor=1.5)),
    ("solve_dare", {"gain": True}, (2, (7, 3)), _ALL, partial(_riccati, factor=1.5)),
    ("solve_dare", {}, (3, 7, (16, 3)), _ALL, partial(_riccati, more=True, factor=1.5)),
)
_TRIANGULAR: Final[tuple[_Entry, ...]] = (
    ("tri_inv", {}, (*_ORDERS, *_LARGE), _ALL, _triangle),
    ("tri_inv", {"lower": False}, _SOME, _ALL, _upper),
    ("tri_inv", {"unit_diagonal": True}, _SOME, _ALL, _triangle),
    ("tri_inv", {"tol": 1e-6}, _FEW, ("float32",), _triangle),
    ("tri_inv", {"precision": "fp32"}, _SOME, (*REAL, *COMPLEX), _triangle),
    ("tri_solve", {}, (*_ORDERS, *_LARGE[1:2]), _ALL, partial(_system, 3)),
    ("tri_solve", {}, (5, 9, 33, 48), REAL, partial(_system, 1)),
    ("tri_solve", {}, (9, 33), REAL, partial(_system, 16)),
    ("tri_solve", {"transpose": True}, _SOME, _ALL, partial(_system, 3)),
    ("tri_solve", {"lower": False, "unit_diagonal": True}, _SOME, REAL, partial(_system, 5, lower=False)),
    ("tri_solve", {"precision": "fp32"}, _FEW, ("float64", "complex128"), partial(_system, 3)),
    ("dplr_inv", {}, (*_ORDERS, (33, 8), (130, 5)), _ALL, partial(_low_rank, None)),
    ("dplr_solve", {}, (*_ORDERS, (33, 8), (130, 5), (33, 1)), _ALL, partial(_low_rank, 3)),
    ("dplr_solve", {"transpose": True}, _SOME, _ALL, partial(_low_rank, 3)),
    ("dplr_solve", {"precision": "fp32"}, _FEW, ("float64", "complex128"), partial(_low_rank, 1)),
)
_OTHERS: Final[tuple[_Entry, ...]] = (
    ("frechet_distance", {}, (*_ORDERS, 129), _ALL, _gaussians),
    ("frechet_distance", {"precision": "fp32"}, _FEW, (*REAL, *COMPLEX), _gaussians),
    ("log", {}, _ORDERS, _ALL, _positive),
    ("log", {"shift": 0.25}, _SOME, (*REAL, *COMPLEX), _positive),
    ("log", {"damping": "range"}, _SOME, (*REAL, *COMPLEX), _positive),
    ("log", {"precision": "fp32"}, _FEW, (*REAL, *COMPLEX), _positive),
    ("exp", {}, _ORDERS, _ALL, _positive),
    ("exp", {"t": -3.0, "precision": "fp32"}, _FEW, (*REAL, *COMPLEX), _positive),
    ("power", {"p": 0.3}, _ORDERS, _ALL, _positive),
    ("power", {"p": -1.7}, _SOME, _ALL, partial(_multiplied, 5)),
    ("power", {"p": -1}, _SOME, (*REAL, *COMPLEX), _positive),
    ("power", {"p": 1}, _FEW, (*REAL, *COMPLEX), partial(_multiplied, 3)),
    ("power", {"p": -0.5, "precision": "fp32"}, _FEW, (*REAL, *COMPLEX), _positive),
    ("log", _GENERAL, (1, 2, 9, 33), (*REAL, *COMPLEX), partial(_square, right=True)),
    ("log", {"shift": 0.25, **_GENERAL}, (9,), REAL, partial(_square, right=True)),
    ("exp", _GENERAL, _SOME, _ALL, _bounded),
    ("exp", {"t": -0.5, **_GENERAL}, (9, 65), (*REAL, *COMPLEX), _bounded),
    ("power", {"p": 0.3, **_GENERAL}, (1, 9, 33), (*REAL, *COMPLEX), partial(_square, right=True)),
    ("power", {"p": -2.6, **_GENERAL}, (9,), (*REAL, *COMPLEX), _general_with_g),
    ("power", {"p": 5, **_GENERAL}, _FEW, _ALL, _general_with_g),
    ("power", {"p": -2, "damping": 0.1, **_GENERAL}, _FEW, (*REAL, *COMPLEX), partial(_square, right=True)),
    ("eig_clip", {"lo": 0.0}, _ORDERS, _ALL, _positive),
    ("eig_clip", {"lo": 0.05, "hi": 0.5}, (*_SOME, 129), _ALL, _positive),
    ("eig_clip", {"hi": 0.5, "precision": "fp32"}, _FEW, (*REAL, *COMPLEX), _positive),
    ("eigh", {}, (*_ORDERS, *_LARGE), _ALL, _positive),
    ("eigh", {"precision": "fp32"}, _FEW, (*REAL, *COMPLEX), _positive),
    ("eigenbasis", {}, (*_ORDERS, 96), _ALL, partial(_with_basis, 0.01)),
    ("eigenbasis", {"order": "ascending"}, _SOME, (*REAL, *COMPLEX), partial(_with_basis, 1.0)),
    ("eigenbasis", {"order": "descending", "precision": "fp32"}, _FEW, (*REAL, *COMPLEX), partial(_with_basis, 0.1)),
    ("eigenbasis", {"tol_drift": 0.5}, _FEW, (*REAL, *COMPLEX), partial(_with_basis, 0.01)),
    ("geometric_mean", {}, _ORDERS, _ALL, _two_positive),
    ("geometric_mean", {"t": 0.3}, _FEW, _ALL, _two_positive),
    ("geometric_mean", {"t": -1.5}, (9,), (*REAL, *COMPLEX), _two_positive),
    ("geometric_mean", {"t": 1.0}, (9,), REAL, _two_positive),
    ("geometric_mean", {"precision": "fp32"}, _FEW, (*REAL, *COMPLEX), _two_positive),
    ("max_logit", {}, (1, 7, 9, 16, 33, (4, 2, 33, 65, 8), (2, 2, 65, 300, 7)), _ANY_REAL, _heads),
    ("max_logit", {"causal": False}, (1, 7, 9, 33, (4, 2, 33, 65, 8)), _ANY_REAL, _heads),
    ("max_logit", {"scale": 0.3}, (9, (2, 2, 17, 33, 9)), REAL, _heads),
    ("qk_clip", {}, (1, 2, 5, 9, 16, 33), _ANY_REAL, _weights),
    ("qk_clip", {"variant": "gqa", "tau": 30.0}, ((4, 2, 9, 9, 5), (6, 2, 8, 8, 7)), _ANY_REAL, _weights),
    ("qk_clip", {"variant": "mla"}, ((3, 3, 9, 7, 5), (2, 2, 16, 8, 3)), _ANY_REAL, _weights),
    ("delta_rule", {}, (1, 7, 9, 16, 33, 64, 65, (130, 9, 7), (96, 16, 16)), _ANY_REAL, _sequence),
    ("delta_rule", {"chunk": 16}, (9, 33, 65), _ANY_REAL, partial(_sequence, state=True)),
    ("delta_rule", {"chunk": 5}, (9, 33), REAL, partial(_sequence, gated=False)),
    ("delta_rule", {"chunk": 8, "cu_seqlens": (0, 9, 9, 33)}, (33,), REAL, _sequence),
    ("delta_rule", {"scale": 0.3}, (1, 9, 33, 65, (130, 9, 7)), _ANY_REAL, _by_channel),
)  # fmt: skip
_ENTRIES: Final[tuple[_Entry, ...]] = (*_ROOTS, *_POLARS, *_EQUATIONS, *_TRIANGULAR, *_OTHERS)
