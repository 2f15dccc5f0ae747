"""Failures of the command line: a line with the reason, a line with a remedy, and exit code 1."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from matfn.errors import MatfnError, ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["explained", "fail"]


def fail(code: str, detail: str, hint: str | None = None) -> NoReturn:
    """Prints the complaint on stderr, word for word, and ends the command with exit code 1."""
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble((code, "bold red"), ": ", detail))
    if hint:
        console.print(Text(f"hint: {hint}"))
    raise typer.Exit(1)


@contextmanager
def explained() -> Iterator[None]:
    """Turns errors that a user can act on into words and exit code 1."""
    try:
        yield
    except ProblemError as error:
        fail(error.code, error.detail, error.hint)
    except MatfnError as error:
        fail("no answer", str(error), "is the server running? `matfn serve` starts one; --url or MATFN_URL names it")
