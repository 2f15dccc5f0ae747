"""Requests and responses without I/O."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import matfn
from matfn import wire
from matfn._aligned import address_of, aligned
from matfn.errors import TABLE, MatfnError, Problem, ProblemError
from matfn.exchange import CallExchange, DocumentExchange, ManyExchange, prepare
from matfn.http1 import Response
from matfn.invocation import Invocation
from matfn.limits import Limits
from matfn.session import Session
from matfn.triangles import in_triangle
from scripted_socket import answered

A = np.eye(3)
EXCHANGE = CallExchange(prepare(matfn.call.inv_root(A, 4)))


def sent(exchange: CallExchange[object], elapsed: float = 0.0) -> wire.Call:
    """The call that a server would decode."""
    request = exchange.request(elapsed)
    return wire.decode_call(b"".join(request.body), wire.Media.MSGPACK, request.target.removeprefix("/v1/"))


def refusal(response: Response) -> MatfnError:
    """The error that a response stands for."""
    with pytest.raises(MatfnError) as caught:
        EXCHANGE.read(response)
    return caught.value


def test_only_what_differs_from_its_default_is_sent() -> None:
    """Defaults are the server's business; numpy scalars and rows become plain values."""
    msign = matfn.call.msign(A, steps=np.int64(3), coefficients=np.ones((2, 3)), tol=np.float32(0.5))  # type: ignore[arg-type]

    call = sent(CallExchange(prepare(msign)))

    assert call.params == {"steps": 3, "coefficients": ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))}
    assert call.options == {"tol": 0.5}
    assert sent(EXCHANGE).params == {"r": 4}


def test_true_is_not_one() -> None:
    """A boolean in an integer's place reaches the server, which refuses it."""
    assert sent(CallExchange(prepare(matfn.call.inv_root(A, 4, True)))).params == {"r": 4, "s": True}  # noqa: FBT003


def test_parameter_of_no_plain_kind_is_refused_here() -> None:
    """An object that no wire could carry is an invalid parameter."""
    with pytest.raises(matfn.InvalidParameter, match="tol is object"):
        prepare(matfn.call.msign(A, tol=object()))  # type: ignore[arg-type]
    with pytest.raises(matfn.InvalidParameter, match="steps is an integer of more than 64 bits"):
        prepare(matfn.call.msign(A, steps=1 << 64))


def test_deadline_shrinks_by_what_has_passed() -> None:
    """A retry tells the server how much of the deadline is left, never less than nothing."""
    exchange = CallExchange(prepare(matfn.call.msign(A, deadline=2.0)))

    assert sent(exchange, 0.5).options == {"deadline": 1.5}
    assert sent(exchange, 5.0).options == {"deadline": 0.0}


@pytest.mark.parametrize("code", sorted(TABLE))
@pytest.mark.parametrize("media", list(wire.Media))
def test_every_code_has_its_exception(code: str, media: wire.Media) -> None:
    """A problem document of either medium becomes the class of its code with all its fields."""
    problem = Problem.of(code, "so", index=3)
    document = wire.encode_problem(problem, media)

    error = refusal(Response(problem.status, {"content-type": media.problem, "x-request-id": "r9"}, document))

    assert isinstance(error, ProblemError)
    assert type(error).__name__ == {"internal": "InternalError"}.get(code, code.title().replace("_", ""))
    assert (error.code, error.status, error.title) == (code, TABLE[code].status, TABLE[code].title)
    assert (error.detail, error.hint, error.index, error.request_id) == ("so", TABLE[code].hint, 3, "r9")


def test_code_of_a_later_version_is_a_problem_error() -> None:
    """An unknown code is no reason to lose the answer."""
    document = wire.encode_problem(Problem("too_cold", "brr", 418, "Cold"), wire.Media.JSON)

    error = refusal(Response(418, {"content-type": wire.Media.JSON.problem}, document))

    assert type(error) is ProblemError
    assert error.code == "too_cold"


