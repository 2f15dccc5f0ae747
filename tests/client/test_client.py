"""The clients over a scripted transport: no socket, no sleep; both clients run every test."""

from __future__ import annotations

import asyncio
import inspect
import json
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from matfn.async_client import AsyncClock
from matfn.client import Clock
from matfn.errors import MatfnError, Problem
from matfn.http1 import Request, Response
from scripted_socket import answered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A = np.diag([1.0, 2.0, 3.0])
MSGPACK = wire.Media.MSGPACK


def problem_response(code: str, *, retry_after_ms: float | None = None) -> Response:
    """A refusal."""
    problem = replace(Problem.of(code, "scripted"), request_id="r1", retry_after_ms=retry_after_ms)
    return Response(problem.status, {"content-type": MSGPACK.problem}, wire.encode_problem(problem, MSGPACK))


@dataclass
class Script:
    """What the server says: the next of `replies`, and answers once they are used up."""

    replies: list[Response | MatfnError] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    outcome: Callable[[wire.Call], wire.Answer | Problem] = answered
    requests: list[Request] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    timeouts: list[float | None] = field(default_factory=list)

    def reply(self, request: Request, timeout: float | None) -> Response:
        """The response to a request."""
        if request.method == "GET":
            return Response(200, {}, json.dumps({"limits": self.limits, "state": "ready"}).encode())
        self.requests.append(request)
        self.timeouts.append(timeout)
        if self.replies:
            reply = self.replies.pop(0)
            if isinstance(reply, MatfnError):
                raise reply
            return reply
        return Response(200, {"content-type": MSGPACK}, b"".join(self._answer(request)))

    def _answer(self, request: Request) -> list[wire.Buffer]:
        body = b"".join(request.body)
        if request.target == "/v1/calls":
            calls = [call for call in wire.decode_calls(body, MSGPACK) if isinstance(call, wire.Call)]
            return wire.encode_answers([self.outcome(call) for call in calls], MSGPACK)
        answer = self.outcome(wire.decode_call(body, MSGPACK, request.target.removeprefix("/v1/")))
        assert isinstance(answer, wire.Answer)
        return wire.encode_answer(answer, MSGPACK)

    @property
    def headers(self) -> dict[str, str]:
        """Of the last request."""
        return dict(self.requests[-1].headers)


class _Sync:
    """A synchronous client's transport."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def send(self, request: Request, timeout: float | None) -> Response:
        return self._script.reply(request, timeout)

    def close(self) -> None:
        pass


class _Async(_Sync):
    """An asynchronous client's."""

    async def send(self, request: Request, timeout: float | None) -> Response:  # type: ignore[override]  # noqa: ASYNC109
        return self._script.reply(request, timeout)

    async def close(self) -> None:  # type: ignore[override]
        pass


class _Blocking:
    """An AsyncClient whose every method is run to its end, so that one test serves both clients."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target, self._runner = target, runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name == "with_info":
            return _Blocking(found, self._runner)
        return lambda *positional, **named: self._finished(found(*positional, **named))

    def _finished(self, result: Any) -> Any:
        return self._runner.run(result) if inspect.iscoroutine(result) else result


@pytest.fixture
def script() -> Script:
    """An agreeable server."""
    return Script()


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest, script: Script) -> Iterator[Callable[..., Any]]:
    """Makes a client of either kind on the script; the dice always show one half, the clock stands still."""

    async def sleep(seconds: float) -> None:
        script.sleeps.append(seconds)

    with asyncio.Runner() as runner:

        def made(**arguments: Any) -> Any:
            if request.param == "sync":
                clock = Clock(lambda: 0.0, script.sleeps.append, lambda: 0.5)
                return matfn.Client(transport=_Sync(script), clock=clock, **arguments)
            async_clock = AsyncClock(lambda: 0.0, sleep, lambda: 0.5)
            return _Blocking(matfn.AsyncClient(transport=_Async(script), clock=async_clock, **arguments), runner)

        yield made


def test_plain_call_returns_the_value(make: Callable[..., Any], script: Script) -> None:
    """A call goes to its function's route and returns an array."""
    x = make().inv_root(A, 4)

    np.testing.assert_array_equal(x, A)
    assert [request.target for request in script.requests] == ["/v1/inv_root"]


