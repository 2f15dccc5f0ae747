"""Vectors as right-hand sides: b of one dimension is one column, and its answer has no column either.

This is the rule of numpy.linalg.solve: b of two dimensions is a matrix, whatever the other inputs are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from matfn.catalogue import ENTRIES
from matfn.errors import Problem, problem_error
from matfn.schema import VERIFY, VJP

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from matfn.arrays import Layout
    from matfn.wire import Tensor

__all__ = ["SIDES", "SYSTEMS", "Shaped", "as_column", "as_vector", "columns_of", "require_vectors", "takes_vector"]

_SIDE: Final = "b"
_ORDER: Final = "n"  # the catalogue's name of the order of a system
SIDES: Final = frozenset({_SIDE, "x"})
"""A right-hand side and its solution; in a vector-Jacobian product also the gradient of one and the cotangent of the
other, by the same names."""
SYSTEMS: Final = frozenset({"tri_solve", "dplr_solve"})
"""The functions that solve for right-hand sides."""
_FUNCTIONS: Final = {kind + name for kind in ("", VERIFY, VJP) for name in SYSTEMS}


class Shaped(Protocol):
    """An array, or its layout."""

    @property
    def shape(self) -> Sequence[int]:
        """Its dimensions."""


def takes_vector(function: str, name: str) -> bool:
    """Whether an input of a function may be a vector."""
    return name == _SIDE and function in _FUNCTIONS


def columns_of(function: str, arrays: Mapping[str, Shaped]) -> Collection[str]:
    """The inputs and outputs that lack the dimension of columns: those beside a right-hand side that is a vector."""
    is_vector = function in _FUNCTIONS and _SIDE in arrays and len(arrays[_SIDE].shape) == 1
    return SIDES if is_vector else frozenset()


def require_vectors(function: str, arrays: Mapping[str, Shaped]) -> None:
    """Refuses vectors that do not fit their matrix, by the shapes that the caller gave.

    Raises:
        InvalidShape: a vector has another length, or a batch of them lacks the dimension of columns.
    """
    if function not in _FUNCTIONS or _SIDE not in arrays:
        return
    shapes = {name: tuple(map(int, array.shape)) for name, array in arrays.items()}
    matrices = {name: shape for name, shape in shapes.items() if name not in SIDES}
    order = ENTRIES[function].sizes(matrices).get(_ORDER)
    owner = next(iter(matrices), "")
    if order is None:
        return
    if columns_of(function, arrays):
        for name in sorted(SIDES & shapes.keys()):
            _require_length(name, shapes[name], order, owner)
    elif shapes[_SIDE][-2:-1] != (order,) and shapes[_SIDE][-1:] == (order,):
        detail = f"{_SIDE} has shape {shapes[_SIDE]}: n is {shapes[_SIDE][-2]}, but {owner} makes it {order}"
        hint = "b must be (*, n, m); a batch of vectors is b[..., None], a column each"
        raise problem_error(Problem.of("invalid_shape", detail, hint=hint))


def _require_length(name: str, shape: tuple[int, ...], order: int, owner: str) -> None:
    if shape[-1:] == (order,):
        return
    length = f"n is {shape[-1]}" if shape else "it has no dimension"
    needs = "b must be (n,) or (*, n, m)" if name == _SIDE else f"b is a vector (n,), and {name} then (*, n)"
    detail = f"{name} has shape {shape}: {length}, but {owner} makes it {order}"
    raise problem_error(Problem.of("invalid_shape", detail, hint=needs))


def as_column(layout: Layout) -> Layout:
    """The layout with one column."""
    return replace(layout, shape=(*layout.shape, 1))


def as_vector(tensor: Tensor) -> Tensor:
    """The tensor without its only column."""
    return replace(tensor, shape=tensor.shape[:-1])
