"""From a body to validated and planned calls: everything before the queue.

The messages of invalid calls are those of `matfn_kernels.validation`. Large bodies are parsed in a thread, and so are
small ones whose inputs become large, so that they do not stop the event loop. A call is first outlined from its shapes,
then charged to its request's account, and only then are its inputs broadcast and looked at.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from matfn import wire
from matfn_kernels import Batch, Call, Limits, Plan, batch_of, make_plan, outline_call, refilled, screen
from matfn_service.cost import Cost, decoding_bytes
from matfn_service.jobs import Job
from matfn_service.ledger import Kind
from matfn_service.parse_cache import ParseCache
from matfn_service.problems import REFUSALS, CallerLeft, Refusal, as_refusal
from matfn_service.tensors import from_wire, layout_of, spread
from matfn_service.to_its_end import to_its_end

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping
    from concurrent.futures import ThreadPoolExecutor

    from torch import Tensor

    from matfn_kernels import Profile
    from matfn_service.ledger import Account
    from matfn_service.tracing import Trace

__all__ = ["INLINE_BYTES", "Admission", "Prepared", "decoding"]

T = TypeVar("T")

INLINE_BYTES: Final = 1024 * 2**10  # parsing so much takes the loop less time than handing it to a thread
_INLINE_VALUES: Final = 2048  # each is read in a microsecond
_INLINE_ITEMS: Final = 256  # each rejection takes microseconds
_SHORT_BYTES: Final = 32 * 2**10  # of many calls: about a hundred, which take a hundredth of a second
_INLINE: Final = {wire.Media.MSGPACK: INLINE_BYTES, wire.Media.JSON: INLINE_BYTES // 8}

_log = structlog.get_logger(__name__)

_LONGEST: Final = 86400.0  # a profile without a rate predicts infinite time; sums must stay finite


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that may be computed, the plan for it, its matrices, and the seconds that checking them took."""

    call: Call
    plan: Plan
    batch: Batch
    checking: float

    def job(
        self, arrived: float, now: float, tenant: str, correction: float, trace: Trace | None, key: Hashable
    ) -> Job:
        """The job to queue now, of this key; the call's deadline counts from the arrival of its request."""
        options = self.call.options
        items = self.batch.items
        return Job(
            program=self.plan.program,
            batch=self.batch,
            function=self.call.function,
            seconds=min(self.plan.seconds * items, _LONGEST) * correction,
            bytes=self.plan.bytes * items,
            answer_bytes=self.plan.answer_bytes,
            priority=options.priority,
            arrived=now,
            deadline=math.inf if options.deadline is None else arrived + options.deadline,
            tenant=tenant,
            correction=correction,
            trace=trace,
            key=key,
        )


@dataclass(frozen=True, slots=True)
class _Outline:
    """A call that was planned by its shapes: its stand-in, its plan and cost, and what reads its inputs."""

    call: Call
    plan: Plan
    cost: Cost
    inputs: Callable[[], Mapping[str, Tensor]]

    def prepared(self) -> Prepared:
        """The call with its inputs, without the matrices that have no answer."""
        outline = self.call
        inputs = self.inputs()
        if self.cost.copied:
            inputs = {
                name: spread(inputs[name].to(stand_in.dtype), outline.lead, tuple(stand_in.shape))
                for name, stand_in in outline.inputs.items()
            }
        call = refilled(outline, inputs)
        started = time.perf_counter()
        call = screen(call)
        return Prepared(call, self.plan, batch_of(call), time.perf_counter() - started)


