"""Small tensors that are cached on their devices, kept alive as long as a CUDA graph reads them.

A graph reads a tensor at the address that it had while the graph was recorded. A cache may drop a tensor, so the owner
of a graph keeps references to all that it read.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["holding", "used"]

_HOLDER: Final[ContextVar[list[Tensor] | None]] = ContextVar("holder", default=None)


@contextmanager
def holding() -> Iterator[list[Tensor]]:
    """Collects the constants used within the block; the list keeps them alive."""
    held: list[Tensor] = []
    token = _HOLDER.set(held)
    try:
        yield held
    finally:
        _HOLDER.reset(token)


def used(constant: Tensor) -> Tensor:
    """The constant, added to the list of the `holding` block that it is used in, if any."""
    held = _HOLDER.get()
    if held is not None:
        held.append(constant)
    return constant
