"""Failures of the command line: a line with the reason, a line with a remedy, and an exit code.

Under --json a failure is the service's problem object in one line, where the answer would have been: on stdout, or on
stderr where stdout is for an array. What the service has no code for has `type`, `title`, `detail` and `hint` alone.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from matfn import wire
from matfn.errors import MatfnError, ProblemError, UnsupportedArray

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EXIT_CODES", "Exit", "Form", "explained", "fail", "told_as"]


class Form(Enum):
    """Where failures are told, and how."""

    WORDS = "words on stderr"
    JSON = "JSON on stdout"
    JSON_BESIDE = "JSON on stderr"


_form: Final = ContextVar("matfn_complaints", default=Form.WORDS)


class Exit(IntEnum):
    """Exit codes of commands that ask for answers."""

    ANSWERED = 0
    REJECTED = 1
    UNUSABLE = 2
    UNSERVED = 3


EXIT_CODES: Final = (
    "Exit codes: 0, answered, and for verify every certificate is converged; 1, a claim is not converged, or the "
    "matrices have no answer; 2, the usage, a file or an input is wrong; 3, the service failed or is unreachable."
)
"""The help on exit codes."""

_WITHOUT_ANSWER: Final = frozenset(
    {"not_positive", "singular", "sign_undefined", "not_stabilisable", "out_of_range", "not_converged"}
)
_OF_INPUT: Final = frozenset({400, 413, 415, 422})


def fail(code: str, detail: str, hint: str | None = None, *, exit_code: Exit = Exit.REJECTED) -> NoReturn:
    """Prints the complaint on stderr, word for word, or as JSON, and ends the command."""
    if _form.get() is not Form.WORDS:
        words = {"title": code, "detail": detail} | ({"hint": hint} if hint else {})
        _print_json(json.dumps({"type": "about:blank", **words}))
    else:
        console = Console(stderr=True, soft_wrap=True)
        console.print(Text.assemble((code, "bold red"), ": ", detail))
        if hint:
            console.print(Text(f"hint: {hint}"))
    raise typer.Exit(exit_code)


def _refuse(error: ProblemError) -> NoReturn:
    """Prints a problem, and ends the command with its exit code."""
    if _form.get() is Form.WORDS:
        fail(error.code, error.detail, error.hint, exit_code=_exit_of(error))
    _print_json(wire.encode_problem(error.problem, wire.Media.JSON).decode())
    raise typer.Exit(_exit_of(error))


def _print_json(document: str) -> None:
    typer.echo(document, err=_form.get() is Form.JSON_BESIDE)


@contextmanager
def told_as(form: Form) -> Iterator[None]:
    """Failures within are told in this form."""
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


@contextmanager
def explained() -> Iterator[None]:
    """Turns errors that a user can act on into words and an exit code."""
    try:
        yield
    except ProblemError as error:
        _refuse(error)
    except UnsupportedArray as error:
        fail("unusable input", error.detail, error.hint, exit_code=Exit.UNUSABLE)
    except MatfnError as error:
        hint = "is the server running? `matfn serve` starts one; --url or MATFN_URL names it"
        fail("no answer", str(error), hint, exit_code=Exit.UNSERVED)


def _exit_of(error: ProblemError) -> Exit:
    """The exit code of a problem: whether the matrices, the call or the service is its cause."""
    if error.code in _WITHOUT_ANSWER:
        return Exit.REJECTED
    is_of_input = error.status in _OF_INPUT or error.code == "unknown_function"
    return Exit.UNUSABLE if is_of_input else Exit.UNSERVED
