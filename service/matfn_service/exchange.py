"""A request and its answer, between a server and the routes.

Every answer leaves through Exchange.send, which names the request and, where the body has not been read to its end,
reads and throws away the rest first and closes the connection after. No route has to remember that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from matfn import wire
from matfn._aligned import OFFSET_HEADER
from matfn.segments import SEGMENT_HEADER
from matfn_service import body
from matfn_service.access_log import Entry
from matfn_service.heads import is_inference
from matfn_service.inference_problems import HTTP_HINT, inference_problem, told
from matfn_service.ledger import Kind
from matfn_service.problems import problem_headers, problem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Message, Receive, Send

    from matfn_service.body_reader import BodyReader
    from matfn_service.heads import Head
    from matfn_service.ledger import Account
    from matfn_service.problems import Refusal
    from matfn_service.segments import Segment, Segments

__all__ = ["Exchange"]

_JOINED_BYTES: Final = 1 << 15  # copying so much costs less than one more message
_OFFSET: Final = OFFSET_HEADER.encode()
_SEGMENT: Final = SEGMENT_HEADER.encode()


class Exchange:
    """One request and its answer, over the two channels of ASGI."""

    def __init__(
        self,
        head: Head,
        receive: Receive,
        send: Send,
        rest_seconds: Callable[[], float],
        reader: BodyReader | None,
        segments: Segments,
    ) -> None:
        self.head = head
        self.entry = Entry()
        self.headers: list[tuple[bytes, bytes]] = []  # of every answer, besides its own
        self.status: int | None = None
        self._reader = reader
        self._receive = receive
        self._send = send
        self._rest_seconds = rest_seconds
        self._segments = segments
        self._segment: Segment | None = None
        self._body_ended = not head.has_body

    async def receive(self) -> Message:
        """The next message from the caller."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_ended = True
        return message

    @property
    def key(self) -> str:
        """Name of the request's API key, once the edge has checked it; empty where there is none."""
        return self.entry.key

    @property
    def body_has_come(self) -> bool:
        """Whether the whole body is here already, as far as can be told."""
        return self._reader is not None and self._reader.has_come

    async def read(self, limit: int, account: Account) -> memoryview:
        """The whole body, of at most so many bytes, charged to the request's account (see `body.read`)."""
        if self.head.claim is not None:
            body.check_length(self.head.length, limit)
            self._segment = self._segments.find(self.head.claim)
            account.charge({Kind.BODIES: self.head.claim.length})
            content = await self._segment.read(self.head.claim.length, self.head.offset)
        else:
            content = await body.read(self.receive, self.head.length, limit, account, self.head.offset, self._reader)
            self._body_ended = True
        self.entry.received = content.nbytes
        return content

    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
        """Calls `on_leave` if the caller closes the connection, or its side of it; returns what ends the watch."""
        if self._reader is not None:
            self._reader.watch(on_leave)
            return self._reader.unwatch
        task = asyncio.get_running_loop().create_task(self._hang_up())
        task.add_done_callback(lambda _: on_leave())
        return task.cancel

    async def _hang_up(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def send(self, message: Message) -> None:
        """Sends a message; before an answer, reads and throws away the rest of the body."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            named = b"x-request-id", self.head.request_id.encode()
            headers = [*message.get("headers", []), *self.headers, named]
            if not self._body_ended:
                await self._throw_rest_away()
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        else:
            self.entry.sent += len(message.get("body", b""))
        await self._send(message)

    async def _throw_rest_away(self) -> None:
        # a sender that waits for "100 Continue" has not begun; reading would invite the body
        if not self.head.expects_continue:
            await body.discard(self.receive, self._rest_seconds())

    async def answer(
        self,
        status: int,
        content_type: str,
        buffers: Sequence[wire.Buffer],
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> int:
        """Sends a whole answer, its buffers as they lie in memory; returns the size of its body."""
        length = sum(len(buffer) for buffer in buffers)
        own = [(b"content-type", content_type.encode())]
        if offset := wire.offset_of(buffers):
            own.append((_OFFSET, b"%d" % offset))
        if length <= _JOINED_BYTES:
            buffers = [b"".join(buffers)]
        elif self._segment is not None and self._segment.holds(length):
            await self._segment.write(buffers)
            own.append((_SEGMENT, b"%d" % length))
            buffers = [b""]
        own.append((b"content-length", b"%d" % sum(len(buffer) for buffer in buffers)))
        if self._reader is not None and self._body_ended and self.head.method != "HEAD":
            self.status, self.entry.sent = status, length
            await self._reader.answer(
                status, [*own, *headers, *self.headers, (b"x-request-id", self.head.request_id.encode())], buffers
            )
            return length
        await self.send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
        last = len(buffers) - 1
        for number, buffer in enumerate(buffers):
            await self.send({"type": "http.response.body", "body": buffer, "more_body": number < last})
        return length

    async def refuse(self, refusal: Refusal) -> None:
        """Sends the problem document of a refusal."""
        if is_inference(self.head.path):
            problem = inference_problem(refusal, self.head.request_id, HTTP_HINT)
            twice = {"error": told(problem)}  # where its clients look for it
        else:
            problem, twice = problem_of(refusal, self.head.request_id), {}
        document = wire.encode_problem(problem, self.head.answer, twice)
        await self.answer(problem.status, self.head.answer.problem, [document], problem_headers(refusal))
