"""Common parts of the functions of torch and of JAX."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matfn.errors import Problem, problem_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn.catalogue import Function

__all__ = ["ONCE", "as_json", "gradient_arguments", "own_shapes"]

ONCE: Final = "a gradient of matfn is not differentiable itself: derivatives of second order are not computed"
"""Why there is no second derivative."""


def as_json(arguments: Mapping[str, Any]) -> str:
    """Parameters and options as JSON, numbers of numpy and torch as Python's."""
    return json.dumps(arguments, default=lambda value: value.tolist())


def own_shapes(function: Function, arguments: str) -> list[tuple[int, ...]]:
    """Shapes of the parameters of which each matrix has its own, from the arguments as JSON."""
    given = json.loads(arguments)
    return [np.shape(given[entry.name]) for entry in function.varying if isinstance(given.get(entry.name), list)]


def gradient_arguments(function: Function, arguments: str) -> dict[str, Any]:
    """The arguments of a gradient from those of its function, which is computed by methods of its own in float64.

    Args:
        function: whose gradient it is.
        arguments: of the function, as JSON.

    Raises:
        InvalidParameter: one of them replaces the function by an approximation, whose derivative is not computed.
    """
    given = json.loads(arguments)
    replacing = {entry.name: entry.default for entry in function.parameters if entry.replaces}
    for name, default in replacing.items():
        if given.get(name, default) != default:
            detail = f"{function.name} has a gradient only without {name}; {given[name]!r} was given"
            raise problem_error(Problem.of("invalid_parameter", detail))
    return {name: value for name, value in given.items() if name not in {"method", "precision", *replacing}}
