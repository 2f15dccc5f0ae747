"""Partition of a parameter into the matrix blocks that are preconditioned by themselves.

A tensor of order above 2, such as a convolution's weight, is taken as a matrix: its first dimension against all
others. Dimensions of length 1 do not count, and what is left of vectors and scalars has no blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Blocks"]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a tensor of a given shape.

    Attributes:
        rows: length of the tensor's first dimension as a matrix, 0 where it has no blocks.
        columns: length of the second.
        limit: largest number of rows or columns of a block.
    """

    rows: int
    columns: int
    limit: int

    @classmethod
    def of(cls, shape: Sequence[int], limit: int) -> Blocks:
        """The blocks of a tensor of this shape, of at most `limit` rows and columns each."""
        rows, *others = [length for length in shape if length != 1] or [0]
        return cls(rows, prod(others), limit) if others and rows and all(others) else cls(0, 0, limit)

    def views(self, tensor: Tensor) -> list[Tensor]:
        """The blocks, row by row, of nearly equal sizes; views of a contiguous tensor."""
        if not self.rows:
            return []
        strips = tensor.reshape(self.rows, self.columns).tensor_split(-(-self.rows // self.limit), 0)
        return [block for strip in strips for block in strip.tensor_split(-(-self.columns // self.limit), 1)]
