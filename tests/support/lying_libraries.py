"""Linear algebra libraries that return finite garbage and report success, put in at the boundary of the kernels.

`lying` replaces one routine in every module of the kernels that calls it. The honest routine runs first; one of its
results is then falsified, each matrix of a batch alike.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from unittest import mock

import numpy as np
import scipy.linalg
import torch
from scipy.linalg import lapack

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg import native_equations as equations
from matfn_kernels.methods.roots import triangular_power

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["LIES", "ROUTINES", "Liar", "Lie", "listening", "lying"]

Array: TypeAlias = "NDArray[Any]"
Results: TypeAlias = "tuple[Any, ...]"
Falsify: TypeAlias = "Callable[[Results, Results], Results]"

_LARGE: Final = 0.4
_SMALL: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Lie:
    """A falsification of one routine's results.

    Attributes:
        routine: the routine's name in `ROUTINES`.
        name: of the lie.
        falsify: false results from the true ones and the routine's positional arguments, of one matrix.
    """

    routine: str
    name: str
    falsify: Falsify

    def __str__(self) -> str:
        return f"{self.routine}: {self.name}"


@dataclass(slots=True)
class Liar:
    """What was asked of the libraries: the routines that were called."""

    called: set[str] = field(default_factory=set)


def _random(*shape: int) -> Array:
    return np.random.default_rng(7).standard_normal(shape)


def _direction(rows: int, columns: int) -> Array:
    """A random matrix of 2-norm 1."""
    x = _random(rows, columns)
    direction: Array = x / np.linalg.norm(x, 2)
    return direction


def _skew(size: float) -> Callable[[Array], Array]:
    """V (I + E) with ||V^H V - I||_2 = `size` or little more."""

    def change(v: Array) -> Array:
        e = _direction(v.shape[1], v.shape[1])
        e = e + e.T
        return np.asarray(v @ (np.eye(v.shape[1]) + e * (size / 2 / np.linalg.norm(e, 2)))).astype(v.dtype)

    return change


def _noisy(size: float) -> Callable[[Array], Array]:
    """X + E with ||E||_2 = size ||X||_2; X itself where it is not finite, the inverse of a singular matrix."""

    def change(x: Array) -> Array:
        if not np.isfinite(x).all():
            return x
        return np.asarray(x + size * np.linalg.norm(x, 2) * _direction(*x.shape)).astype(x.dtype)

    return change


def _turned(v: Array) -> Array:
    """The first and last columns turned into each other by 1e-3 rad."""
    if v.shape[1] < 2:
        return v
    out, angle = v.copy(), 1e-3
    out[:, 0] = np.cos(angle) * v[:, 0] + np.sin(angle) * v[:, -1]
    out[:, -1] = np.cos(angle) * v[:, -1] - np.sin(angle) * v[:, 0]
    return out


def _scaled(x: Array) -> Array:
    return np.asarray(x * x.dtype.type(1.01))


def _garbage_column(x: Array) -> Array:
    out = x.copy()
    column = _random(len(x))
    out[:, x.shape[1] // 2] = column * (np.linalg.norm(x[:, x.shape[1] // 2]) / np.linalg.norm(column))
    return out


def _negated_column(x: Array) -> Array:
    out = x.copy()
    out[:, x.shape[1] // 2] *= -1
    return out


def _zeroed_corner(x: Array) -> Array:
    """The lower left block zero, or of a row or column half of it."""
    out = x.copy()
    out[-(-len(x) // 2) :, : -(-x.shape[1] // 2)] = 0
    return out


def _zeroed_rows(x: Array) -> Array:
    out = x.copy()
    out[len(x) // 2 :] = 0
    return out


def _other_basis(v: Array) -> Array:
    """Orthonormal columns that have nothing to do with V."""
    return np.linalg.qr(_random(*v.shape))[0].astype(v.dtype)


def _moved(index: int) -> Callable[[Array], Array]:
    """One of the values off by 1 %."""

    def change(w: Array) -> Array:
        out = w.copy()
        out[min(index, len(w) - 1)] *= 1.01
        return out

    return change


def _swapped(w: Array) -> Array:
    """The values in the opposite order, that of the vectors kept."""
    return np.ascontiguousarray(w[::-1])


def _moved_diagonal(t: Array) -> Array:
    out = t.copy()
    out[len(t) // 2, len(t) // 2] *= 1.01
    return out


def _zeroed_above(t: Array) -> Array:
    out = t.copy()
    out[: len(t) // 2, len(t) // 2 :] = 0
    return out


def _to_the_left(w: Array) -> Array:
    """The values with their real parts negative."""
    return np.asarray(np.where(w.real > 0, -w.conj(), w))


def _last_lifted(s: Array) -> Array:
    """The smallest singular value as large as the one before, or twice itself."""
    out = s.copy()
    out[-1] = s[-2] if len(s) > 1 else 2 * s[-1]
    return out


def _of_values(change: Callable[[Array], Array]) -> Falsify:
    """Falsifies the singular values, alone or between their vectors."""

    def falsify(results: Results, _: Results) -> Results:
        return (change(results[0]),) if len(results) == 1 else (results[0], change(results[1]), results[2])

    return falsify


def _where_there_are_vectors(falsify: Falsify, alone: Falsify) -> Falsify:
    """One lie of a full decomposition, and another of singular values alone."""

    def chosen(results: Results, arguments: Results) -> Results:
        return (alone if len(results) == 1 else falsify)(results, arguments)

    return chosen


def _at(index: int, change: Callable[[Array], Array]) -> Falsify:
    """Falsifies one of the results."""

    def falsify(results: Results, _: Results) -> Results:
        return (*results[:index], change(results[index]), *results[index + 1 :])

    return falsify


def _by_columns(falsify: Falsify) -> Falsify:
    """Falsifies results that are stored column by column."""

    def turned(results: Results, arguments: Results) -> Results:
        return tuple(np.ascontiguousarray(x.T) for x in falsify(tuple(x.T for x in results), arguments))

    return turned


def _unnormalised(results: Results, _: Results) -> Results:
    """V |W|^(1/2) and the signs of W: they reconstruct the matrix."""
    w, v = results
    order = np.argsort(np.sign(w), kind="stable")
    return np.sign(w)[order], np.asarray(v * np.sqrt(np.abs(w))).astype(v.dtype)[:, order]


def _unbalanced(results: Results, _: Results) -> Results:
    """U D, the values and D^-1 V^H: they reconstruct the matrix."""
    u, s, vh = results
    d = np.linspace(0.7, 1.4, len(s)).astype(s.dtype)
    return u * d, s, vh / d[:, None]


def _both(change: Callable[[Array], Array]) -> Falsify:
    """Falsifies the left and the right vectors alike: M V = U Sigma may hold still."""

    def falsify(results: Results, _: Results) -> Results:
        u, s, vh = results
        return change(u), s, np.ascontiguousarray(change(vh.conj().T).conj().T)

    return falsify


def _shortened(v: Array) -> Array:
    """Columns of lengths from 0.7 to 1.4."""
    return np.asarray(v * np.linspace(0.7, 1.4, v.shape[1])).astype(v.dtype)


def _absorbed(results: Results, _: Results) -> Results:
    """U Sigma^(1/2), ones, Sigma^(1/2) V^H: they reconstruct the matrix."""
    u, s, vh = results
    return u * np.sqrt(s), np.ones_like(s), np.sqrt(s)[:, None] * vh


def _always_factored(results: Results, arguments: Results) -> Results:
    """The factor of A + |A| where A has none, and success."""
    factor, exists = results
    if exists:
        return results
    w, v = np.linalg.eigh(arguments[0])
    lifted = (v * np.maximum(np.abs(w), 1e-3 * np.abs(w).max())) @ v.conj().T
    return np.linalg.cholesky(lifted).astype(factor.dtype), np.ones_like(exists)


def _of_identity(results: Results, _: Results) -> Results:
    """The factor of a multiple of I."""
    factor, exists = results
    return np.eye(len(factor), dtype=factor.dtype) * np.abs(factor[0, 0]), np.ones_like(exists)


def _by_diagonal(_: Results, arguments: Results) -> Results:
    """The solution with the diagonal of T alone: the triangle that was asked for taken for the other."""
    t, b = arguments[:2]
    return (np.asarray(b / t.diagonal()[:, None]).astype(b.dtype),)


def _unit_diagonal(_: Results, arguments: Results) -> Results:
    """The solution with ones in the place of T's diagonal."""
    t, b = arguments[:2]
    unit = t - np.diag(t.diagonal()) + np.eye(len(t))
    return (np.linalg.solve(unit, b).astype(b.dtype),)


