"""A request's body: read once into memory of its size, where its numbers lie aligned, or thrown away within bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from matfn_service.ledger import Kind
from matfn_service.problems import CallerLeft, Refusal
from matfn_service.shared_memory import lent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive

    from matfn_service.body_reader import BodyReader
    from matfn_service.ledger import Account

__all__ = ["REST_BYTES", "REST_SECONDS", "check_length", "discard", "read"]

REST_BYTES: Final = 64 * 2**20
REST_SECONDS: Final = 2.0
_STEP: Final = 1 << 16  # a body of unknown length is charged so much ahead of what has come


def check_length(length: int | None, limit: int) -> None:
    """Refuses a body by its declared length alone.

    Raises:
        Refusal: `too_large`.
    """
    if length is not None and length > limit:
        raise _too_large(f"the body has {length} bytes", limit)


async def read(
    receive: Receive,
    length: int | None,
    limit: int,
    account: Account,
    offset: int = 0,
    reader: BodyReader | None = None,
) -> memoryview:
    """The whole body as writable memory; one buffer is filled in place where its length was declared.

    Args:
        receive: where it comes from.
        length: its declared length; None if it comes in chunks.
        limit: the largest that is taken.
        account: of the request; it is charged the declared length, or what has come.
        offset: where in it the first tensor begins, which is laid on an aligned address.
        reader: a shorter way for a body of declared length, if there is one.

    Raises:
        Refusal: `too_large` as soon as more than `limit` bytes are declared or have come, `busy` if there is no room;
            nothing of them is kept.
        CallerLeft: the connection closed in the middle.
    """
    check_length(length, limit)
    if length is None:
        return await _read_chunked(receive, limit, account)
    account.charge({Kind.ARRIVING: length})
    # its pages are untouched, so a length that was only claimed costs no memory
    buffer = lent(length, offset)
    filled = await (reader.fill(buffer) if reader is not None and reader.is_open else _fill(receive, buffer))
    if filled != length:
        raise Refusal("malformed", f"the body ended after {filled} of {length} bytes")
    account.turn(Kind.ARRIVING, Kind.BODIES)
    return buffer


async def _fill(receive: Receive, buffer: memoryview) -> int:
    filled = 0
    async for chunk in _chunks(receive):
        if filled + len(chunk) > len(buffer):
            raise Refusal("malformed", f"the body is longer than its Content-Length of {len(buffer)} bytes")
        buffer[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return filled


async def _read_chunked(receive: Receive, limit: int, account: Account) -> memoryview:
    buffer, charged = bytearray(), 0
    async for chunk in _chunks(receive):
        length = len(buffer) + len(chunk)
        if length > limit:
            raise _too_large(f"more than {limit} bytes have come", limit)
        if length > charged:
            account.charge({Kind.ARRIVING: length + _STEP - charged})
            charged = length + _STEP
        buffer += chunk
    account.turn(Kind.ARRIVING, Kind.BODIES)
    return memoryview(buffer)


async def discard(receive: Receive, seconds: float = REST_SECONDS) -> None:
    """Reads and throws away the rest of a body, up to 64 MiB or `seconds`.

    Otherwise a sender in the middle of its body would see a reset instead of an early answer.
    """
    remaining = REST_BYTES
    try:
        async with asyncio.timeout(seconds):
            async for chunk in _chunks(receive):
                remaining -= len(chunk)
                if remaining <= 0:
                    return
    except TimeoutError:
        return


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        more = message.get("more_body", False)
        yield message.get("body", b"")


def _too_large(found: str, limit: int) -> Refusal:
    return Refusal(
        "too_large",
        f"{found}; the server takes up to {limit} (MATFN_MAX_REQUEST_BYTES)",
        "send fewer matrices per request; what is too large at once may come in several",
    )
