"""Small tensors that are kept on their devices, and who still needs them.

A recording reads them where they were when it was made. Caches forget what has not been asked for in a while, so a
recording holds what it used.
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
    """The constants used within, kept alive by whoever keeps the list."""
    held: list[Tensor] = []
    token = _HOLDER.set(held)
    try:
        yield held
    finally:
        _HOLDER.reset(token)


def used(constant: Tensor) -> Tensor:
    """The constant, noted for a recording under way."""
    held = _HOLDER.get()
    if held is not None:
        held.append(constant)
    return constant
