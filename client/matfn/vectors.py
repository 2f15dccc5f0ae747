"""Vectors as right-hand sides: b of one dimension is one column, and its answer has no column either.

This is the rule of numpy.linalg.solve: b of two dimensions is a matrix, whatever the other inputs are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from matfn.schema import VERIFY

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from matfn.arrays import Kind, Layout
    from matfn.wire import Tensor

__all__ = ["AsVector", "as_column", "columns_of", "takes_vector"]

_SIDE: Final = "b"
_FUNCTIONS: Final = ("tri_solve", "dplr_solve")
_COLUMNS: Final = dict.fromkeys(_FUNCTIONS, (_SIDE,)) | {VERIFY + name: ("x", _SIDE) for name in _FUNCTIONS}


def takes_vector(function: str, name: str) -> bool:
    """Whether an input of a function may be a vector."""
    return name == _SIDE and function in _COLUMNS


def columns_of(function: str, arrays: Mapping[str, Any]) -> Collection[str]:
    """The inputs that lack the dimension of columns: those beside a right-hand side that is a vector."""
    names = _COLUMNS.get(function)
    if names is None or len(getattr(arrays.get(_SIDE), "shape", ())) != 1:
        return ()
    return names


def as_column(layout: Layout) -> Layout:
    """The layout with one column."""
    return replace(layout, shape=(*layout.shape, 1))


class AsVector:
    """Kind of the answers to a call with a vector: arrays of the kind, without their column."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def tensor(self, array: Any) -> Tensor:
        """The array's numbers."""
        return self._kind.tensor(array)

    def array(self, tensor: Tensor) -> Any:
        """An array over the tensor's memory."""
        return self._kind.array(replace(tensor, shape=tensor.shape[:-1]))
