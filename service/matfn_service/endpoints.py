"""The routes that take calls, as one bare ASGI application: POST /v1/{function}, /v1/calls and /v1/plan/{function}.

One call is served in the same way whatever it is written in: a Form reads it and writes its answer.

Checks run in the order 404, 405, 503, 415, 413, 400, 422, 504, 429; the edge has dealt with 401 before. The 429 of a
key with as many requests in flight as it may have comes before 415, so that no body is read for it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import structlog

from matfn import wire
from matfn_kernels import ENTRIES, VERIFY, VJP, unknown
from matfn_service import body
from matfn_service.admission import INLINE_BYTES, Prepared
from matfn_service.answers import answer_of, copies_for, weight
from matfn_service.heads import media_of
from matfn_service.ledger import Kind
from matfn_service.plans import plan_report
from matfn_service.problems import REFUSALS, CallerLeft, Refusal, as_refusal, problem_of
from matfn_service.statistics import ANSWERED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from matfn.errors import Problem
    from matfn_service.access_log import Entry
    from matfn_service.admission import Admission
    from matfn_service.exchange import Exchange
    from matfn_service.heads import Head
    from matfn_service.jobs import Ticket
    from matfn_service.ledger import Account
    from matfn_service.service import Service

__all__ = ["CALLS", "PLAN", "Caller", "Computation", "Form", "Reply"]

CALLS: Final = "calls"
PLAN: Final = "plan/"
"""Prefix of the name of a function whose call is to be planned only."""
_TOGETHER: Final = 32  # calls of a request that come to the queue at once, and so share a batch on an idle device
_TURN: Final = 4  # calls of a request that the loop handles, in a tenth of a millisecond, before it serves others
_READ_ONLY: Final = frozenset({"functions", "status", "batches"})

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A call in the queue and its ticket."""

    prepared: Prepared
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it is sent: its content type, the buffers of its body, and headers besides."""

    content_type: str
    buffers: Sequence[wire.Buffer]
    headers: Sequence[tuple[bytes, bytes]] = ()


class Caller(Protocol):
    """The request of a call, and the way back to whoever sent it; an Exchange is one."""

    head: Head
    entry: Entry

    @property
    def key(self) -> str:
        """Name of the request's API key; empty where there is none."""

    @property
    def body_has_come(self) -> bool:
        """Whether the whole body is here already."""

    async def read(self, limit: int, account: Account) -> memoryview:
        """The whole body, of at most so many bytes, charged to the request's account."""

    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
        """Calls `on_leave` if the caller leaves; returns what ends the watch."""

    async def answer(
        self,
        status: int,
        content_type: str,
        buffers: Sequence[wire.Buffer],
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> int:
        """Sends a whole answer; returns the size of its body."""


class Form(Protocol):
    """A format of one call and its answer."""

    async def prepared(self, admission: Admission, content: memoryview, account: Account) -> Prepared:
        """The call in a body, charged to the request's account."""

    def reply(self, answer: wire.EncodedAnswer) -> Reply:
        """The answer as it is sent."""


@dataclass(frozen=True, slots=True)
class _Own:
    """The form of POST /v1/{function}."""

    head: Head
    media: wire.Media
    function: str

    async def prepared(self, admission: Admission, content: memoryview, account: Account) -> Prepared:
        """The call in a body."""
        return await admission.one(content, self.media, self.function, account, copies_for(self.head))

    def reply(self, answer: wire.EncodedAnswer) -> Reply:
        """The answer in the format that the request accepts."""
        return Reply(self.head.answer, wire.encode_answer(answer, self.head.answer))


class Computation:
    """Takes what is POSTed to /v1/{function}, waits for its answer and sends it; to /v1/plan/... it sends the plan."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request below /v1 that no other route took."""
        del receive, send  # the exchange has both
        exchange: Exchange = scope["matfn.exchange"]
        name = _name_in(scope["path_params"])
        _check_route(name, exchange.head.method)
        exchange.entry.function, exchange.entry.route = name, _route_of(scope["path_params"], name)
        with self._serving(exchange) as account:
            await self._served(exchange, name, account)

    async def serve(self, caller: Caller, form: Form) -> None:
        """Serves one request of one call in another form.

        Raises:
            Exception: that the caller is to be told of.
            CallerLeft: the caller has left.
        """
        with self._serving(caller) as account:
            await self._one(caller, account, form)

    @contextmanager
    def _serving(self, caller: Caller) -> Iterator[Account]:
        """The account of a request, which counts for its key and which a drain waits for."""
        self._service.refuse_while_draining()
        self._service.allowances.enter(caller.key)
        leave = self._service.enter()
        try:
            with self._service.ledger.account(caller.key) as account:
                yield account
        finally:
            leave()
            self._service.allowances.leave(caller.key)

    async def _served(self, exchange: Exchange, name: str, account: Account) -> None:
        if name == CALLS:
            await self._many(exchange, account)
        elif name.startswith(PLAN):
            await self._planned(exchange, name.removeprefix(PLAN), account)
        else:
            await self._one(exchange, account, _Own(exchange.head, media_of(exchange.head), name))

    async def _planned(self, exchange: Exchange, function: str, account: Account) -> None:
        """The plan of a call, which is not computed."""
        media = media_of(exchange.head)
        admission, content = await self._read(exchange, account)
        call, plan = await admission.plan(content, media, function, account)
        report = json.dumps(plan_report(call, plan, self._service.profile_label)).encode()
        await exchange.answer(HTTPStatus.OK, wire.Media.JSON, [report])

    async def _one(self, exchange: Caller, account: Account, form: Form) -> None:
        """One call, one answer."""
        admission, content = await self._read(exchange, account)
        read = self._service.clock()
        prepared = await form.prepared(admission, content, account)
        self._count_received(exchange, content, read, [prepared])
        del content
        exchange.entry.count_call(prepared)
        ticket = self._service.submit(prepared, exchange.head.arrived, exchange.head.request_id, exchange.key)
        await self._attend(exchange, [ticket])
        account.turn(Kind.OUTPUTS, Kind.ANSWERS)
        computed = self._service.clock()
        join = _since_last([ticket], computed)
        if join is not None:
            self._service.statistics.count_stage("join", join)
        reply = await self._made(
            admission.in_thread,
            weight(prepared, exchange.head),
            lambda: form.reply(self._answer(exchange, prepared, ticket)),
        )
        self._service.statistics.count_call(prepared.call.function)
        await self._send(exchange, reply, computed)

    async def _many(self, exchange: Exchange, account: Account) -> None:
        """Many calls, each with its own answer or problem."""
        media = media_of(exchange.head)
        admission, content = await self._read(exchange, account)
        read = self._service.clock()
        with _watched(exchange) as has_left:
            calls = await admission.many(content, media, account, copies_for(exchange.head), has_left)
        prepared = [call async for _, call in _in_turns(calls) if isinstance(call, Prepared)]
        async for call in _in_turns(prepared):
            exchange.entry.count_call(call)
        self._count_received(exchange, content, read, prepared)
        claims = await self._claims(calls, exchange)
        tickets = [claim.ticket async for claim in _in_turns(claims) if isinstance(claim, _Claim)]
        await self._attend(exchange, tickets)
        account.turn(Kind.OUTPUTS, Kind.ANSWERS)
        computed = self._service.clock()
        heaviness = sum([weight(call, exchange.head) async for call in _in_turns(prepared)])
        made = partial(self._encoded_answers, exchange, calls, claims, computed)
        with _watched(exchange) as has_left:
            in_turn = partial(admission.in_turn, has_left=has_left)
            buffers, codes, join = await self._made(in_turn, heaviness, made)
        self._count_calls(exchange, codes, len(calls))
        if join is not None:
            self._service.statistics.count_stage("join", join)
        await self._send(exchange, Reply(exchange.head.answer, buffers), computed)
        await _emptied(calls, prepared, tickets, claims)

    async def _claims(
        self, calls: Sequence[tuple[str, Prepared | Refusal]], exchange: Exchange
    ) -> list[_Claim | Refusal]:
        """Queues the calls; none stays in the queue if the request ends before all of them are there."""
        claims: list[_Claim | Refusal] = []
        try:
            async for _, call in _in_turns(calls, _TOGETHER):
                claims.append(self._claim(call, exchange, len(claims)))
        except BaseException:
            self._abandon([claim.ticket for claim in claims if isinstance(claim, _Claim)])
            raise
        return claims

    def _encoded_answers(
        self,
        exchange: Exchange,
        calls: Sequence[tuple[str, Prepared | Refusal]],
        claims: Sequence[_Claim | Refusal],
        computed: float,
    ) -> tuple[list[wire.Buffer], Counter[tuple[str, str]], float | None]:
        """The answers, the number of calls by function and code, and the seconds since the last batch had come back."""
        answers = [self._answer_or_problem(exchange, claim) for claim in claims]
        codes = Counter(
            (function, ANSWERED if isinstance(answer, wire.EncodedAnswer) else answer.code)
            for (function, _), answer in zip(calls, answers, strict=True)
        )
        tickets = [claim.ticket for claim in claims if isinstance(claim, _Claim)]
        buffers = wire.encode_answers(answers, exchange.head.answer)
        while answers:  # to free all at once would hold the interpreter
            del answers[-_TURN:]
        return buffers, codes, _since_last(tickets, computed)

    async def _read(self, exchange: Caller, account: Account) -> tuple[Admission, memoryview]:
        """The admission and the body; while the service warms up, the body is not read."""
        limit = self._service.settings.max_request_bytes
        body.check_length(exchange.head.length, limit)
        admission = await self._service.admission()
        if exchange.body_has_come:
            return admission, await exchange.read(limit, account)
        async with self._service.reading():
            return admission, await exchange.read(limit, account)

    async def _send(self, exchange: Caller, reply: Reply, computed: float) -> None:
        """Sends an answer whose evaluations came from the device at the time `computed`."""
        statistics, clock = self._service.statistics, self._service.clock
        encoded = clock()
        exchange.entry.computed, exchange.entry.encoded = computed, encoded
        statistics.count_stage("encode", encoded - computed)
        sent = await exchange.answer(HTTPStatus.OK, reply.content_type, reply.buffers, reply.headers)
        written = clock()
        statistics.count_stage("write", written - encoded)
        statistics.count_sent(sent, written - exchange.head.arrived)

    def _claim(self, call: Prepared | Refusal, exchange: Exchange, number: int) -> _Claim | Refusal:
        if isinstance(call, Refusal):
            return call
        try:
            head, key = exchange.head, exchange.key
            return _Claim(call, self._service.submit(call, head.arrived, f"{head.request_id}/{number}", key))
        except Refusal as refusal:
            return refusal

    async def _attend(self, exchange: Caller, tickets: Sequence[Ticket]) -> None:
        """Waits until every ticket has ended, or drops them all when the caller hangs up.

        Raises:
            CallerLeft: if it did.
        """
        stop = exchange.watch(partial(self._abandon, tickets))
        try:
            for number, ticket in enumerate(tickets, 1):
                await ticket.ended()
                if number % _TURN == 0:
                    await asyncio.sleep(0)
                if ticket.future.cancelled():
                    raise CallerLeft
                if ticket.future.exception() is None:
                    exchange.entry.count_served(ticket.future.result())
        finally:
            stop()

    def _abandon(self, tickets: Iterable[Ticket]) -> None:
        remaining = iter(tickets)
        turn = list(islice(remaining, _TURN))
        for ticket in turn:
            self._service.batcher.abandon(ticket)
        if turn:
            asyncio.get_running_loop().call_soon(self._abandon, remaining)

    async def _made(
        self, elsewhere: Callable[[Callable[[], T]], Awaitable[T]], heaviness: int, make: Callable[[], T]
    ) -> T:
        """Calls `make` and returns its value; elsewhere where that takes long."""
        return make() if heaviness <= INLINE_BYTES else await elsewhere(make)

    def _answer(self, exchange: Caller, prepared: Prepared, ticket: Ticket) -> wire.EncodedAnswer:
        service, served = self._service, ticket.future.result()
        return answer_of(prepared, served, service.executor.device, service.profile_label, exchange.head)

    def _answer_or_problem(self, exchange: Exchange, claim: _Claim | Refusal) -> wire.EncodedAnswer | Problem:
        try:
            if isinstance(claim, _Claim):
                return self._answer(exchange, claim.prepared, claim.ticket)
            refusal = claim
        except Exception as error:  # noqa: BLE001 - a failed call must not fail the others of its request
            refusal = as_refusal(error)
            if not isinstance(error, REFUSALS):
                _log.error("call failed", request_id=exchange.head.request_id, exc_info=error)
        return problem_of(refusal, exchange.head.request_id)

    def _count_received(self, exchange: Caller, content: memoryview, read: float, calls: Sequence[Prepared]) -> None:
        """Counts a body that had come at the time `read`, and the planning and checking of its calls since then."""
        statistics, checking = self._service.statistics, sum(call.checking for call in calls)
        statistics.bytes_received += content.nbytes
        statistics.count_stage("read", read - exchange.head.arrived)
        exchange.entry.queued = now = self._service.clock()
        statistics.count_stage("plan", now - read - checking)
        statistics.count_stage("check", checking)

    def _count_calls(self, exchange: Exchange, codes: Mapping[tuple[str, str], int], number: int) -> None:
        failed: Counter[str] = Counter()
        for (function, code), times in codes.items():
            self._service.statistics.count_call(function, code, times)
            if code != ANSWERED:
                failed[code] += times
        if failed:
            exchange.entry.outcomes = {ANSWERED: number - failed.total(), **failed}
            _log.warning("calls failed", codes=dict(failed), of=number, request_id=exchange.head.request_id)


@contextmanager
def _watched(exchange: Exchange) -> Iterator[Callable[[], bool]]:
    """Tells within the block whether the caller has left."""
    left = asyncio.Event()
    stop = exchange.watch(left.set)
    try:
        yield left.is_set
    finally:
        stop()


async def _in_turns(entries: Sequence[T], turn: int = _TURN) -> AsyncIterator[T]:
    """The entries; after every few of them the event loop serves others."""
    for number, entry in enumerate(entries, 1):
        yield entry
        if number % turn == 0:
            await asyncio.sleep(0)


async def _emptied(*lists: list[Any]) -> None:
    """Empties lists whose entries the last one holds; between its parts the event loop serves others."""
    for entries in lists[:-1]:
        entries.clear()
    while lists[-1]:
        del lists[-1][-_TURN:]
        await asyncio.sleep(0)


def _since_last(tickets: Sequence[Ticket], now: float) -> float | None:
    """The time since the last batch of a request came back; None if none did."""
    ends = [ticket.future.result().ended for ticket in tickets if ticket.future.exception() is None]
    return now - max(ends) if ends else None


def _name_in(parameters: Mapping[str, str]) -> str:
    """The name that a route's path has, as the catalogue gives it."""
    prefix = {"planned": PLAN, "verified": VERIFY, "differentiated": VJP, "function": ""}
    ((kind, name),) = parameters.items()
    return prefix[kind] + name


def _route_of(parameters: Mapping[str, str], name: str) -> str:
    """The pattern of a path, one of few: names are not in it."""
    if "verified" in parameters:
        return f"/v1/{VERIFY}{{function}}"
    if "differentiated" in parameters:
        return f"/v1/{VJP}{{function}}"
    return f"/v1/{name}" if name == CALLS else "/v1/{function}"


def _check_route(name: str, method: str) -> None:
    """Raises the refusal of a name that is no function, or of a method that is not POST."""
    if name in _READ_ONLY:
        raise Refusal("method_not_allowed", f"/v1/{name} is read with GET", allow="GET, HEAD, OPTIONS")
    function = name.removeprefix(PLAN)
    if name != CALLS and function not in ENTRIES:
        raise Refusal("unknown_function", *unknown(function))
    if method != "POST":
        raise Refusal("method_not_allowed", f"/v1/{name} takes POST, not {method}", allow="POST, OPTIONS")