_MATRICES: Final[dict[str, Callable[[Array], Array]]] = {
    "scaled": _scaled,
    "noise 0.4": _noisy(_LARGE),
    "noise 1e-4": _noisy(_SMALL),
    "noise 1e-8": _noisy(1e-8),
    "garbage column": _garbage_column,
    "zeroed block": _zeroed_corner,
    "zeroed rows": _zeroed_rows,
}
_BASES: Final[dict[str, Callable[[Array], Array]]] = {
    "skewed 0.4": _skew(_LARGE),
    "skewed 1e-4": _skew(_SMALL),
    "skewed 1e-8": _skew(1e-8),
    "another's": _other_basis,
    "turned": _turned,
    "scaled": _scaled,
    "garbage column": _garbage_column,
    "zeroed block": _zeroed_corner,
}
_SPECTRA: Final[dict[str, Callable[[Array], Array]]] = {
    "first moved": _moved(0),
    "one moved": _moved(3),
    "last moved": _moved(1 << 30),
    "order swapped": _swapped,
}


def _all(prefix: str, index: int, changes: dict[str, Callable[[Array], Array]]) -> dict[str, Falsify]:
    return {f"{prefix}{name}": _at(index, change) for name, change in changes.items()}


_EIGEN: Final = {**_all("vectors ", 1, _BASES), **_all("values ", 0, _SPECTRA), "unnormalised": _unnormalised}
_SINGULAR: Final = {
    **_all("left ", 0, {**_BASES, "negated column": _negated_column}),
    **_all("right ", 2, _BASES),
    **_all("values ", 1, _SPECTRA),
    "both scaled": _both(_scaled),
    "both shortened": _both(_shortened),
    "both turned": _both(_turned),
    "unbalanced": _unbalanced,
    "absorbed": _absorbed,
}
_FACTOR: Final = {**_all("", 0, _MATRICES), "always succeeds": _always_factored, "of the identity": _of_identity}
_SOLUTION: Final = {**_all("", 0, _MATRICES), "by the diagonal": _by_diagonal, "unit diagonal": _unit_diagonal}
_INVERSE: Final = {**_all("", 0, _MATRICES), "transposed": _at(0, lambda x: x.T.copy())}
_SCHUR: Final = {
    **_all("vectors ", 1, _BASES),
    **_all("form ", 0, {"scaled": _scaled, "one moved": _moved_diagonal, "zeroed": _zeroed_above}),
}
_SCHUR_BY_COLUMNS: Final = {name: _by_columns(falsify) for name, falsify in _SCHUR.items()}
_VALUES: Final = _all("", 0, {"first moved": _moved(0), "last moved": _moved(1 << 30), "scaled": _scaled})
_EIGENVALUES: Final = {
    **_VALUES,
    **_all("", 0, {"stable": _to_the_left, "unstable": lambda w: -_to_the_left(w), "equal": np.ones_like}),
}
_NUMPYS_SINGULAR: Final = {
    name: _where_there_are_vectors(falsify, _VALUES.get(name.removeprefix("values "), _VALUES["scaled"]))
    for name, falsify in _SINGULAR.items()
} | {"values equal": _of_values(np.ones_like), "last lifted": _of_values(_last_lifted)}