@pytest.mark.parametrize(
    ("headers", "milliseconds"),
    [
        ({"retry-after": "2"}, 2000.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:05 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 5000.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": "Wed, 21 Oct 2015 07:28:05 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:05 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_header_is_read(headers: dict[str, str], milliseconds: float | None) -> None:
    """Seconds, or a date counted from the server's own clock."""
    error = refusal(Response(429, headers, b"slow down"))

    assert isinstance(error, matfn.Busy)
    assert error.retry_after_ms == milliseconds


def test_exact_wait_wins_over_the_header() -> None:
    """The header is rounded up to seconds, the document is not."""
    document = wire.encode_problem(Problem("busy", "", 429, "", retry_after_ms=12.5), wire.Media.MSGPACK)

    error = refusal(Response(429, {"content-type": wire.Media.MSGPACK.problem, "retry-after": "1"}, document))

    assert isinstance(error, matfn.Busy)
    assert error.retry_after_ms == 12.5


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, matfn.Unauthorized),
        (404, matfn.NotFound),
        (413, matfn.TooLarge),
        (429, matfn.Busy),
        (502, matfn.TransportError),
        (503, matfn.TransportError),
        (504, matfn.TransportError),
        (302, matfn.ProtocolError),
        (418, matfn.ProtocolError),
    ],
)
def test_foreign_refusal_is_understood(status: int, error: type[MatfnError]) -> None:
    """A proxy's page is typed by its status: its own refusal, or no answer of matfn at all."""
    assert type(refusal(Response(status, {"content-type": "text/html"}, b"<html>"))) is error


@pytest.mark.parametrize("status", [401, 404, 408, 413, 429, 502, 503, 504])
@pytest.mark.parametrize("server", ["nginx/1.24.0", "", "\x1b[31m\x07envoy"])
def test_proxys_refusal_is_told_from_the_servers(status: int, server: str) -> None:
    """A proxy's page is said to be one, with a remedy at the proxy and none of the server's settings."""
    headers = {"content-type": "text/html", "server": server}
    error = refusal(Response(status, headers, b"<html>"))

    assert f"HTTP {status} comes from" in str(error)
    assert "proxy" in str(error)
    assert "MATFN_" not in str(error)
    assert "\x1b" not in str(error)
    assert ("nginx/1.24.0" in str(error)) == (server == "nginx/1.24.0")


@pytest.mark.parametrize("kind", ["text/html", wire.Media.JSON.problem])
@pytest.mark.parametrize("status", [200, 302, 404, 502])
def test_the_url_that_was_asked_is_named(status: int, kind: str) -> None:
    """Whoever gives a URL with a path too many, or that of another server, is told which URL was asked."""
    document = b'{"type":"about:blank","title":"","status":404,"detail":"Not Found","code":"not_found"}'
    url = "http://host/foo/v1/inv_root"
    error = refusal(Response(status, {"content-type": kind}, document, url))

    assert url in str(error)


def test_proxys_bound_of_bodies_is_named() -> None:
    """A 413 that the server did not write names the setting of a common proxy."""
    error = refusal(Response(413, {"content-type": "text/html", "server": "nginx"}, b"<html>"))

    assert isinstance(error, matfn.TooLarge)
    assert "client_max_body_size" in str(error.hint)


@pytest.mark.parametrize("headers", [{"content-type": "text/html"}, {"content-type": wire.Media.MSGPACK}, {}])
def test_success_that_is_no_answer_is_a_protocol_error(headers: dict[str, str]) -> None:
    """A 200 with something else in it came from another server."""
    assert type(refusal(Response(200, headers, b"<html>"))) is matfn.ProtocolError


def received(exchange: CallExchange[object]) -> Response:
    """A response as a socket gives it: the exchange's first input as its answer, laid where its header says."""
    call = sent(exchange)
    buffers = wire.encode_answer(answered(call), wire.Media.MSGPACK)
    content = b"".join(buffers)
    body = aligned(len(content), wire.offset_of(buffers))
    body[:] = content
    return Response(200, {"content-type": wire.Media.MSGPACK}, body)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_answer_is_the_memory_it_was_received_in(library: str, dtype: str) -> None:
    """The numbers of one large output are not copied once more."""
    a: Any = np.eye(64, dtype=dtype)
    a = a if library == "numpy" else pytest.importorskip("torch").from_numpy(a)
    exchange = CallExchange(prepare(matfn.call.msign(a)))
    response = received(exchange)

    x = exchange.read(response).value

    assert np.shares_memory(np.asarray(x), np.frombuffer(response.body, np.uint8))
    np.testing.assert_array_equal(x, a)


