"""The line of a results file that says which commit was measured, by which command and on which machine.

Tables that are older than this module name the commit that brought them.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["LINE", "commit", "processor", "provenance"]

LINE: Final = r"^Commit `[0-9a-f]{7,40}(-dirty)?`\. Command: `[^`]+`\. Machine: .+\.$"
"""A regular expression that the line matches."""

_ROOT: Final = Path(__file__).parents[1]


def provenance(machine: str | None = None, command: str | None = None) -> str:
    """The line.

    Args:
        machine: what computed; the processor and its cores if not given.
        command: what was run; this process's own command if not given.
    """
    ran = command or f"python {' '.join(sys.argv)}"
    return (
        f"Commit `{commit()}`. Command: `{ran}`. Machine: {machine or processor()}, Python {platform.python_version()}."
    )


def commit() -> str:
    """The hash of the commit that is checked out, marked where files other than results differ from it."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return _git("rev-parse", "--short=9", "HEAD") + ("-dirty" if changed else "")


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
