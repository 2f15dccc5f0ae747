"""Requests and responses without I/O: an invocation becomes a request, a response an answer or an error.

    Invocation --prepare--> Prepared --CallExchange.request--> Request ~~~> Response --CallExchange.read--> Answer

An exchange may be sent again: `request` takes the seconds since the call began, and a deadline shrinks by them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from matfn import wire
from matfn._aligned import OFFSET_HEADER
from matfn.answers import Answer
from matfn.arrays import kind_of, layouts_of, owned, plain_inputs
from matfn.catalogue import ENTRIES
from matfn.compatibility import with_versions
from matfn.errors import MatfnError, Problem, ProtocolError, TransportError, problem_error
from matfn.http1 import Request
from matfn.limits import UNLIMITED, Limits
from matfn.losses import require_whole
from matfn.retry import may_pass
from matfn.stacking import apart, groups, likeness, stacked
from matfn.triangles import in_triangle, whole
from matfn.values import is_value, value_of
from matfn.vectors import as_column, as_vector, columns_of, require_vectors
from matfn.wire import Media

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from matfn.arrays import Kind
    from matfn.http1 import Response
    from matfn.invocation import Invocation

__all__ = [
    "CallExchange",
    "DocumentExchange",
    "Exchange",
    "ManyExchange",
    "Prepared",
    "StackRefusedError",
    "deadline_of",
    "limits_exchange",
    "prepare",
    "require_whole_inputs",
]

AnswerT_co = TypeVar("AnswerT_co", covariant=True)
ValueT_co = TypeVar("ValueT_co", covariant=True)

_MEDIA: Final = Media.MSGPACK
_CALL_BYTES, _TENSOR_BYTES = 128, 96  # bounds on what a call and a tensor are besides their numbers
# answers of servers and proxies that know nothing of matfn
_CODE_OF_STATUS: Final = {
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "busy",
}
_NO_ROUTE: Final = "not_found"
_HINT_OF_STATUS: Final = {
    401: "a proxy before the server asks for credentials of its own",
    407: "the proxy asks for credentials: name it as http://user:password@host:port in HTTP_PROXY",
    404: "does the URL have the path under which a proxy serves matfn?",
    408: "a proxy before the server waits no longer for the request; nginx: client_body_timeout",
    413: "a proxy before the server bounds request bodies; raise its bound (nginx: client_max_body_size), or send less"
    " in one request",
    429: "a proxy before the server bounds the rate of requests",
    502: "a proxy before the server does not reach it: does the server run?",
    503: "a proxy before the server does not reach it: does the server run?",
    504: "a proxy before the server waits no longer for its answer; raise its bound (nginx: proxy_read_timeout)",
}
_NAME: Final = 60  # of a Server header


class StackRefusedError(MatfnError):
    """A stack of calls was refused for a reason that may be one call's: each has to be sent by itself."""


class Exchange(Protocol[AnswerT_co]):
    """One question to the server, that may be asked again."""

    @property
    def deadline(self) -> float | None:
        """Seconds after the call began when its answer is worthless."""

    def request(self, elapsed: float) -> Request:
        """The request to send, `elapsed` seconds after the call began."""

    def read(self, response: Response) -> AnswerT_co:
        """The answer, or the error that the response stands for."""