_OF_ROUTINES: Final = {
    "eigh": _EIGEN,
    "svd": _SINGULAR,
    "cholesky": _FACTOR,
    "solve_triangular": _SOLUTION,
    "inverse": _INVERSE,
    "scipy.schur": _SCHUR,
    "scipy.rsf2csf": _SCHUR,
    "real_schur_forms": _SCHUR_BY_COLUMNS,
    "scipy.eigh": _EIGEN,
    "scipy.svdvals": _VALUES,
    "scipy.solve_triangular": _all("", 0, _MATRICES),
    "trsyl": _all("", 0, _MATRICES),
    "getrf": _all("", 0, {**_MATRICES, "one moved": _moved_diagonal}),
    "getri": _INVERSE,
    "numpy.solve": {**_all("", 0, _MATRICES), "right-hand side": lambda _, given: (given[1],)},
    "numpy.inv": _INVERSE,
    "numpy.eigvals": _EIGENVALUES,
    "numpy.eigvalsh": _EIGENVALUES,
    "numpy.svd": _NUMPYS_SINGULAR,
    "numpy.slogdet": {"negated": lambda results, _: (-results[0], results[1])},
    "scipy.solve_continuous_are": {**_all("", 0, _MATRICES), "negated": _at(0, np.negative)},
    "scipy.solve_discrete_are": {**_all("", 0, _MATRICES), "negated": _at(0, np.negative)},
}
ROUTINES: Final = tuple(_OF_ROUTINES)
LIES: Final = tuple(
    Lie(routine, name, falsify) for routine, lies in _OF_ROUTINES.items() for name, falsify in lies.items()
)

_HONEST: Final[dict[str, Callable[..., Any]]] = {
    "eigh": invariant.eigh,
    "svd": invariant.svd,
    "cholesky": invariant.cholesky,
    "solve_triangular": invariant.solve_triangular,
    "inverse": invariant.inverse,
    "real_schur_forms": equations.real_schur_forms,
    "scipy.schur": scipy.linalg.schur,
    "scipy.rsf2csf": scipy.linalg.rsf2csf,
    "scipy.eigh": scipy.linalg.eigh,
    "scipy.svdvals": scipy.linalg.svdvals,
    "scipy.solve_triangular": scipy.linalg.solve_triangular,
    "scipy.solve_continuous_are": scipy.linalg.solve_continuous_are,
    "scipy.solve_discrete_are": scipy.linalg.solve_discrete_are,
}
_LAPACK: Final = {"trsyl": ("dtrsyl", "ztrsyl"), "getrf": ("dgetrf", "zgetrf"), "getri": ("dgetri", "zgetri")}
"""Routines that modules take out of scipy's `lapack` when they call them."""
_NUMPYS: Final = tuple(name for name in _OF_ROUTINES if name.startswith("numpy."))
"""Routines that modules take out of `np.linalg` when they call them."""
_CACHED: Final = ("matfn_kernels.numbers.coefficients", "matfn_kernels.reference")
"""Modules whose numpy is left alone: coefficients are cached and depend on no matrix, references are the truth."""


