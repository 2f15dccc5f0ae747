"""A progress bar on stderr for `map`, or none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["counted"]


@contextmanager
def counted(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the number of finished calls, and shows it while inside."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("matfn", total=total)
        yield lambda finished: bar.update(task, completed=finished)
