"""Futures of submitted calls, answers as they come, and what stands in an answer."""

from __future__ import annotations

import copy
import inspect
import threading
import warnings
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from matfn.errors import Problem
from matfn.http1 import Request, Response
from matfn.submission import MOST_THREADS
from scripted_socket import answered

if TYPE_CHECKING:
    from collections.abc import Iterator

MSGPACK = wire.Media.MSGPACK
A = np.diag([1.0, 2.0])
BAD = -A


class Server:
    """A transport that hands the first input back; a call with a negative entry is not positive."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(1 << 20)
        self.entered = threading.Semaphore(0)
        self.threads: list[str] = []

    def send(self, request: Request, timeout: float | None) -> Response:
        """The answer to a request, once there is a permit for it."""
        del timeout
        if request.method == "GET":
            return Response(200, {}, b'{"limits": {}}')
        self.threads.append(threading.current_thread().name)
        self.entered.release()
        assert self.permits.acquire(timeout=20)
        call = wire.decode_call(b"".join(request.body), MSGPACK, request.target.removeprefix("/v1/"))
        if np.frombuffer(next(iter(call.inputs.values())).data)[0] < 0:
            problem = wire.encode_problem(Problem.of("not_positive", "matrix 0 is negative", index=0), MSGPACK)
            return Response(422, {"content-type": MSGPACK.problem}, problem)
        return Response(200, {"content-type": MSGPACK}, b"".join(wire.encode_answer(answered(call), MSGPACK)))

    def close(self) -> None:
        """Has nothing to close."""


@pytest.fixture
def server() -> Server:
    """A server that answers at once."""
    return Server()


@pytest.fixture(params=["remote", "local"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """A client of that server, or of this process."""
    made = matfn.Client(transport=server) if request.param == "remote" else matfn.LocalClient(device="cpu")
    with made as client:
        yield client


def root(a: Any) -> matfn.Invocation[Any]:
    """A^(1/1), which is A, and refused where A is negative."""
    return matfn.call.root(a, 1)


def test_submitted_call_is_a_future(client: Any) -> None:
    """The future has the value, and with_info's the answer."""
    future = client.submit(root(A))
    informed = client.with_info.submit(root(2 * A))

    assert isinstance(future, Future)
    np.testing.assert_allclose(future.result(20), A)
    np.testing.assert_allclose(informed.result(20).value, 2 * A)
    assert informed.result().certificates[0].outcome == "converged"


def test_error_of_a_submitted_call_is_the_futures(client: Any) -> None:
    """A refusal comes where the result is asked for."""
    error = client.submit(root(BAD)).exception(20)

    assert isinstance(error, matfn.NotPositive)


def test_what_is_no_call_is_refused_at_once(client: Any) -> None:
    """A TypeError names what was given, before a thread has it."""
    with pytest.raises(TypeError, match="the call is ndarray"):
        client.submit(A)
    with pytest.raises(TypeError, match="as_completed takes an iterable of calls"):
        client.as_completed(root(A))
    with pytest.raises(ValueError, match="on_error='ignore'"):
        client.as_completed([root(A)], on_error="ignore")


def test_calls_are_answered_as_they_come(client: Any) -> None:
    """Each call's place comes once, with its own value."""
    found = dict(client.as_completed([root(scale * A) for scale in (1.0, 2.0, 3.0)]))

    assert sorted(found) == [0, 1, 2]
    assert all(np.allclose(found[place], (place + 1) * A) for place in found)


def test_errors_are_returned_in_their_places(client: Any) -> None:
    """With on_error="return" a refused call is an error that names its place."""
    found = dict(client.as_completed([root(A), root(BAD), root(A)], on_error="return"))

    assert isinstance(found[1], matfn.NotPositive)
    assert found[1].call == 1
    assert "call 1" in str(found[1])
    assert all(np.allclose(found[place], A) for place in (0, 2))


def test_first_error_is_raised_with_its_place(client: Any) -> None:
    """Without it the error is raised."""
    with pytest.raises(matfn.NotPositive, match="call 2") as raised:
        list(client.as_completed([root(A), root(A), root(BAD)]))

    assert raised.value.call == 2