def test_pair_returns_two_values(make: Callable[..., Any]) -> None:
    """sqrt_pair returns a tuple."""
    x, y = make().sqrt_pair(A)

    np.testing.assert_array_equal(x, A)
    np.testing.assert_array_equal(y, A)


def test_info_returns_all_that_is_known(make: Callable[..., Any]) -> None:
    """with_info has the same methods and adds certificates, timing, request id and device."""
    answer = make().with_info.msign(A, tol=1e-3)

    np.testing.assert_array_equal(answer.value, A)
    assert answer.certificates[0].outcome == "converged"
    assert (answer.timing.batch_size, answer.request_id, answer.device) == (1, "r1", "cpu")


def test_key_is_sent_as_bearer(make: Callable[..., Any], script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument wins over MATFN_API_KEY, and without either nothing is sent."""
    make().msign(A)
    assert "Authorization" not in script.headers

    monkeypatch.setenv("MATFN_API_KEY", "environment")
    make().msign(A)
    assert script.headers["Authorization"] == "Bearer environment"

    make(api_key="argument").msign(A)
    assert script.headers["Authorization"] == "Bearer argument"


def approximate(call: wire.Call) -> wire.Answer:
    """An answer that is less than was asked for."""
    answer = answered(call)
    rough = replace(answer.certificates[0], outcome=wire.Outcome.APPROXIMATE, hint="error 3e-2 above 1e-3")
    return replace(answer, certificates=(answer.certificates[0], rough))


def test_approximate_answer_warns_once_at_the_callers_line(make: Callable[..., Any], script: Script) -> None:
    """A plain call warns with the figure from the hint; with_info leaves it to the certificate."""
    script.outcome = approximate
    client = make()

    with pytest.warns(matfn.ApproximateWarning, match="msign: 1 of 2 answers are approximate: error 3e-2") as caught:
        client.msign(A)
    with pytest.warns(matfn.ApproximateWarning, match="msign: .* and 1 more") as of_map:
        client.map([matfn.call.msign(A), matfn.call.msign(A[:2])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.with_info.msign(A)

    assert len(caught) == len(of_map) == 1


def test_warning_points_at_the_callers_line(script: Script) -> None:
    """The warning's place is the line that called the client."""
    script.outcome = approximate
    client = matfn.Client(transport=_Sync(script))

    with pytest.warns(matfn.ApproximateWarning) as caught:
        client.msign(A)
    with pytest.warns(matfn.ApproximateWarning) as of_map:
        client.map([matfn.call.msign(A)])

    assert caught[0].filename == of_map[0].filename == __file__


def test_passing_failure_is_tried_again(make: Callable[..., Any], script: Script) -> None:
    """A busy server is waited for as it asks, a lost connection by the dice; then the answer counts."""
    script.replies = [problem_response("busy", retry_after_ms=250.0), matfn.TransportError("reset")]

    make().msign(A)

    assert script.sleeps == pytest.approx([0.25 + 0.05, 0.1])
    assert len(script.requests) == 3


def test_retry_goes_by_the_name_of_its_refusal(make: Callable[..., Any], script: Script) -> None:
    """The server knows who comes back by the request id that it gave."""
    script.replies = [problem_response("busy", retry_after_ms=1.0), matfn.TransportError("reset")]

    make().msign(A)

    assert [dict(request.headers).get("X-Request-Id") for request in script.requests] == [None, "r1", "r1"]


def test_lasting_failure_is_raised_at_once(make: Callable[..., Any], script: Script) -> None:
    """A refusal of the matrix is the same the second time."""
    script.replies = [problem_response("not_positive")]

    with pytest.raises(matfn.NotPositive, match="scripted"):
        make().inv_root(A, 4)

    assert script.sleeps == []


def test_retries_end(make: Callable[..., Any], script: Script) -> None:
    """The last error is raised after max_retries retries."""
    script.replies = [problem_response("draining")] * 5

    with pytest.raises(matfn.Draining):
        make(max_retries=2).msign(A)

    assert len(script.requests) == 3


def test_attempt_ends_with_the_deadline(make: Callable[..., Any], script: Script) -> None:
    """An attempt waits for the timeout, or a moment longer than the deadline where that is sooner."""
    client = make(timeout=30.0)

    client.msign(A)
    client.msign(A, deadline=2.0)

    assert script.timeouts == [30.0, 3.0]


def test_too_large_call_is_not_sent(make: Callable[..., Any], script: Script) -> None:
    """What the server's limits exclude is refused here."""
    script.limits = {"max_order": 2}

    with pytest.raises(matfn.TooLarge, match="MATFN_MAX_ORDER"):
        make().msign(A)

    assert script.requests == []


def test_closed_client_raises(make: Callable[..., Any], script: Script) -> None:
    """After close nothing is sent any more."""
    client = make()
    client.close()

    for use in (lambda: client.msign(A), lambda: client.map([matfn.call.msign(A)]), client.status, client.functions):
        with pytest.raises(matfn.ClosedError):
            use()
    assert script.requests == []


def test_documents_are_returned(make: Callable[..., Any], script: Script) -> None:
    """Status and functions are the server's documents."""
    script.limits = {"max_items": 7}
    client = make()

    assert client.status()["state"] == "ready"
    assert client.functions()["limits"] == {"max_items": 7}


def numbered(count: int) -> list[matfn.Invocation[Any]]:
    """Calls that differ in their first entry."""
    return [matfn.call.msign(np.full((2, 2), float(index))) for index in range(count)]


def unlike(count: int) -> list[matfn.Invocation[Any]]:
    """Calls that differ in their first entry, and in shape."""
    return [matfn.call.msign(np.full((2, 2 + index), float(index))) for index in range(count)]


def test_map_keeps_the_order_in_one_request(make: Callable[..., Any], script: Script) -> None:
    """Values come in the order of their calls."""
    values = make().map(numbered(5))

    assert [value[0, 0] for value in values] == [0, 1, 2, 3, 4]
    assert [request.target for request in script.requests] == ["/v1/calls"]
    assert make().map([]) == []


def test_map_respects_the_byte_limit(make: Callable[..., Any], script: Script) -> None:
    """Requests are cut below the server's limit, and every call is in exactly one."""
    script.limits = {"max_request_bytes": 600}

    values = make().map(numbered(10))

    assert [value[0, 0] for value in values] == list(range(10))
    assert len(script.requests) > 2
    assert all(sum(map(len, request.body)) <= 600 for request in script.requests)


def failing(*codes: str) -> Callable[[wire.Call], wire.Answer | Problem]:
    """Fails calls with a matrix whose first entry is 1 with one code after another, then answers."""
    left = list(codes)

    def outcome(call: wire.Call) -> wire.Answer | Problem:
        tensor = call.inputs["m"]
        firsts = np.frombuffer(tensor.data).reshape(tensor.shape)[..., 0, 0]
        return Problem.of(left.pop(0), "scripted") if np.any(firsts == 1) and left else answered(call)

    return outcome


def test_map_sends_only_the_failed_again(make: Callable[..., Any], script: Script) -> None:
    """A busy server's refusals are repeated, answered calls are not."""
    script.outcome = failing("busy", "out_of_memory")

    values = make().map(unlike(3))

    sizes = [len(wire.decode_calls(b"".join(request.body), MSGPACK)) for request in script.requests]
    assert [value[0, 0] for value in values] == [0, 1, 2]
    assert sizes == [3, 1, 1]
    assert [wait for wait in script.sleeps if wait] == pytest.approx([0.05, 0.1])


def sent(request: Request) -> list[tuple[str, tuple[int, ...]]]:
    """The calls of a request, each with the shape of its first input."""
    calls = [call for call in wire.decode_calls(b"".join(request.body), MSGPACK) if isinstance(call, wire.Call)]
    return [(call.function, next(iter(call.inputs.values())).shape) for call in calls]


def test_map_stacks_calls_that_are_alike(make: Callable[..., Any], script: Script) -> None:
    """Calls of one function, shape, dtype, parameters and options travel as one, whatever lies between them."""
    low = matfn.call.eig_clip(A, lo=0.0)
    other = matfn.call.eig_clip(A, lo=1.0)

    answers = make().with_info.map([low, other, low, matfn.call.eig_clip(A[None], lo=0.0), low])

    assert sent(script.requests[0]) == [("eig_clip", (3, 3, 3)), ("eig_clip", (3, 3)), ("eig_clip", (1, 3, 3))]
    assert [answer.value.shape for answer in answers] == [(3, 3), (3, 3), (3, 3), (1, 3, 3), (3, 3)]
    assert [len(answer.certificates) for answer in answers] == [1] * 5
    assert len({id(answer.value.base) for answer in answers}) == 5


def test_map_does_not_stack_what_only_compares_equal(make: Callable[..., Any], script: Script) -> None:
    """True is not 1: a boolean in a number's place is the server's to refuse."""
    make().map([matfn.call.eig_clip(A, lo=1), matfn.call.eig_clip(A, lo=True)])

    assert sent(script.requests[0]) == [("eig_clip", (3, 3))] * 2


@pytest.mark.parametrize(("order", "deadline"), [(3, 5.0), (128, None)])
def test_map_stacks_neither_large_calls_nor_calls_with_a_deadline(
    make: Callable[..., Any], script: Script, order: int, deadline: float | None
) -> None:
    """A stack copies its inputs, and takes longer than each of its calls."""
    make().map([matfn.call.msign(np.eye(order), deadline=deadline)] * 2)

    assert sent(script.requests[0]) == [("msign", (order, order))] * 2


def test_map_stacks_no_more_than_the_limit_of_items(make: Callable[..., Any], script: Script) -> None:
    """A stack has as many matrices as the server allows in one call."""
    script.limits = {"max_items": 2}

    values = make().map(numbered(5))

    assert [shape for _, shape in sent(script.requests[0])] == [(2, 2, 2), (2, 2, 2), (2, 2)]
    assert [value[0, 0] for value in values] == [0, 1, 2, 3, 4]


def test_map_sends_the_calls_of_a_refused_stack_by_themselves(make: Callable[..., Any], script: Script) -> None:
    """The refusal of a stack is no call's: each call then gets its own answer or refusal, with its own index."""
    script.outcome = failing("too_large", "singular")

    values = make().map(numbered(3), on_error="return")

    assert [len(sent(request)) for request in script.requests] == [1, 3]
    assert [type(value).__name__ for value in values] == ["ndarray", "Singular", "ndarray"]
    assert [wait for wait in script.sleeps if wait] == []


def test_map_refuses_a_stack_that_was_answered_in_part(make: Callable[..., Any], script: Script) -> None:
    """Certificates that are too few for a stack belong to no call."""
    script.outcome = lambda call: replace(answered(call), certificates=answered(call).certificates[:1])

    with pytest.raises(matfn.ProtocolError, match="1 certificates of 3 matrices"):
        make().map(numbered(3))


@pytest.mark.parametrize("place", [0, 7])
def test_map_says_which_call_failed(make: Callable[..., Any], script: Script, place: int) -> None:
    """The error of one among many names the call in an attribute and in words, and its matrix as before."""
    script.outcome = refusing(lambda call: bytes(call.inputs["m"].data) == np.full((2, 2), float(place)).tobytes())

    with pytest.raises(matfn.NotFinite) as raised:
        make().map(numbered(8))

    assert (raised.value.call, raised.value.index) == (place, 0)
    assert str(raised.value).startswith(f"not_finite: call {place}: matrix 0 ")
    assert raised.value.detail.startswith(f"call {place}: matrix 0 ")


def test_map_says_which_calls_were_not_sent(make: Callable[..., Any]) -> None:
    """Calls that the client itself refuses are named likewise."""
    calls = [*numbered(2), matfn.call.msign(np.array(["a"])), matfn.call.msign(np.ones((2, 2), int))]

    errors = make().map(calls, on_error="return")[2:]

    assert [error.call for error in errors] == [2, 3]
    assert [str(error).count(f"call {place}: ") for place, error in enumerate(errors, 2)] == [1, 1]


def test_single_calls_error_names_no_call(make: Callable[..., Any], script: Script) -> None:
    """There is no place where there is one call."""
    script.replies = [problem_response("not_positive")]

    with pytest.raises(matfn.NotPositive, match=r"^not_positive: scripted") as raised:
        make().inv_root(A, 2)
    assert raised.value.call is None


def refusing(is_bad: Callable[[wire.Call], bool]) -> Callable[[wire.Call], wire.Answer | Problem]:
    """Answers calls but for these, whose first matrix is not finite; refuses what is stacked."""

    def outcome(call: wire.Call) -> wire.Answer | Problem:
        stack = call.inputs["m"].shape[:-2] != ()
        return Problem.of("not_finite", "matrix 0 holds NaN", index=0) if stack or is_bad(call) else answered(call)

    return outcome


def test_map_raises_the_first_error(make: Callable[..., Any], script: Script) -> None:
    """By default one failed call is an exception."""
    script.outcome = failing("singular", "singular")

    with pytest.raises(matfn.Singular):
        make().map(numbered(3))


def test_map_returns_errors_in_their_places(make: Callable[..., Any], script: Script) -> None:
    """With on_error="return" every call has a value or its own error, whoever refused it."""
    script.outcome = failing("singular", "singular")
    script.limits = {"max_order": 8}
    calls = [*numbered(2), matfn.call.msign(np.eye(9)), matfn.call.msign(np.eye(2, dtype=int))]

    values = make().map(calls, on_error="return")

    assert [type(value).__name__ for value in values] == ["ndarray", "Singular", "TooLarge", "UnsupportedDtype"]


def test_map_gives_up_what_stays_busy(make: Callable[..., Any], script: Script) -> None:
    """After max_retries the refusal is returned, and the other calls keep their answers."""
    script.outcome = failing(*["busy"] * 9)

    values = make(max_retries=2).map(unlike(3), on_error="return")

    assert [type(value).__name__ for value in values] == ["ndarray", "Busy", "ndarray"]


def test_map_reports_a_lost_request_on_each_call(make: Callable[..., Any], script: Script) -> None:
    """A request that never gets through is the failure of every call in it."""
    script.replies = [matfn.TransportError("reset")] * 9

    values = make(max_retries=1).map(numbered(2), on_error="return")

    assert [type(value) for value in values] == [matfn.TransportError] * 2


def test_map_refuses_an_unknown_mode(make: Callable[..., Any]) -> None:
    """on_error has two values."""
    with pytest.raises(ValueError, match="on_error='ignore'"):
        make().map([], on_error="ignore")


def test_map_shows_progress_on_stderr(make: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """progress=True counts finished calls, and keeps stdout clean."""
    make().map(numbered(3), progress=True)

    captured = capsys.readouterr()
    assert "3/3" in captured.err
    assert captured.out == ""


def test_first_array_decides_the_kind(make: Callable[..., Any]) -> None:
    """A torch tensor gets torch back, numpy gets numpy."""
    torch = pytest.importorskip("torch")
    client = make()

    assert isinstance(client.tri_solve(torch.eye(3), np.eye(3, dtype="f4")), torch.Tensor)
    assert isinstance(client.tri_solve(np.eye(3), torch.eye(3)), np.ndarray)
    with pytest.raises(matfn.InvalidParameter, match="needs the input m"):
        client.msign(None)
