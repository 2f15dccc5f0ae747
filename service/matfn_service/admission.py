"""From a body to validated and planned calls: everything before the queue.

The messages of invalid calls are those of `matfn_kernels.validation`. Large bodies are parsed in a thread, so that they
do not stop the event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from matfn import wire
from matfn_kernels import Batch, Call, Limits, Plan, batch_of, make_plan, parse_call, screen
from matfn_service.jobs import Job
from matfn_service.parse_cache import ParseCache
from matfn_service.problems import REFUSALS, Refusal, as_refusal
from matfn_service.tensors import from_wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from matfn_kernels import Profile

__all__ = ["INLINE_BYTES", "Admission", "Prepared"]

T = TypeVar("T")

INLINE_BYTES: Final = 1024 * 2**10  # parsing so much takes the loop less time than handing it to a thread
_INLINE: Final = {wire.Media.MSGPACK: INLINE_BYTES, wire.Media.JSON: INLINE_BYTES // 8}

_LONGEST: Final = 86400.0  # a profile without a rate predicts infinite time; sums must stay finite


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that may be computed, the plan for it, its matrices, and the seconds that checking them took."""

    call: Call
    plan: Plan
    batch: Batch
    checking: float

    def job(self, arrived: float, now: float) -> Job:
        """The job to queue now; the call's deadline counts from the arrival of its request."""
        options = self.call.options
        items = self.batch.items
        return Job(
            program=self.plan.program,
            batch=self.batch,
            function=self.call.function,
            seconds=min(self.plan.seconds * items, _LONGEST),
            bytes=self.plan.bytes * items,
            answer_bytes=self.plan.answer_bytes,
            priority=options.priority,
            arrived=now,
            deadline=math.inf if options.deadline is None else arrived + options.deadline,
        )


class Admission:
    """Reads bodies, on the loop where they are small and in `readers` where they are not."""

    def __init__(self, limits: Limits, profile: Profile, readers: ThreadPoolExecutor) -> None:
        self._limits = limits
        self._profile = profile
        self._readers = readers
        self._parsed = ParseCache()

    async def one(self, body: memoryview, media: wire.Media, function: str) -> Prepared:
        """The call in the body of POST /v1/{function}.

        Raises:
            DecodeError: if the body cannot be read.
            Rejection: if the call has no answer.
            Refusal: if no tensor can have the shape of an input.
        """
        if body.nbytes <= _INLINE[media]:
            return self._at_once(body, media, function)
        return await self.in_thread(lambda: self._one(body, media, function))

    async def many(self, body: memoryview, media: wire.Media) -> list[tuple[str, Prepared | Refusal]]:
        """The calls in the body of POST /v1/calls, each with the function it names.

        Raises:
            DecodeError: if the envelope cannot be read.
            Refusal: if it holds too many calls.
        """
        return await self.in_thread(lambda: self._many(body, media))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Runs `work` in a thread and returns its value."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def _at_once(self, body: memoryview, media: wire.Media, function: str) -> Prepared:
        """`_one` on the loop, where the parse cache is: most bodies differ from an earlier one in numbers only."""
        template = self._parsed.find(function, body)
        if template is not None:
            return self._screened(template.filled(body), template.plan)
        sent = wire.decode_call(body, media, function)
        call, plan = self._understood(sent)
        self._parsed.keep(body, sent, call, plan)
        return self._screened(call, plan)

    def _one(self, body: memoryview, media: wire.Media, function: str) -> Prepared:
        return self._screened(*self._understood(wire.decode_call(body, media, function)))

    def _many(self, body: memoryview, media: wire.Media) -> list[tuple[str, Prepared | Refusal]]:
        calls = wire.decode_calls(body, media)
        if len(calls) > self._limits.max_items:
            raise Refusal(
                "too_large", f"{len(calls)} calls; a request may hold {self._limits.max_items} (MATFN_MAX_ITEMS)"
            )
        return [self._prepare_or_refuse(call) for call in calls]

    def _prepare_or_refuse(self, call: wire.Call | wire.DecodeError) -> tuple[str, Prepared | Refusal]:
        if isinstance(call, wire.DecodeError):
            return "", as_refusal(call)
        try:
            return call.function, self._screened(*self._understood(call))
        except REFUSALS as error:
            return call.function, as_refusal(error)

    def _understood(self, sent: wire.Call) -> tuple[Call, Plan]:
        """The call and its plan, before any matrix is looked at."""
        inputs = {name: from_wire(tensor, name) for name, tensor in sent.inputs.items()}
        call = parse_call(sent.function, inputs, sent.params, sent.options, self._limits)
        return call, make_plan(call, self._profile)

    def _screened(self, call: Call, plan: Plan) -> Prepared:
        """The call without the matrices that have no answer."""
        started = time.perf_counter()
        call = screen(call)
        return Prepared(call, plan, batch_of(call), time.perf_counter() - started)
