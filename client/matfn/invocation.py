"""A function applied to the caller's arrays, not yet encoded: what `matfn.call` builds and every client takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from matfn._brief import brief
from matfn.catalogue import ENTRIES, OPTIONS, unknown
from matfn.errors import Problem, problem_error
from matfn.losses import require_whole
from matfn.schema import VERIFY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from matfn.catalogue import Parameter
    from matfn.wire import Value

__all__ = ["Invocation", "Numbers", "require_call"]

ValueT_co = TypeVar("ValueT_co", covariant=True)

_REQUIRED: Final = object()
_INTEGERS: Final = (-(1 << 63), (1 << 64) - 1)  # what msgpack can say


class _Array(Protocol):
    """An array of any library."""

    def tolist(self) -> Any:
        """Its numbers as Python's."""


Numbers: TypeAlias = "Sequence[Any] | _Array"
"""A number for each matrix: an array or nested lists, which broadcast with the leading dimensions."""


@dataclass(frozen=True, slots=True, repr=False)
class Invocation(Generic[ValueT_co]):
    """One call with its arrays as given; `ValueT_co` is what its answer holds."""

    function: str
    inputs: Mapping[str, Any]
    params: Mapping[str, Any]
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.function not in ENTRIES:
            detail, hint = unknown(self.function)
            raise problem_error(Problem.of("unknown_function", detail, hint=hint))

    def __repr__(self) -> str:
        """As it is written, without what has its default."""
        given = self.arrays | self.plain_params() | _given(self.options, _OPTION_DEFAULTS)
        route, _, name = self.function.rpartition("/")
        module = {"": "call", VERIFY.rstrip("/"): "verification"}.get(route, route)
        return f"matfn.{module}.{name}({', '.join(f'{key}={brief(value)}' for key, value in given.items())})"

    @property
    def arrays(self) -> dict[str, Any]:
        """The inputs that were given, and the parameters of which each matrix has its own, in float64."""
        given = {name: array for name, array in self.inputs.items() if array is not None}
        return given | {name: _numbers(name, self.params[name]) for name in self._varying}

    @property
    def _varying(self) -> tuple[str, ...]:
        """The parameters that are given as arrays."""
        named = (entry.name for entry in ENTRIES[self.function].varying)
        return tuple(name for name in named if _is_array(self.params.get(name)))

    @property
    def first(self) -> Any:
        """The input whose kind of array the answer takes."""
        name = ENTRIES[self.function].first.name
        if self.inputs.get(name) is None:
            detail = f"{self.function} needs the input {name}; None was given"
            raise problem_error(Problem.of("invalid_parameter", detail))
        return self.inputs[name]

    def plain_params(self) -> dict[str, Value]:
        """The parameters that differ from their defaults and are no arrays, as plain Python values."""
        shared = {name: value for name, value in self.params.items() if name not in self._varying}
        return _given(shared, _defaults(self.function))

    def plain_options(self) -> dict[str, Value]:
        """The options that differ from their defaults, as plain Python values."""
        return _given(self.options, _OPTION_DEFAULTS)


def require_call(given: object, name: str = "the call") -> Invocation[Any]:
    """The argument itself; TypeError if it is not what `matfn.call` builds."""
    if not isinstance(given, Invocation):
        raise TypeError(f"{name} is {type(given).__qualname__}; calls are built like matfn.call.msign(m)")
    return given


def _is_array(value: object) -> bool:
    """Whether a value is a list or an array with a dimension."""
    return isinstance(value, list | tuple) or bool(getattr(value, "ndim", 0))


def _numbers(name: str, value: Any) -> NDArray[np.float64]:
    """The numbers of an array or of nested lists.

    Raises:
        InvalidParameter: they are none, or the lists differ in length.
        UnsupportedArray: it would lose something, as a gradient.
    """
    require_whole(value, name)
    try:
        array = np.asarray(value.tolist() if hasattr(value, "tolist") else value)
    except ValueError:
        raise problem_error(Problem.of("invalid_parameter", f"the lists of {name} differ in length")) from None
    if array.dtype.kind not in "iuf":
        raise problem_error(Problem.of("invalid_parameter", f"{name} is an array of {array.dtype}, not of numbers"))
    return array.astype(np.float64)


def _given(values: Mapping[str, Any], defaults: Mapping[str, Value]) -> dict[str, Value]:
    plain = {name: _plain(name, value) for name, value in values.items() if value is not defaults.get(name, _REQUIRED)}
    return {name: value for name, value in plain.items() if name not in defaults or not _same(value, defaults[name])}


def _defaults_of(declared: Iterable[Parameter]) -> dict[str, Value]:
    return {parameter.name: parameter.default for parameter in declared if not parameter.required}


@cache
def _defaults(function: str) -> Mapping[str, Value]:
    return _defaults_of(ENTRIES[function].parameters)


def _same(value: Value, default: Value) -> bool:
    """Equality that tells True from 1: a boolean in a number's place is the server's to refuse."""
    return type(value) is type(default) and value == default


def _plain(name: str, value: Any) -> Value:
    """Python's own scalars from numpy's and torch's, tuples from any rows of numbers."""
    if isinstance(value, int) and not _INTEGERS[0] <= value <= _INTEGERS[1]:
        raise problem_error(Problem.of("invalid_parameter", f"{name} is an integer of more than 64 bits"))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    require_whole(value, name)
    rows = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(rows, list | tuple):
        return tuple(_plain(name, row) for row in rows)
    if rows is not value:
        return _plain(name, rows)
    detail = f"{name} is {type(value).__name__}, neither a number, a string, a boolean, None nor rows of numbers"
    raise problem_error(Problem.of("invalid_parameter", detail))


_OPTION_DEFAULTS: Final = _defaults_of(OPTIONS)
