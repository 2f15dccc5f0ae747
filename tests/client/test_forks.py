"""Clients in a forked child: no thread of the parent stops them, and they share no connection with it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn
from matfn.forks import Slots
from scripted_socket import Conversation, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from processes import ServerProcess

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

M = np.diag([2.0, -3.0, 4.0])
_SECONDS = 30


def forked(work: Callable[[], None]) -> None:
    """Runs `work` in a forked child; fails where it does."""
    child = os.fork()
    if child == 0:
        signal.alarm(_SECONDS)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def signs(client: matfn.Client | matfn.LocalClient) -> None:
    """Asks for a sign."""
    np.testing.assert_allclose(client.msign(M), np.sign(M), atol=1e-12)


def test_child_works_while_a_thread_of_its_parent_asks(server: ServerProcess) -> None:
    """A thread that waits for the limits holds a lock, of which the child has another."""

    def script(silent: ScriptedServer, conversation: Conversation) -> None:
        silent.read(conversation)
        asked.set()
        silent.read(conversation)

    asked = threading.Event()
    with ScriptedServer(script) as silent:
        client = matfn.Client([silent.url, server.url], timeout=20)
        client._transport._servers._turn = 0  # type: ignore[attr-defined]
        thread = threading.Thread(target=lambda: _quietly(client))
        thread.start()
        assert asked.wait(10)
        forked(lambda: signs(client))
    thread.join()
    client.close()


def _quietly(client: matfn.Client) -> None:
    """Asks, whatever becomes of it."""
    try:
        signs(client)
    except matfn.TransportError:
        return


@pytest.mark.parametrize("held", ["_limits_lock", "_transport.transport._slots", "_transport.transport._pool.lock"])
def test_child_has_locks_of_its_own(server: ServerProcess, held: str) -> None:
    """Whichever lock is taken when the process forks, the child goes on."""
    with matfn.Client(server.url, max_connections=1) as client:
        lock: Slots = client  # type: ignore[assignment]
        for name in held.split("."):
            lock = getattr(lock, name)
        with lock:
            forked(lambda: signs(client))
        signs(client)


def test_parent_and_child_use_a_client_at_once(server: ServerProcess) -> None:
    """Each has connections of its own, and each its own answers."""
    with matfn.Client(server.url) as client:
        signs(client)
        child = os.fork()
        mine = M if child else -M
        signal.alarm(0 if child else _SECONDS)
        right = False
        try:
            values = [client.msign(number * mine) for number in range(1, 30)]
            right = all(np.allclose(value, np.sign(mine), atol=1e-12) for value in values)
        finally:
            if child == 0:
                os._exit(not right)
        assert right
        assert os.waitpid(child, 0)[1] == 0


def test_async_client_works_in_a_child(server: ServerProcess) -> None:
    """A client that was used by an event loop of the parent is used by one of the child, and again by the parent's."""

    async def asks() -> None:
        np.testing.assert_allclose(await client.msign(M), np.sign(M), atol=1e-12)

    client = matfn.AsyncClient(server.url)
    with asyncio.Runner() as runner:
        runner.run(asks())
        forked(lambda: asyncio.run(asks()))
        runner.run(asks())
        runner.run(client.close())


def test_local_client_works_in_a_child() -> None:
    """A child computes, though its parent has computed on several threads and computes on another one now."""
    client, computing, stop = matfn.LocalClient(device="cpu"), threading.Event(), threading.Event()

    def compute() -> None:
        while not stop.is_set():
            client.msign(np.ones((8, 64, 64)) + np.eye(64))
            computing.set()

    def everything() -> None:
        signs(client)
        client.map([matfn.call.msign(number * M) for number in range(1, 9)])
        client.verify.msign(np.sign(M), M)

    client.msign(np.ones((4, 300, 300)) + np.eye(300))
    thread = threading.Thread(target=compute)
    thread.start()
    assert computing.wait(30)
    try:
        forked(everything)
    finally:
        stop.set()
        thread.join()


def test_child_is_told_that_it_cannot_use_the_parents_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A LocalClient on a GPU refuses at once in a forked child, and says what works."""
    client = matfn.LocalClient(device="cpu")
    client._device = "cuda:0"
    monkeypatch.setattr("torch.cuda._is_in_bad_fork", lambda: True)

    for use in (lambda: client.msign(M), lambda: client.map([matfn.call.msign(M)] * 2)):
        with pytest.raises(matfn.ForkedError, match="spawn"):
            use()


def test_slots_bound_what_is_inside() -> None:
    """A slot is waited for as long as is said, and given back."""
    slots = Slots(2)
    assert slots.acquire()
    assert slots.acquire()
    assert not slots.acquire(0.01)
    slots.release()
    assert slots.acquire(0.01)
