"""The memory that this process may use: that of its control groups, else the machine's."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["memory_limit"]

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_VERSION_1: Final = "memory"


def memory_limit(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """Bytes of the tightest limit on this process, of all control groups that it is in and of the machine.

    Args:
        groups: where the control groups are mounted, version 2 or 1.
        own: the file that names this process's groups.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_number(path) for path in _files(groups, _text(own))]
    return min([machine, *(limit for limit in limits if limit is not None)])


def _files(groups: Path, memberships: str) -> Iterator[Path]:
    """The files with the limits of each group that a process is in, and of those above it.

    In a container the paths may be those outside of it; what is not there is not read.
    """
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(groups, path, "memory.max")
        elif _VERSION_1 in controllers.split(","):
            yield from _upwards(groups / _VERSION_1, path, "memory.limit_in_bytes")


def _upwards(root: Path, path: str, name: str) -> Iterator[Path]:
    group = PurePosixPath(path.lstrip("/"))
    for parent in (group, *group.parents):
        yield root / parent / name


def _number(path: Path) -> int | None:
    """The number in a file; None if it has none, or is not there."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