def test_two_outputs_do_not_keep_each_other_alive() -> None:
    """What is less than half of its body is copied out of it."""
    exchange = CallExchange(prepare(matfn.call.sqrt_pair(np.eye(64))))
    response = received(exchange)

    x, y = exchange.read(response).value

    assert not np.shares_memory(x, np.frombuffer(response.body, np.uint8))
    assert not np.shares_memory(x, y)


def test_two_large_outputs_are_handed_out_as_they_were_received() -> None:
    """Outputs of 1 MiB that are a quarter of their body are not copied out of it, and share nothing with each other."""
    exchange = CallExchange(prepare(matfn.call.sqrt_pair(np.eye(512))))
    response = received(exchange)

    x, y = exchange.read(response).value

    assert np.shares_memory(x, np.frombuffer(response.body, np.uint8))
    assert np.shares_memory(y, np.frombuffer(response.body, np.uint8))
    assert not np.shares_memory(x, y)
    assert x.flags.writeable
    assert y.flags.writeable


def test_numbers_off_their_alignment_are_copied() -> None:
    """An array that other libraries take has aligned numbers, wherever its answer lay."""
    exchange = CallExchange(prepare(matfn.call.msign(np.eye(64))))
    response = received(exchange)
    shifted = memoryview(bytearray(len(response.body) + 64))
    shifted = shifted[-(address_of(shifted) - address_of(memoryview(response.body))) % 64 + 1 :][: len(response.body)]
    shifted[:] = response.body

    x: Any = exchange.read(Response(200, response.headers, shifted)).value

    assert x.flags.aligned
    np.testing.assert_array_equal(x, np.eye(64))


def test_request_names_what_it_may_share_a_batch_with() -> None:
    """The key has function, dtype and the sizes of one matrix, not their number."""
    request = CallExchange(prepare(matfn.call.inv_root(np.ones((7, 5, 5), "f4"), 4))).request(0.0)

    assert dict(request.headers)["X-Matfn-Key"] == "inv_root:float32:5x5"


def test_request_names_where_its_numbers_begin() -> None:
    """The offset is that of the first large tensor; a body without one names none."""
    a = np.full((64, 64), 7.0)
    request, small = CallExchange(prepare(matfn.call.msign(a))).request(0.0), EXCHANGE.request(0.0)

    offset = int(dict(request.headers)["x-matfn-offset"])

    assert b"".join(request.body)[offset:].startswith(a.tobytes())
    assert "x-matfn-offset" not in dict(small.headers)


def test_session_sends_triangles_where_it_is_told_to() -> None:
    """Only what is symmetric travels as a triangle, and only where the client was told so."""
    call = matfn.call.root(np.eye(8), 3, g=np.ones((2, 8)))
    plain, told = (Session.of(None, None, None, 0, triangles=triangles) for triangles in (False, True))

    inputs = told.prepared(call, Limits()).call.inputs

    assert (inputs["a"].uplo, inputs["g"].uplo) == ("L", None)
    assert inputs["a"].nbytes == 8 * 36
    assert plain.prepared(call, Limits()).call.inputs["a"].uplo is None


def test_session_asks_for_triangles_where_it_is_told_to() -> None:
    """A client that was told so asks for symmetric answers as their upper triangles."""
    plain, told = (Session.of(None, None, None, 0, triangles=triangles) for triangles in (False, True))

    assert dict(told.addressed(EXCHANGE.request(0.0)).headers)["x-matfn-triangle"] == "U"
    assert "x-matfn-triangle" not in dict(plain.addressed(EXCHANGE.request(0.0)).headers)


@pytest.mark.parametrize("count", [1, 3])
def test_triangles_are_unpacked(count: int) -> None:
    """Answers that come as triangles are handed out as whole matrices, alone and from a stack."""
    matrix = np.array([[1, 2], [2, 5]], "f4")
    calls = [prepare(matfn.call.msign(matrix)) for _ in range(count)]
    exchange = ManyExchange(calls)
    body = b"".join(exchange.request(0.0).body)
    (call,) = wire.decode_calls(body, wire.Media.MSGPACK)
    assert isinstance(call, wire.Call)
    answer = answered(call)
    packed = {name: in_triangle(tensor, "U") for name, tensor in answer.outputs.items()}
    reply = wire.encode_answers([replace(answer, outputs=packed)], wire.Media.MSGPACK)

    answers = exchange.read(Response(200, {"content-type": wire.Media.MSGPACK}, b"".join(reply)))

    assert packed["x"].nbytes == count * 12
    for found in answers:
        assert not isinstance(found, matfn.MatfnError)
        np.testing.assert_array_equal(found.value, matrix)


