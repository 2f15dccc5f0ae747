"""Valid calls of every function as trees, as mutations start from them: small, of any dtype, drawn from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from matfn_kernels import DTYPES, ENTRIES, options_of

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray

    from matfn_kernels import Function, Input, Parameter

__all__ = ["REAL", "Tree", "octets", "tree_of"]

Tree: TypeAlias = "dict[str, Any]"

REAL: Final = tuple(dtype for dtype in DTYPES if not dtype.startswith("complex"))
_LEADS: Final = ((), (), (1,), (2,), (3, 2), (0,))
_LARGEST: Final = 6
_GOOD: Final = {"r": range(1, 9), "s": range(1, 5), "steps": range(1, 9), "chunk": (1, 4, 64), "priority": range(10)}
_NUMBERS: Final = (1e-6, 0.01, 0.25, 1.0, 30.0)
_ROWS: Final = [[3.4445, -4.775, 2.0315], [1.5, -0.5, 0.0]]


def tree_of(rng: Random, name: str) -> Tree:
    """A call of an entry of the catalogue that is right in all but, now and then, a value of a parameter."""
    function = ENTRIES[name]
    dtype = rng.choice(DTYPES if function.complex_ok else REAL)
    lead, sizes = rng.choice(_LEADS), _sizes(rng, function)
    numbers = np.random.default_rng(rng.getrandbits(32))
    inputs = {
        entry.name: _tensor(numbers, entry, (*lead, *(_size(label, sizes) for label in entry.shape)), dtype)
        for entry in function.inputs
        if not entry.optional or rng.random() < 0.5  # noqa: PLR2004 - every other time
    }
    return {
        "inputs": inputs,
        "params": _values(rng, function.parameters, 0.3),
        "options": _values(rng, options_of(function), 0.12),
    }


def _sizes(rng: Random, function: Function) -> dict[str, int]:
    labels = {label for entry in function.inputs for label in entry.shape}
    sizes = {label: rng.randint(1, _LARGEST) for labels_ in sorted(labels) for label in labels_.split("|")}
    if "hk" in sizes:
        sizes["hk"] = sizes["h"]
    if "dq" in sizes:
        sizes["dk"] = sizes["dq"]
    return sizes


def _size(label: str, sizes: dict[str, int]) -> int:
    return next(sizes[one] for one in label.split("|") if one in sizes)


def _tensor(rng: np.random.Generator, entry: Input, shape: tuple[int, ...], dtype: str) -> Tree:
    array = _array(rng, entry, shape, is_complex=dtype.startswith("complex"))
    return {"dtype": dtype, "shape": list(shape), "data": octets(array, dtype)}


def _array(rng: np.random.Generator, entry: Input, shape: tuple[int, ...], *, is_complex: bool) -> NDArray[Any]:
    """Numbers that suit an input."""
    x: NDArray[Any] = rng.standard_normal(shape)
    if is_complex:
        x = x + 1j * rng.standard_normal(shape)
    if entry.nonpositive:
        return np.asarray(-abs(x))
    if entry.name == "max_logit":
        return np.asarray(100 * abs(x))
    if entry.nonzero and len(entry.shape) == 1:
        return np.asarray(1 + abs(x))
    if entry.symmetric:
        return np.asarray(x @ np.conj(x.swapaxes(-1, -2)) / x.shape[-1] + np.eye(x.shape[-1]) / 8)
    if len(entry.shape) > 1 and entry.shape[-1] == entry.shape[-2]:
        return np.asarray(x / 2 + 2 * np.eye(x.shape[-1]))
    return x


def octets(x: NDArray[Any], dtype: str) -> bytes:
    """The numbers as they are sent."""
    if dtype == "bfloat16":
        return (x.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return x.astype(dtype).tobytes()


def _values(rng: Random, parameters: tuple[Parameter, ...], share: float) -> Tree:
    return {one.name: _value(rng, one) for one in parameters if one.required or rng.random() < share}


def _value(rng: Random, parameter: Parameter) -> object:
    if parameter.name in _GOOD:
        return rng.choice(_GOOD[parameter.name])
    match parameter.kind:
        case "boolean":
            return rng.random() < 0.5  # noqa: PLR2004 - as often as not
        case "coefficients":
            return _ROWS
        case "string":
            return rng.choice(parameter.choices)
        case _:
            return rng.choice((*_NUMBERS, *parameter.choices))