class Admission:
    """Reads bodies, on the loop where they are small and in `readers` where they are not.

    Args:
        limits: of a call.
        profile: the prices by which methods are chosen.
        readers: threads for large bodies.
        allowed: bytes of working memory that a worker has for any call.
    """

    def __init__(self, limits: Limits, profile: Profile, readers: ThreadPoolExecutor, allowed: int = 0) -> None:
        self._allowed = allowed
        self._limits = limits
        self._profile = profile
        self._readers = readers
        self._turn = asyncio.Lock()
        self._parsed = ParseCache()

    async def one(
        self, body: memoryview, media: wire.Media, function: str, account: Account, copies: int = 0
    ) -> Prepared:
        """The call in the body of POST /v1/{function}.

        Args:
            body: as it came.
            media: its format.
            function: the name in the path.
            account: of the request.
            copies: how often outputs are copied into the answer.

        Raises:
            DecodeError: if the body cannot be read.
            Rejection: if the call has no answer.
            Refusal: if no tensor can have the shape of an input, or there is no room for the call.
        """
        try:
            outline = self._at_once(body, media, function, account) if body.nbytes <= _INLINE[media] else None
        except wire.TooManyValues:
            outline = None
        is_small = outline is not None
        if outline is None:
            outline = await self.in_thread(lambda: self._outlined(_decoded(body, media, function, account)))
        return await self._prepared(outline, account, copies, is_small=is_small)

    async def sent(self, call: wire.Call, account: Account, copies: int, *, is_small: bool) -> Prepared:
        """A call that has been read already, from a body that is small or is not.

        Raises:
            Rejection, Refusal: as `one` does.
        """
        return await self._prepared(self._outlined(call), account, copies, is_small=is_small)

    async def _prepared(self, outline: _Outline, account: Account, copies: int, *, is_small: bool) -> Prepared:
        account.charge(outline.cost.charges(copies))
        if is_small and outline.cost.copied <= INLINE_BYTES and outline.call.items <= _INLINE_ITEMS:
            return outline.prepared()
        return await self.in_thread(outline.prepared)

    async def plan(self, body: memoryview, media: wire.Media, function: str, account: Account) -> tuple[Call, Plan]:
        """The outline of the call in the body of POST /v1/plan/{function}, and its plan.

        Raises:
            DecodeError: if the body cannot be read.
            Rejection: if no method serves the call.
            Refusal: if no tensor can have the shape of an input, or there is no room for the body's values.
        """
        outline = await self.in_thread(lambda: self._outlined(_decoded(body, media, function, account)))
        return outline.call, outline.plan

    async def many(
        self,
        body: memoryview,
        media: wire.Media,
        account: Account,
        copies: int = 0,
        has_left: Callable[[], bool] = lambda: False,
    ) -> list[tuple[str, Prepared | Refusal]]:
        """The calls in the body of POST /v1/calls, each with the function it names.

        Raises:
            CallerLeft: if the caller has left before a long body's turn comes.
            DecodeError: if the envelope cannot be read.
            Refusal: if it holds too many calls, or there is no room for the body's values.
        """
        work = partial(self._many, body, media, account, copies)
        return await (self.in_thread(work) if body.nbytes <= _SHORT_BYTES else self.in_turn(work, has_left))

    async def in_turn(self, work: Callable[[], T], has_left: Callable[[], bool] = lambda: False) -> T:
        """Runs `work` in a thread, one such at a time, and returns its value.

        This is for work of thousands of small steps, each of which holds the interpreter: beside one of it the event
        loop has every other turn, beside two one in three, and no thread would be left for short work.

        Raises:
            CallerLeft: if the caller has left before the turn comes; then `work` is not done.
        """
        async with self._turn:
            if has_left():
                raise CallerLeft
            return await to_its_end(self.in_thread(work))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Runs `work` in a thread and returns its value."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def _at_once(self, body: memoryview, media: wire.Media, function: str, account: Account) -> _Outline:
        """The outline on the loop, where the parse cache is: most bodies differ from an earlier one in numbers only."""
        template = self._parsed.find(function, body) if media is wire.Media.MSGPACK else None
        if template is not None:
            return _Outline(template.call, template.plan, template.cost, partial(template.inputs, body))
        sent = _decoded(body, media, function, account, _INLINE_VALUES)
        outline = self._outlined(sent)
        if media is wire.Media.MSGPACK:
            self._parsed.keep(body, sent, outline.call, outline.plan, outline.cost)
        return outline

    def _many(
        self, body: memoryview, media: wire.Media, account: Account, copies: int
    ) -> list[tuple[str, Prepared | Refusal]]:
        with decoding(account, body, media):
            calls = wire.decode_calls(body, media)
        if len(calls) > self._limits.max_items:
            raise Refusal(
                "too_large", f"{len(calls)} calls; a request may hold {self._limits.max_items} (MATFN_MAX_ITEMS)"
            )
        # all calls are charged before the inputs of the first are broadcast
        outlines = [self._outline_or_refuse(call, account, copies) for call in calls]
        return [(function, _prepared_or_refused(outline)) for function, outline in outlines]

    def _outline_or_refuse(
        self, call: wire.Call | wire.DecodeError, account: Account, copies: int
    ) -> tuple[str, _Outline | Refusal]:
        if isinstance(call, wire.DecodeError):
            return "", as_refusal(call)
        try:
            outline = self._outlined(call)
            account.charge(outline.cost.charges(copies))
        except Exception as error:  # noqa: BLE001 - a failed call must not fail the others of its request
            return call.function, _refused(error)
        return call.function, outline

    def _outlined(self, sent: wire.Call) -> _Outline:
        """The call's outline and its plan, before any matrix is looked at."""
        layouts = {name: layout_of(tensor, name) for name, tensor in sent.inputs.items()}
        call = outline_call(sent.function, layouts, sent.params, sent.options, self._limits)
        plan = make_plan(call, self._profile)
        return _Outline(call, plan, Cost.of(sent, call, plan, self._allowed), partial(_inputs, sent))


def _decoded(
    body: memoryview, media: wire.Media, function: str, account: Account, most: int = wire.MOST_VALUES
) -> wire.Call:
    if media is wire.Media.MSGPACK:
        return wire.decode_call(body, media, function, most)
    with decoding(account, body, media):
        return wire.decode_call(body, media, function, most)


@contextmanager
def decoding(account: Account, body: memoryview, media: wire.Media) -> Iterator[None]:
    """Charges the values of a body while it is decoded.

    Raises:
        Refusal: if there is no room for them.
    """
    account.charge({Kind.DECODING: decoding_bytes(body, media)})
    try:
        yield
    finally:
        account.release(Kind.DECODING)


def _inputs(sent: wire.Call) -> dict[str, Tensor]:
    return {name: from_wire(tensor) for name, tensor in sent.inputs.items()}


def _prepared_or_refused(outline: _Outline | Refusal) -> Prepared | Refusal:
    if isinstance(outline, Refusal):
        return outline
    try:
        return outline.prepared()
    except Exception as error:  # noqa: BLE001 - likewise
        return _refused(error)


def _refused(error: Exception) -> Refusal:
    """The refusal of one call of many; an error that should not be is logged."""
    if not isinstance(error, REFUSALS):
        _log.error("call failed", exc_info=error)
    return as_refusal(error)