@contextmanager
def listening() -> Iterator[Liar]:
    """Notes which routines are called, and falsifies nothing."""
    with _replaced(dict.fromkeys(ROUTINES)) as liar:
        yield liar


@contextmanager
def lying(lie: Lie) -> Iterator[Liar]:
    """Falsifies every result of one routine."""
    with _replaced({lie.routine: lie}) as liar:
        yield liar


@contextmanager
def _replaced(lies: dict[str, Lie | None]) -> Iterator[Liar]:
    liar = Liar()
    false: dict[str, Any] = {
        name: _false(name, _HONEST[name], lie, liar) for name, lie in lies.items() if name in _HONEST
    }
    own = {key: value for name, lie in lies.items() if name in _LAPACK for key, value in _of_lapack(name, lie, liar)}
    if own:
        false["lapack"] = SimpleNamespace(**{**vars(lapack), **own})
    numpys = {name: lie for name, lie in lies.items() if name in _NUMPYS}
    if numpys:
        false["numpy"] = _false_numpy(numpys, liar)
    solvers = triangular_power._SOLVERS if "trsyl" in lies else {}
    places = [(module, name, honest, false[key]) for module, name, honest, key in _places() if key in false]
    try:
        for module, name, _, routine in places:
            setattr(module, name, routine)
        with mock.patch.dict(solvers, {name: _false("trsyl", x, lies["trsyl"], liar) for name, x in solvers.items()}):
            yield liar
    finally:
        for module, name, honest, _ in places:
            setattr(module, name, honest)


@cache
def _places() -> tuple[tuple[ModuleType, str, Any, str], ...]:
    """Module, name there, honest routine and its key, wherever the kernels have taken one by name."""
    honest = {id(routine): (routine, key) for key, routine in {**_HONEST, "lapack": lapack, "numpy": np}.items()}
    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("matfn_kernels.")]
    return tuple(
        (module, name, *honest[id(value)])
        for module in modules
        for name, value in vars(module).items()
        if id(value) in honest and not (value is np and module.__name__.startswith(_CACHED))
    )


def _false_numpy(lies: dict[str, Lie | None], liar: Liar) -> SimpleNamespace:
    """Numpy with some of its linear algebra falsified."""
    own = {name.removeprefix("numpy."): lie for name, lie in lies.items()}
    routines = {name: _false(f"numpy.{name}", getattr(np.linalg, name), lie, liar) for name, lie in own.items()}
    return SimpleNamespace(**{**vars(np), "linalg": SimpleNamespace(**{**vars(np.linalg), **routines})})


def _of_lapack(name: str, lie: Lie | None, liar: Liar) -> list[tuple[str, Callable[..., Any]]]:
    return [(routine, _false(name, getattr(lapack, routine), lie, liar)) for routine in _LAPACK[name]]


def _false(name: str, honest: Callable[..., Any], lie: Lie | None, liar: Liar) -> Callable[..., Any]:
    """The routine, noted in the liar, its results falsified if there is a lie."""

    def routine(*arguments: Any, **keywords: Any) -> Any:
        liar.called.add(name)
        found = honest(*arguments, **keywords)
        if lie is None:
            return found
        results = found if isinstance(found, tuple) else (found,)
        if isinstance(results[0], torch.Tensor):
            false: Results = _of_batch(lie, results, arguments)
        else:
            false = lie.falsify(results, arguments)
        return false if isinstance(found, tuple) else false[0]

    return routine


def _of_batch(lie: Lie, results: Sequence[torch.Tensor], arguments: Results) -> Results:
    """Each matrix falsified."""
    if not results[0].numel():
        return tuple(results)
    count = len(results[0])
    given = [_numbers(x).repeat(count // len(x), axis=0) for x in arguments if isinstance(x, torch.Tensor)]
    rows = zip(zip(*map(_numbers, results), strict=True), zip(*given, strict=True), strict=True)
    columns = zip(*(lie.falsify(found, of) for found, of in rows), strict=True)
    return tuple(
        torch.as_tensor(np.stack(column)).to(to.device, to.dtype) for column, to in zip(columns, results, strict=True)
    )


def _numbers(x: torch.Tensor) -> Array:
    numbers: Array = x.resolve_conj().resolve_neg().cpu().numpy()
    return numbers
