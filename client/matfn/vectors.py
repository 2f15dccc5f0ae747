"""Vectors as right-hand sides: b of one dimension is one column, and its answer has no column either.

This is the rule of numpy.linalg.solve: b of two dimensions is a matrix, whatever the other inputs are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from matfn.schema import VERIFY, VJP

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from matfn.arrays import Layout
    from matfn.wire import Tensor

__all__ = ["as_column", "as_vector", "columns_of", "takes_vector"]

_SIDE: Final = "b"
_COLUMNS: Final = frozenset({_SIDE, "x"})
"""A right-hand side and its solution; in a vector-Jacobian product also the gradient of one and the cotangent of the
other, by the same names."""
_FUNCTIONS: Final = {kind + name for kind in ("", VERIFY, VJP) for name in ("tri_solve", "dplr_solve")}


def takes_vector(function: str, name: str) -> bool:
    """Whether an input of a function may be a vector."""
    return name == _SIDE and function in _FUNCTIONS


def columns_of(function: str, arrays: Mapping[str, Any]) -> Collection[str]:
    """The inputs and outputs that lack the dimension of columns: those beside a right-hand side that is a vector."""
    is_vector = len(getattr(arrays.get(_SIDE), "shape", ())) == 1
    return _COLUMNS if is_vector and function in _FUNCTIONS else frozenset()


def as_column(layout: Layout) -> Layout:
    """The layout with one column."""
    return replace(layout, shape=(*layout.shape, 1))


def as_vector(tensor: Tensor) -> Tensor:
    """The tensor without its only column."""
    return replace(tensor, shape=tensor.shape[:-1])
