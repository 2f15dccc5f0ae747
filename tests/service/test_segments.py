"""Memory is shared with the server's own user only, and what a request may name is bounded."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from matfn_service.listening import listen_beside
from matfn_service.problems import Refusal
from matfn_service.segments import Claim, Peer, Segments, SideProtocol, parse_claim
from matfn_service.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20


@pytest.mark.parametrize(("user", "trusted"), [(0, True), (1000, True), (1001, False)])
def test_own_user_and_root_are_trusted(monkeypatch: pytest.MonkeyPatch, user: int, trusted: bool) -> None:
    """Another user than the server's own is given nothing, unless it is root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert Peer(1, user).is_trusted is trusted


def test_peer_is_the_process_that_connected() -> None:
    """The system says which process of which user is at the other end."""
    one, other = socket.socketpair()
    with one, other:
        assert Peer.of(one) == Peer(os.getpid(), os.geteuid())


async def _said(path: Path, owner: Segments) -> bytes:
    """The reply to a question at a side socket in this process."""
    settings = Settings(uds=path)
    listener = listen_beside(settings)
    assert listener is not None
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: SideProtocol(owner), sock=listener.socket)
    reader, writer = await asyncio.open_unix_connection(listener.path)
    try:
        writer.write(b'{"bytes": 4096}\n')
        return await reader.read(4096)
    except ConnectionError:
        return b""
    finally:
        writer.close()
        server.close()
        listener.close()


def test_another_user_gets_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A connection of another user is closed without an answer, and no memory is made."""
    monkeypatch.setattr(Peer, "of", classmethod(lambda cls, _: cls(1, os.geteuid() + 1)))
    monkeypatch.setattr(os, "memfd_create", None)

    assert asyncio.run(_said(tmp_path / "s", Segments(MIB, MIB))) == b""


def test_lack_of_descriptors_ends_the_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A connection that cannot be looked into for want of a descriptor is closed at once; bodies take the socket."""

    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", refuse)

    assert asyncio.run(_said(tmp_path / "socket", Segments(MIB, MIB))) == b""


def test_lack_of_memory_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that makes no memory costs a refusal, and nothing is charged."""

    def fail(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", fail)
    owner = Segments(MIB, MIB)

    assert b"out_of_memory" in asyncio.run(_said(tmp_path / "s", owner))
    assert len(owner) == 0


def test_all_clients_have_a_bound() -> None:
    """One process may have less than all, and all together no more than the whole."""
    owner = Segments(3 * MIB, 2 * MIB)
    made = [owner.make(2 * MIB, owner=1), owner.make(MIB, owner=2)]
    for process in (1, 2, 3):
        with pytest.raises(Refusal, match="MATFN_SHARED_BYTES") as caught:
            owner.make(MIB, owner=process)
        assert caught.value.code == "busy"
    owner.release(made[0][0])
    made.append(owner.make(2 * MIB, owner=3))

    assert len(owner) == 2
    for _, descriptor in made:
        os.close(descriptor)


def test_memory_that_is_read_outlives_its_connection() -> None:
    """A body that is being copied when its connection ends is copied to its end."""
    owner = Segments(MIB, MIB)
    token, descriptor = owner.make(4096, owner=1)
    os.pwrite(descriptor, b"body", 0)
    os.close(descriptor)
    segment = owner.find(Claim(token, 4))
    owner.release(token)

    assert bytes(asyncio.run(segment.read(4, 0))) == b"body"
    with pytest.raises(Refusal, match="no longer"):
        owner.find(Claim(token, 4))


def test_copy_is_private() -> None:
    """A client that writes into the memory after its body was read changes nothing."""
    owner = Segments(MIB, MIB)
    token, descriptor = owner.make(4096, owner=1)
    os.pwrite(descriptor, b"body", 0)
    read = asyncio.run(owner.find(Claim(token, 4)).read(4, 0))
    os.pwrite(descriptor, b"evil", 0)
    os.close(descriptor)

    assert bytes(read) == b"body"


def test_claims_are_read() -> None:
    """A claim is a token and a number of at most 18 digits."""
    assert parse_claim("abc 12") == Claim("abc", 12)
    assert parse_claim("abc") is parse_claim("abc 1x") is parse_claim("a " + "1" * 19) is None


@pytest.mark.parametrize(
    ("given", "most", "of_one"),
    [
        ({}, 4 * MIB, 2 * MIB),
        ({"shared_bytes": 6}, 6, 3),
        ({"shared_client_bytes": 5}, 4 * MIB, 5),
        ({"shared_bytes": 0}, 0, 0),
    ],
)
def test_bounds_follow_the_largest_request(given: dict[str, int], most: int, of_one: int) -> None:
    """All shared memory is four times the largest request, and one client's half of it, unless set."""
    settings = Settings.model_validate({"max_request_bytes": MIB, **given})

    assert (settings.most_shared_bytes, settings.most_shared_client_bytes) == (most, of_one)


def test_no_side_socket_where_nothing_can_be_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Over TCP, with a bound of zero, and on systems without memfd_create nothing is offered."""
    assert listen_beside(Settings()) is None
    assert listen_beside(Settings(uds=tmp_path / "s", shared_bytes=0)) is None
    monkeypatch.delattr(os, "memfd_create")
    assert listen_beside(Settings(uds=tmp_path / "s")) is None