@dataclass(frozen=True, slots=True)
class Prepared(Generic[ValueT_co]):
    """An invocation whose arrays have become tensors, and the kind of array its answer will be.

    Calls with equal likenesses may be sent as one; with None a call is sent by itself. `columns` names what the server
    sees as one column and the caller as a vector.
    """

    call: wire.Call
    kind: Kind
    likeness: Hashable | None = None
    columns: Collection[str] = ()

    @property
    def deadline(self) -> float | None:
        """Seconds after the call began when its answer is worthless."""
        return deadline_of(self.call.options)

    @property
    def bound(self) -> int:
        """A bound on the bytes that the call adds to a request, for which nothing is encoded."""
        call = self.call
        words = 9 * (len(repr(call.params)) + len(repr(call.options)))  # a scalar is nine bytes or less
        tensors = sum(tensor.nbytes + _TENSOR_BYTES + 9 * len(tensor.shape) for tensor in call.inputs.values())
        return tensors + words + _CALL_BYTES

    def at(self, elapsed: float) -> wire.Call:
        """The call with what is left of its deadline."""
        if self.deadline is None:
            return self.call
        return replace(self.call, options={**self.call.options, "deadline": max(self.deadline - elapsed, 0.0)})

    def in_triangles(self) -> Prepared[ValueT_co]:
        """The call with each exactly symmetric input sent as one triangle."""
        inputs = {name: in_triangle(tensor) for name, tensor in self.call.inputs.items()}
        call = replace(self.call, inputs=inputs)
        return replace(self, call=call, likeness=likeness(call))

    def by_itself(self) -> Prepared[ValueT_co]:
        """The call, to be stacked with no other."""
        return replace(self, likeness=None)

    def answer(self, answer: wire.Answer) -> Answer[ValueT_co]:
        """The answer with arrays of the caller's kind."""
        entry, tensors = ENTRIES[self.call.function], answer.outputs | answer.gradients
        names = [name for name in entry.outputs_of(self.call.inputs, self.call.params) if is_value(entry, name)]
        if not set(names) <= set(tensors):
            raise ProtocolError(f"the server's answer to {self.call.function} lacks one of {', '.join(names)}")
        arrays = {name: self._array(name, owned(whole(tensors[name]))) for name in names}
        return Answer(value_of(entry, arrays), answer.certificates, answer.timing, answer.request_id, answer.device)

    def _array(self, name: str, tensor: wire.Tensor) -> Any:
        """An output as the caller's kind of array."""
        return self.kind.array(as_vector(tensor) if name in self.columns else tensor)


def deadline_of(options: Mapping[str, object]) -> float | None:
    """Seconds after the call began when its answer is worthless; None for an option that is no such number."""
    deadline = options.get("deadline")
    return float(deadline) if isinstance(deadline, int | float) and not isinstance(deadline, bool) else None


def limits_exchange(calls: Sequence[Invocation[Any]]) -> DocumentExchange:
    """The question for the server's limits, which has as much time as the most patient of the calls."""
    deadlines = [deadline_of(call.options) for call in calls]
    known = [deadline for deadline in deadlines if deadline is not None]
    return DocumentExchange("/v1/functions", max(known, default=None) if len(known) == len(deadlines) else None)


def require_whole_inputs(invocation: Invocation[Any]) -> None:
    """Refuses what no server need be asked about.

    Raises:
        UnsupportedArray: for arrays that would lose something.
    """
    for name, array in invocation.arrays.items():
        require_whole(array, f"the input {name}")
    invocation.plain_params()


def prepare(invocation: Invocation[ValueT_co], limits: Limits = UNLIMITED) -> Prepared[ValueT_co]:
    """Turns arrays into tensors, once dtypes and shapes are known to be acceptable.

    Raises:
        TooLarge: instead of what the server would refuse; nothing has been copied then.
        InvalidShape: for vectors that do not fit.
        UnsupportedArray: for arrays that would lose something.
        UnsupportedDtype: for arrays that no tensor can hold.
    """
    arrays = plain_inputs(invocation.arrays)
    kind = kind_of(invocation.first)
    layouts = layouts_of(arrays)
    columns = columns_of(invocation.function, layouts)
    require_vectors(invocation.function, layouts)
    layouts |= {name: as_column(layout) for name, layout in layouts.items() if name in columns}
    limits.check(invocation.function, layouts, invocation.plain_params())
    limits.check_bytes(layouts)
    inputs = {name: kind_of(array).tensor(array) for name, array in arrays.items()}
    inputs |= {name: replace(tensor, shape=layouts[name].shape) for name, tensor in inputs.items() if name in columns}
    params, options = invocation.plain_params(), invocation.plain_options()
    call = wire.Call(invocation.function, inputs, params, options)
    return Prepared(call, kind, likeness(call), columns)


