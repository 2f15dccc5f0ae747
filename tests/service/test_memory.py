"""Freed pages go back to the system after work, when nothing more has come for a while."""

from __future__ import annotations

import asyncio

import pytest

from matfn_service import memory

pytestmark = pytest.mark.anyio

GIB = 2**30


@pytest.mark.parametrize(
    ("done", "resident", "trims"),
    [
        ([1, 1, 1, 1], [0, GIB, 0, 0, 0], 1),
        ([1, 2, None, 3], [0, GIB, GIB, GIB], 0),
        ([1, 1, 1, 1], [0, GIB // 8, GIB // 8, GIB // 8], 0),
    ],
    ids=["idle", "busy", "little"],
)
async def test_heap_is_trimmed_when_idle(
    monkeypatch: pytest.MonkeyPatch, done: list[int | None], resident: list[int], trims: int
) -> None:
    """A heap that has grown much is trimmed once, when two looks find the same work done."""
    trimmed: list[int] = []
    looks, sizes, over = iter(done), iter(resident), asyncio.Event()

    def work_done() -> int | None:
        found = next(looks, -1)
        if found == -1:
            over.set()
            return None
        return found

    monkeypatch.setattr(memory, "_trim", trimmed.append)
    monkeypatch.setattr(memory, "_resident", lambda: next(sizes))
    task = asyncio.create_task(memory.trim_when_idle(work_done, seconds=0))
    await over.wait()
    task.cancel()

    assert len(trimmed) == trims