def test_progress_counts_answers(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar on stderr counts the answers that have come."""
    list(client.as_completed([root(A)] * 3, progress=True))

    assert capsys.readouterr().err.endswith("3/3\n")


def test_threads_are_bounded_and_shared(server: Server) -> None:
    """However many calls are submitted, a client has so many threads, and its options use the same."""
    with matfn.Client(transport=server) as client:
        futures = [client.submit(root(A)) for _ in range(3 * MOST_THREADS)]
        futures += [client.with_options(timeout=9).submit(root(A)) for _ in range(3 * MOST_THREADS)]
        done, pending = wait(futures, 20)

    assert not pending
    assert all(np.array_equal(future.result(), A) for future in done)
    assert len(server.threads) == 6 * MOST_THREADS
    assert len(set(server.threads)) <= MOST_THREADS


def test_client_has_at_most_as_many_threads_as_connections(server: Server) -> None:
    """One connection is waited for by one thread."""
    with matfn.Client(transport=server, max_connections=1) as client:
        wait([client.submit(root(A)) for _ in range(8)], 20)

    assert len(server.threads) == 8
    assert len(set(server.threads)) == 1


def test_leaving_early_takes_back_what_has_not_begun(server: Server) -> None:
    """Calls behind the first one that is taken are not sent for nobody."""
    server.permits = threading.Semaphore(1)
    with matfn.Client(transport=server, max_connections=1) as client:
        answers: Any = client.as_completed([root(A), root(A), root(A)])
        next(answers)
        answers.close()
        server.permits.release(2)
        client.submit(root(A)).result(20)

    assert len(server.threads) <= 3


def test_closed_client_takes_no_calls(server: Server) -> None:
    """What has begun is answered, what waits fails, and what comes is refused, each with ClosedError."""
    server.permits = threading.Semaphore(0)
    client = matfn.Client(transport=server, max_connections=1)
    begun, waiting = (client.submit(root(A)) for _ in range(2))
    assert server.entered.acquire(timeout=20)
    client.close()
    server.permits.release()

    np.testing.assert_array_equal(begun.result(20), A)
    assert isinstance(waiting.exception(20), matfn.ClosedError)
    with pytest.raises(matfn.ClosedError):
        client.submit(root(A))


def test_copy_has_threads_of_its_own() -> None:
    """A deep copy of a client that has submitted calls submits its own."""
    with matfn.Client("http://127.0.0.1:9", max_retries=0) as client:
        wait([client.submit(root(A))], 20)

        with copy.deepcopy(client) as other:
            assert isinstance(other.submit(root(A)).exception(20), matfn.TransportError)


def test_approximate_answers_warn_in_threads_too() -> None:
    """A value that is approximate is told, as it is without threads; here the warning is an error."""
    singular = matfn.call.inv_root(np.diag([1.0, 0.0]), 2)
    with matfn.LocalClient(device="cpu") as client:
        error = client.submit(singular).exception(20)

    assert isinstance(error, matfn.ApproximateWarning)


def test_warning_of_a_submitted_call_points_at_the_submission() -> None:
    """The line is the caller's, though a thread of the client finds what it warns about."""
    singular = matfn.call.inv_root(np.diag([1.0, 0.0]), 2)
    with matfn.LocalClient(device="cpu") as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        future = client.submit(singular)
        future.result(20)
        list(client.as_completed([singular]))

    assert [(one.filename, one.lineno) for one in caught] == [(__file__, line), (__file__, line + 2)]


def test_errors_are_an_array() -> None:
    """An answer's error estimates, one for each matrix, NaN where there is none."""
    with matfn.LocalClient(device="cpu") as client:
        answer = client.with_info.root(np.stack([A, BAD, A]).reshape(3, 1, 2, 2), 2, on_failure="nan")

    assert answer.errors.shape == (3,)
    assert answer.errors.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(answer.errors), [False, True, False])
    assert answer.errors[0] == answer.certificates[0].error_estimate


def test_calls_and_certificates_are_written_in_a_line() -> None:
    """A call is written as it is made, with large arrays by shape; a certificate without what it has nothing on."""
    call = matfn.call.inv_root(np.zeros((3, 9, 9), "f4"), 4, tol=1e-3)
    claim = matfn.verification.msign(np.zeros((9, 9)), [[0.0] * 9] * 9)
    certificate = answered(wire.Call("msign", {"m": wire.Tensor("float64", (1, 1), b"12345678")}, {}, {})).certificates

    assert repr(call) == "matfn.call.inv_root(a=<ndarray of float32, 3x9x9>, r=4, tol=0.001)"
    assert repr(claim) == "matfn.verification.msign(x=<ndarray of float64, 9x9>, m=<list of 9 rows>)"
    assert repr(certificate[0]) == (
        "Certificate(outcome='converged', residual=none 0, error_estimate=1e-16, condition=1, method='echo', "
        "precision='fp64', steps=0)"
    )