@dataclass(frozen=True, slots=True)
class CallExchange(Generic[ValueT_co]):
    """POST /v1/{function}."""

    prepared: Prepared[ValueT_co]
    limits: Limits = UNLIMITED

    @property
    def deadline(self) -> float | None:
        """The call's own."""
        return self.prepared.deadline

    def request(self, elapsed: float) -> Request:
        """The call; raises TooLarge if the body with its envelope exceeds what its tensors alone did not."""
        call = self.prepared.at(elapsed)
        body = tuple(wire.encode_call(call, _MEDIA))
        self.limits.check_body(sum(map(len, body)))
        return _post(f"/v1/{call.function}", body, ("X-Matfn-Key", _key(call)))

    def read(self, response: Response) -> Answer[ValueT_co]:
        """The answer in the caller's kind of array."""
        return self.prepared.answer(_decoded(response, wire.decode_answer, self.limits.server))


@dataclass(frozen=True, slots=True)
class ManyExchange:
    """POST /v1/calls, `offset` seconds after the calls began; calls that are alike are stacked.

    Each call is answered or refused by itself, but the error of those of a stack that was refused is StackRefusedError.
    """

    prepared: Sequence[Prepared[Any]]
    offset: float = 0.0
    deadline: float | None = None
    limits: Limits = UNLIMITED

    def request(self, elapsed: float) -> Request:
        """The calls in order, each stack in the place of its first."""
        calls = [prepared.at(self.offset + elapsed) for prepared in self.prepared]
        stacks = [stacked([calls[place] for place in group]) for group in self._groups()]
        return _post("/v1/calls", tuple(wire.encode_calls(stacks, _MEDIA)))

    def read(self, response: Response) -> list[Answer[Any] | MatfnError]:
        """One answer or error a call, in order."""
        answers, stacks = _decoded(response, wire.decode_answers, self.limits.server), self._groups()
        if len(answers) != len(stacks):
            raise ProtocolError(f"the server answered {len(answers)} of {len(stacks)} calls")
        found: dict[int, Answer[Any] | MatfnError] = {}
        for group, answer in zip(stacks, answers, strict=True):
            found |= zip(group, self._unstacked(group, answer), strict=True)
        return [found[place] for place in range(len(self.prepared))]

    def _groups(self) -> list[list[int]]:
        return groups([(prepared.call, prepared.likeness) for prepared in self.prepared], self.limits)

    def _unstacked(self, group: Sequence[int], answer: wire.Answer | Problem) -> list[Answer[Any] | MatfnError]:
        if isinstance(answer, Problem):
            answer = with_versions(answer, self.limits.server)
            error = problem_error(answer)
            lasting = len(group) > 1 and not may_pass(error)
            return [StackRefusedError("a stack was refused") if lasting else problem_error(answer) for _ in group]
        members = [self.prepared[place] for place in group]
        try:
            parts = apart(answer, [member.call for member in members])
        except wire.DecodeError as error:
            raise ProtocolError(f"the server's answer cannot be read: {error.detail}") from None
        return [member.answer(part) for member, part in zip(members, parts, strict=True)]


@dataclass(frozen=True, slots=True)
class DocumentExchange:
    """GET of a JSON object, such as /v1/functions."""

    target: str
    deadline: float | None = None

    def request(self, elapsed: float) -> Request:
        """The question."""
        del elapsed
        return Request("GET", self.target, (("Accept", Media.JSON),))

    def read(self, response: Response) -> dict[str, Any]:
        """The document."""
        if not _is_success(response):
            raise _refusal(response)
        try:
            document = json.loads(bytes(response.body))
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"the server's answer{_at(response)} to {self.target} is no JSON: {error}") from None
        if not isinstance(document, dict):
            raise ProtocolError(f"the server's answer to {self.target} is no JSON object")
        return document


