"""A progress bar on stderr for `map`, or none."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["counted"]

_WIDTH: Final = 40


@contextmanager
def counted(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the number of finished calls, and shows it while inside."""
    if not shown:
        yield lambda _: None
        return

    def show(finished: int) -> None:
        sys.stderr.write(f"\r{_bar(finished, total)}")
        sys.stderr.flush()

    try:
        show(0)
        yield show
    finally:
        sys.stderr.write("\n")


def _bar(finished: int, total: int) -> str:
    """Such as `matfn [##########..........] 5/10`."""
    full = _WIDTH * finished // total if total else _WIDTH
    return f"matfn [{'#' * full}{'.' * (_WIDTH - full)}] {finished}/{total}"
