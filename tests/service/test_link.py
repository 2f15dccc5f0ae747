"""Messages to a worker over one link: whole in any pieces, and none taken for another."""

from __future__ import annotations

import asyncio
import threading
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING

import pytest

from matfn_service.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[Link, Connection]]:
    """A link and its far end."""
    near, far = Pipe()
    link = Link(near)
    yield link, far
    link.close()
    far.close()


def echoing(far: Connection, count: int) -> threading.Thread:
    """A thread that sends so many messages back."""

    def run() -> None:
        for _ in range(count):
            far.send_bytes(far.recv_bytes())

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 5_000_000])
def test_messages_of_any_size_come_back(ends: tuple[Link, Connection], size: int) -> None:
    """Empty, short and long messages and their answers pass whole, one after the other."""
    link, far = ends
    messages = [bytes([number]) * size for number in range(3)]
    echo = echoing(far, len(messages))

    async def exchanged() -> list[bytes]:
        return [bytes(await link.exchange(message)) for message in messages]

    assert asyncio.run(exchanged()) == messages
    echo.join()


def test_a_link_serves_several_loops(ends: tuple[Link, Connection]) -> None:
    """The loop that waits hears of the answer, whichever asked before."""
    link, far = ends
    echo = echoing(far, 2)

    async def exchanged(message: bytes) -> bytes:
        return bytes(await link.exchange(message))

    assert [asyncio.run(exchanged(b"a")), asyncio.run(exchanged(b"b"))] == [b"a", b"b"]
    echo.join()


def test_an_end_that_closes_is_told(ends: tuple[Link, Connection]) -> None:
    """Who waits for an answer, and who asks after that, hears that the other end is closed."""
    link, far = ends

    async def asked() -> None:
        waiting = asyncio.ensure_future(link.exchange(b"a"))
        await asyncio.to_thread(far.recv_bytes)
        far.close()
        with pytest.raises((EOFError, OSError)):
            await waiting
        with pytest.raises((EOFError, OSError)):
            await link.exchange(b"b")

    asyncio.run(asked())


def test_a_late_answer_is_no_other_messages(ends: tuple[Link, Connection]) -> None:
    """After a cancelled exchange the link is over: its answer cannot be taken for the next one's."""
    link, far = ends

    async def asked() -> None:
        waiting = asyncio.ensure_future(link.exchange(b"a"))
        message = await asyncio.to_thread(far.recv_bytes)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        far.send_bytes(message)
        with pytest.raises(EOFError):
            await link.exchange(b"b")

    asyncio.run(asked())
