"""Scalar arguments: parsed and checked against their domains in the catalogue."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.contract.functions import OPTIONS
from matfn_kernels.contract.rejection import Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.contract.functions import Parameter, Value

__all__ = ["domain_of", "parse_parameters", "within_domain"]

_OPTIONS: Final = {option.name for option in OPTIONS}


def parse_parameters(owner: str, specs: tuple[Parameter, ...], given: Mapping[str, object]) -> dict[str, Value]:
    """Every parameter's value, defaults filled in, from what was given by name.

    Raises:
        Rejection: for an unknown name, a missing or a wrong value.
    """
    known = {spec.name for spec in specs}
    for name in given:
        if name not in known:
            taken = f"it takes {', '.join(spec.name for spec in specs) or 'none'}"
            hint = f"{taken}; {name} is an option" if name in _OPTIONS else taken
            raise Rejection("invalid_parameter", f"{owner} takes no {name!r}", hint)
    return {spec.name: _parse_parameter(owner, spec, given) for spec in specs}


def _parse_parameter(owner: str, spec: Parameter, given: Mapping[str, object]) -> Value:
    if spec.name not in given:
        if spec.required:
            raise Rejection("invalid_parameter", f"{owner} needs {spec.name!r}: {spec.summary}")
        return spec.default
    value = given[spec.name]
    if value is None and spec.nullable:
        return None
    parsed = _PARSERS[spec.kind](spec, value)
    if parsed is None:
        raise Rejection(
            "invalid_parameter", f"{owner}: {spec.name}={_shown(value)}", f"{spec.name} must be {domain_of(spec)}"
        )
    return parsed


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - a line's worth


def _parse_integer(spec: Parameter, value: object) -> Value:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return int(value) if _inside(spec, value) else None


def _parse_number(spec: Parameter, value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and _inside(spec, number) else None


def _parse_boolean(_: Parameter, value: object) -> Value:
    return value if isinstance(value, bool) else None


def _parse_string(spec: Parameter, value: object) -> Value:
    return value if isinstance(value, str) and value in spec.choices else None


def _parse_damping(spec: Parameter, value: object) -> Value:
    return _parse_string(spec, value) if isinstance(value, str) else _parse_number(spec, value)


def _parse_coefficients(spec: Parameter, value: object) -> Value:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= (spec.maximum or 0):
        return None
    rows = [_parse_row(row) for row in value]
    return None if None in rows else tuple(row for row in rows if row is not None)


def _parse_row(row: object) -> tuple[float, float, float] | None:
    if not isinstance(row, list | tuple) or len(row) != 3:  # noqa: PLR2004 - (a, b, c)
        return None
    numbers = [entry for entry in row if isinstance(entry, int | float) and not isinstance(entry, bool)]
    if len(numbers) != len(row) or not all(abs(number) <= 1e6 for number in numbers):  # noqa: PLR2004
        return None
    a, b, c = (float(number) for number in numbers)
    return (a, b, c)


def _parse_offsets(spec: Parameter, value: object) -> Value:
    """Whole numbers from 0 that never fall, two at least."""
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= (spec.maximum or 0):  # noqa: PLR2004 - a sequence's two ends
        return None
    if any(isinstance(entry, bool) or not isinstance(entry, int) for entry in value):
        return None
    rising = all(first <= second for first, second in pairwise(value))
    return tuple(value) if rising and value[0] == 0 else None


def _inside(spec: Parameter, value: float) -> bool:
    return (spec.minimum is None or value >= spec.minimum) and (spec.maximum is None or value <= spec.maximum)


_PARSERS: Final = {
    "integer": _parse_integer,
    "number": _parse_number,
    "boolean": _parse_boolean,
    "string": _parse_string,
    "damping": _parse_damping,
    "coefficients": _parse_coefficients,
    "offsets": _parse_offsets,
}


def within_domain(spec: Parameter, numbers: Tensor) -> Tensor:
    """Which numbers of an array are in the domain of a parameter."""
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    return torch.isfinite(numbers) & (numbers >= low) & (numbers <= high)


def domain_of(spec: Parameter) -> str:
    """The domain in words, for the hint."""
    words = {
        "integer": f"a whole number{_range(spec)}",
        "number": f"a finite number{_range(spec)}",
        "boolean": "true or false",
        "string": f"one of {', '.join(spec.choices)}",
        "damping": f"a finite number{_range(spec)}, {', '.join(map(repr, spec.choices))}",
        "coefficients": f"1 to {spec.maximum or 0:g} rows (a, b, c) of numbers of magnitude at most 1e6",
        "offsets": f"2 to {spec.maximum or 0:g} whole numbers from 0 up that never fall",
    }[spec.kind]
    return words + (" or None" if spec.nullable else "")


def _range(spec: Parameter) -> str:
    low, high = spec.minimum, spec.maximum
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low is not None else f" of at most {high:g}" if high is not None else ""
