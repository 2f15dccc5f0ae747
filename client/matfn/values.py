"""The value of an answer as callers get it: an array, a tuple of them, or gradients by the names of their inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matfn.gradient import TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn.schema import Function

__all__ = ["is_value", "value_of"]


def is_value(entry: Function, name: str) -> bool:
    """Whether an output is part of the value: of a vector-Jacobian product only the gradients are."""
    return not entry.gradients or name in entry.gradients


def value_of(entry: Function, arrays: Mapping[str, Any]) -> Any:
    """The value that a call's outputs are, in their order.

    Args:
        entry: of the catalogue.
        arrays: the outputs that are part of the value, by name.
    """
    if entry.gradients:
        return TYPES[entry.subject](**arrays)
    return next(iter(arrays.values())) if len(arrays) == 1 else tuple(arrays.values())
