"""The line of the caller's program that a warning points at."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Line", "callers_line"]

_TRACED: Final = "<eval_with_key>"  # the file of what torch.fx writes, as torch.compile does for a function
_PASSED: Final = frozenset({"matfn", "torch"})  # packages between a caller and the warning: torch runs our operators


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a program as Python's warnings name it: file, number, module, and the module's record of warnings."""

    filename: str
    number: int
    module: str
    registry: dict[str | tuple[str, type[Warning], int], int]

    def warn(self, words: str, category: type[Warning]) -> None:
        """Warns about this line."""
        warnings.warn_explicit(words, category, self.filename, self.number, self.module, self.registry)


def callers_line() -> Line:
    """The innermost line under way that is neither matfn's nor torch's; the outermost where there is no other."""
    frame = sys._getframe(1)  # noqa: SLF001 - as the standard library's warnings and logging do
    while (before := frame.f_back) is not None and _is_passed(frame):
        frame = before
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    return Line(frame.f_code.co_filename, frame.f_lineno, _module(frame), registry)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__") or "<string>")


def _is_passed(frame: FrameType) -> bool:
    package = _module(frame).partition(".")[0]
    return package in _PASSED or frame.f_code.co_filename.startswith(_TRACED)
