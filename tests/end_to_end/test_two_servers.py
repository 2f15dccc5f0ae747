"""Two server processes behind one list of URLs: one may die at any moment, and no caller hears of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CALLERS = 8
SCRIPT = Path(__file__).parents[1] / "support" / "restarted_servers.py"


class Pair:
    """Two servers that are started again when they die."""

    def __init__(self, folder: Path) -> None:
        self.paths = [str(folder / "a.sock"), str(folder / "b.sock")]
        self.process = subprocess.Popen([sys.executable, str(SCRIPT), *self.paths], stdout=subprocess.PIPE, text=True)
        self.urls = [f"unix://{path}" for path in self.paths]
        self.children = dict(self.started() for _ in self.paths)

    def started(self) -> tuple[str, int]:
        """Path and process of the next server that starts."""
        assert self.process.stdout is not None
        path, child = self.process.stdout.readline().split()
        return path, int(child)

    def kill(self, number: int) -> None:
        """Ends a server at once; returns when another one is starting in its place."""
        os.kill(self.children[self.paths[number]], signal.SIGKILL)
        path, child = self.started()
        self.children[path] = child


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers, ready."""
    pair = Pair(tmp_path_factory.mktemp("servers"))
    for url in pair.urls:
        with matfn.Client(url, max_retries=20) as client:
            client.msign(np.eye(2))
    yield pair
    pair.process.terminate()
    pair.process.wait()
    assert pair.process.stdout is not None
    pair.process.stdout.close()


def matrix(number: int) -> NDArray[np.float64]:
    """A matrix that no other call sends, and that a clipping without bounds gives back."""
    return np.diag([number + 1.0, 1.0])


def until_used(pair: Pair, number: int) -> None:
    """Returns when the server of this number has answered calls since it started; the test's time limit ends it."""
    with matfn.Client(pair.urls[number], max_retries=20) as client:
        while client.status()["counters"]["answered"] < CALLERS:
            continue


def call_until(over: Event, client: matfn.Client, caller: int) -> int:
    """Calls as long as the test goes on; returns how many answers were wrong."""
    wrong, number = 0, caller << 20
    while not over.is_set():
        number += 1
        wrong += not np.allclose(client.mclip(matrix(number), hi=None), matrix(number), rtol=1e-9)
    return wrong


async def call_all_until(over: Event, client: matfn.AsyncClient) -> int:
    """The same from many tasks."""

    async def call(caller: int) -> int:
        wrong, number = 0, caller << 20
        while not over.is_set():
            number += 1
            wrong += not np.allclose(await client.mclip(matrix(number), hi=None), matrix(number), rtol=1e-9)
        return wrong

    async with client:
        return sum(await asyncio.gather(*(call(caller) for caller in range(CALLERS))))


def test_killed_servers_cost_threads_nothing(pair: Pair) -> None:
    """While threads call, one server after the other is killed: all calls are answered, and both come back into use."""
    over = Event()
    with matfn.Client(pair.urls) as client, ThreadPoolExecutor(CALLERS) as threads:
        callers = [threads.submit(call_until, over, client, number) for number in range(CALLERS)]
        try:
            for number in (0, 1):
                until_used(pair, number)
                pair.kill(number)
                until_used(pair, number)
        finally:
            over.set()

        assert [caller.result() for caller in callers] == [0] * CALLERS


def test_killed_servers_cost_tasks_nothing(pair: Pair) -> None:
    """The same holds for the asynchronous client."""
    over = Event()
    with ThreadPoolExecutor(1) as thread:
        wrong = thread.submit(asyncio.run, call_all_until(over, matfn.AsyncClient(pair.urls)))
        try:
            for number in (0, 1):
                until_used(pair, number)
                pair.kill(number)
                until_used(pair, number)
        finally:
            over.set()

        assert wrong.result() == 0
