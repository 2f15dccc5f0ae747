"""The memory that the service may use is that of its container, else the machine's, and its parts follow from it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from matfn_service.memory_limit import memory_limit
from matfn_service.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
GIB = 2**30


@pytest.mark.parametrize(
    ("memberships", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "1000000\n"}, 1000000),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "2000000\n"}, 2000000),
        ("0::/a/b\n", {"a/b/memory.max": "3000000\n", "a/memory.max": "2000000\n"}, 2000000),
        ("0::/outside/of/it\n", {"memory.max": "4000000\n"}, 4000000),
        ("5:cpu,memory:/a\n4:pids:/b\n", {"memory/a/memory.limit_in_bytes": "5000000\n"}, 5000000),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ("0::/a\n", {"a/memory.max": "max\n"}, MACHINE),
        ("0::/a\n", {}, MACHINE),
        ("", {}, MACHINE),
    ],
)
def test_the_tightest_limit_is_found(tmp_path: Path, memberships: str, files: dict[str, str], limit: int) -> None:
    """Of both versions of control groups, the limits of a group and of all above it count."""
    (tmp_path / "own").write_text(memberships)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)

    assert memory_limit(tmp_path / "groups", tmp_path / "own") == limit


def test_memory_is_three_quarters_of_the_limit() -> None:
    """What is not set leaves a quarter to what is not counted."""
    assert Settings().memory == int(memory_limit() * 3 / 4)


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("memory", [GIB, 2 * GIB, 8 * GIB, 64 * GIB, 1024 * GIB])
def test_parts_fit_into_the_memory(memory: int, workers: int) -> None:
    """Processes, batches and what requests are charged take no more than all memory; the queue holds a request."""
    if memory <= (workers + 1) * 300 * 10**6:
        with pytest.raises(ValueError, match="MATFN_WORKERS"):
            Settings(memory=memory, workers=workers)
        return
    settings = Settings(memory=memory, workers=workers)
    taken = (workers + 1) * 300 * 10**6 + workers * settings.worker_bytes + settings.held_bytes

    assert taken <= memory * 1.125
    assert 1024 <= 3 * settings.max_request_bytes <= settings.queue_bytes <= settings.held_bytes
    assert settings.kept_bytes <= settings.held_bytes / 4


def test_large_memory_has_the_usual_parts() -> None:
    """Where there is enough, queue, requests and batches are bounded as they are documented."""
    settings = Settings(memory=32 * GIB, workers=2)

    assert (settings.queue_bytes, settings.max_request_bytes, settings.batch_bytes) == (4 * GIB, 576 << 20, 256 << 20)


def test_set_parts_are_kept() -> None:
    """A part that is set does not follow from the memory."""
    settings = Settings(memory=2 * GIB, workers=1, queue_bytes=10**9, max_request_bytes=10**8, batch_bytes=10**7)

    assert (settings.queue_bytes, settings.max_request_bytes, settings.batch_bytes) == (10**9, 10**8, 10**7)