def test_missing_output_is_a_protocol_error() -> None:
    """A pair of which one is missing is no answer."""
    exchange = CallExchange(prepare(matfn.call.sqrt_pair(A)))
    answer = answered(sent(EXCHANGE))

    with pytest.raises(matfn.ProtocolError, match="lacks"):
        exchange.read(
            Response(
                200, {"content-type": "application/msgpack"}, b"".join(wire.encode_answer(answer, wire.Media.MSGPACK))
            )
        )


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 5000])
def test_document_must_be_a_json_object(body: bytes) -> None:
    """Anything else at /v1/status is not a matfn server's."""
    with pytest.raises(matfn.ProtocolError):
        DocumentExchange("/v1/status").read(Response(200, {}, body))


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (Limits(max_order=2), "MATFN_MAX_ORDER"),
        (Limits(max_items=4), "MATFN_MAX_ITEMS"),
        (Limits(max_elements=44), "MATFN_MAX_ELEMENTS"),
        (Limits(max_request_bytes=100), "MATFN_MAX_REQUEST_BYTES"),
        (Limits(max_request_bytes=370), "MATFN_MAX_REQUEST_BYTES"),
    ],
)
def test_limit_is_named_with_its_setting(limits: Limits, setting: str) -> None:
    """A call beyond a limit says what was given, what is taken, and what to raise."""
    call = matfn.call.msign(np.ones((5, 3, 3)))

    with pytest.raises(matfn.TooLarge, match=setting):
        CallExchange(prepare(call, limits), limits).request(0.0)


def test_small_inputs_that_broadcast_large_are_refused() -> None:
    """The limit of entries is counted over the leading dimensions that the inputs have together."""
    call = matfn.call.tri_solve(np.ones((5, 1, 2, 2)), np.ones((1, 7, 2, 1)))

    with pytest.raises(matfn.TooLarge, match="210 entries"):
        prepare(call, Limits(max_elements=209))
    assert prepare(call, Limits(max_elements=210)).call.function == "tri_solve"


@pytest.mark.parametrize(
    ("call", "entries"),
    [
        (matfn.call.max_logit(np.ones((50, 60, 1, 0)), np.ones((1, 60, 1, 0))), 3000),
        (matfn.call.dplr_inv(np.ones((9, 40)), np.ones((9, 40, 1)), np.ones((9, 40, 1))), 14400),
        (matfn.call.delta_rule(np.ones((40, 0, 64)), np.ones((40, 0, 64)), np.ones((40, 0, 64))), 163840),
    ],
    ids=lambda value: value.function if isinstance(value, Invocation) else "",
)
def test_outputs_larger_than_their_inputs_are_refused(call: Invocation[Any], entries: int) -> None:
    """The limit of entries is that of all outputs too, even where the inputs have none."""
    with pytest.raises(matfn.TooLarge, match=f"the outputs have {entries} entries"):
        prepare(call, Limits(max_elements=entries - 1))
    assert prepare(call, Limits(max_elements=entries)).call.function == call.function


@pytest.mark.parametrize("limits", [Limits(), Limits(max_request_bytes=1 << 26), Limits(max_order=4096)])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_too_large_is_known_before_anything_is_copied(library: str, limits: Limits) -> None:
    """Gigabytes that are one number in memory stay one number; without limits msgpack's own is the bound."""
    shape = (100, 8192, 2048)
    one = np.broadcast_to(np.float64(0), shape)
    array = one if library == "numpy" else pytest.importorskip("torch").zeros(()).expand(shape)

    tracemalloc.start()
    with pytest.raises(matfn.TooLarge, match=r"\(100, 8192, 2048\)|bytes"):
        prepare(matfn.call.msign(array, steps=1), limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1 << 20


@pytest.mark.parametrize("document", [None, {}, {"limits": 3}, {"limits": {"max_order": "8", "max_items": -1}}])
def test_unreadable_limits_limit_nothing(document: object) -> None:
    """A server that does not say its limits will refuse by itself."""
    assert Limits.of(document) == Limits()