def _post(target: str, body: tuple[wire.Buffer, ...], *headers: tuple[str, str]) -> Request:
    if offset := wire.offset_of(body):
        headers = (*headers, (OFFSET_HEADER, str(offset)))
    return Request("POST", target, (("Content-Type", _MEDIA), ("Accept", _MEDIA), *headers), body)


def _key(call: wire.Call) -> str:
    """Key of calls that may share a batch: `function:dtype:rows x columns` of the first input."""
    first = ENTRIES[call.function].first
    tensor = call.inputs[first.name]
    return f"{call.function}:{tensor.dtype}:{'x'.join(map(str, tensor.shape[-len(first.shape) :]))}"


class _Decoder(Protocol[AnswerT_co]):
    def __call__(self, body: wire.Buffer, media: Media) -> AnswerT_co: ...


def _decoded(response: Response, decode: _Decoder[AnswerT_co], server: str | None) -> AnswerT_co:
    if not _is_success(response):
        raise _refusal(response, server)
    kind = _content_type(response).partition(";")[0].strip().lower()
    if kind not in set(Media):
        raise ProtocolError(f"the server{_at(response)} answered with {kind or 'no media type'}, not with {_MEDIA}")
    try:
        return decode(response.body, Media(kind))
    except wire.DecodeError as error:
        raise ProtocolError(f"the server's answer cannot be read: {error.detail}") from None


def _is_success(response: Response) -> bool:
    return 200 <= response.status < 300  # noqa: PLR2004 - HTTP's own classes


def _content_type(response: Response) -> str:
    return response.headers.get("content-type", "")


def _refusal(response: Response, server: str | None = None) -> MatfnError:
    try:
        problem = wire.decode_problem(response.body, _content_type(response))
    except wire.DecodeError:
        return _foreign_refusal(response)
    problem = with_versions(_completed(problem, response), server)
    if problem.code == _NO_ROUTE:  # a matfn server without this path: the URL has one too many
        problem = replace(problem, detail=f"{problem.detail}{_at(response)}")
    return problem_error(problem)


def _at(response: Response) -> str:
    return f" at {response.url}" if response.url else ""


def _foreign_refusal(response: Response) -> MatfnError:
    """A refusal that matfn did not write: a proxy's, or another server's."""
    server = _printable(response.headers.get("server", ""))
    source = f"{server}, which is no matfn server" if server else "something else than a matfn server"
    hint = _HINT_OF_STATUS.get(response.status, "is this URL that of a matfn server, or of a proxy before it?")
    detail = f"HTTP {response.status} comes from {source}{_at(response)}"
    code = _CODE_OF_STATUS.get(response.status)
    if code is not None:
        return problem_error(_completed(Problem.of(code, detail, hint=hint), response))
    detail = f"{detail} ({hint})"
    gateway = response.status >= 500 or response.status == 408  # noqa: PLR2004 - a proxy's words for "no answer"
    return TransportError(detail) if gateway else ProtocolError(detail)


def _printable(name: str) -> str:
    return "".join(character for character in name[:_NAME] if character.isprintable())


def _completed(problem: Problem, response: Response) -> Problem:
    """Headers say what the document leaves out."""
    wait = problem.retry_after_ms
    return replace(
        problem,
        request_id=problem.request_id or response.headers.get("x-request-id", ""),
        retry_after_ms=_retry_after_ms(response.headers) if wait is None else wait,
    )


def _retry_after_ms(headers: Mapping[str, str]) -> float | None:
    """Retry-After as milliseconds: seconds, or a date to be counted from the server's own."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value) * 1000
    from email.utils import parsedate_to_datetime  # rarely needed, and slow to import

    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return None
    return max(wait.total_seconds(), 0.0) * 1000
