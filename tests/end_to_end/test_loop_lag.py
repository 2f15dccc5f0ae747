"""No body stops the event loop: each of these once did so for a second or more."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Final

import msgpack
import numpy as np
import pytest

import matfn
from matfn import wire
from processes import running_server
from scraped import samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processes import ServerProcess

LONGEST: Final = 'matfn_loop_lag_seconds_bucket{le="0.25"}'  # generous: other programs want the cores too
ALL: Final = 'matfn_loop_lag_seconds_bucket{le="+Inf"}'
ONE: Final[dict[str, object]] = {"dtype": "float32", "shape": [1, 1], "data": np.ones(1, "f4").tobytes()}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server of its own, whose loop nobody else delays."""
    with running_server() as server:
        yield server


def flawed(count: int, **options: str) -> bytes:
    """Small matrices, none of which is symmetric."""
    a = np.tile(np.array([[1, 2], [3, 4]], "f2"), (count, 1, 1))
    tensor = {"dtype": "float16", "shape": a.shape, "data": a.tobytes()}
    return packed({"inputs": {"a": tensor}, "params": {"r": 2}, "options": options})


def packed(tree: object) -> bytes:
    """The tree in msgpack."""
    octets: bytes = msgpack.packb(tree)
    return octets


def with_params(params: object) -> bytes:
    """A root with these parameters."""
    return packed({"inputs": {"a": ONE}, "params": params})


def refused(code: str, words: str) -> Callable[[int, Any], bool]:
    """Whether an answer is this problem."""
    return lambda status, answer: status >= 400 and answer["code"] == code and words in answer["detail"]


def answered(count: int, code: str | None) -> Callable[[int, Any], bool]:
    """Whether an answer has so many certificates with this code."""
    return lambda status, answer: status == 200 and [c["code"] for c in answer["certificates"]] == [code] * count


def unit(columns: int) -> dict[str, object]:
    """A row (1, columns) that begins with 1 and goes on with 0, which is its own sign."""
    return {"dtype": "float32", "shape": [1, columns], "data": np.eye(1, columns, dtype="f4").tobytes()}


def one(number: int) -> dict[str, object]:
    """The matrix 1, whatever the number of its call."""
    del number
    return ONE


def all_answered(count: int, expected: Callable[[int], dict[str, object]] = one) -> Callable[[int, Any], bool]:
    """Whether each of so many calls, counted from 1, was answered with what is expected."""
    return lambda status, answer: (
        status == 200
        and [call["outputs"]["x"]["data"] for call in answer["answers"]]
        == [expected(number)["data"] for number in range(1, count + 1)]
    )


ATTACKS: Final = {
    "flawed": ("inv_root", flawed(65536), refused("not_symmetric", "matrix 0 of a")),
    "flawed, each told": ("inv_root", flawed(2000, on_failure="nan"), answered(2000, "not_symmetric")),
    "rows in params": ("inv_root", with_params({"r": [[1, 2, 3]] * 240_000}), refused("malformed", "4096 values")),
    "numbers in params": ("inv_root", with_params({"r": [1] * 10**6}), refused("malformed", "4096 values")),
    "names in params": (
        "inv_root",
        with_params({str(number): 1 for number in range(100_000)}),
        refused("malformed", "4096 names"),
    ),
    "dimensions": (
        "inv_root",
        packed({"inputs": {"a": {**ONE, "shape": [2**31 - 1] * 200_000}}, "params": {"r": 2}}),
        refused("malformed", "200000 dimensions"),
    ),
    "empty lists": (
        "msign",
        b'{"inputs":{"m":[' + b"[]," * 10**7 + b"[]]}}",
        refused("too_large", f"{wire.MOST_VALUES} values"),
    ),
    "numbers": (
        "msign",
        b'{"inputs":{"m":[[' + b"0.5," * 10**6 + b"1]]}}",
        refused("invalid_shape", "(1, 1000001)"),
    ),
    "calls": ("calls", packed({"calls": [{"function": "msign", "inputs": {"m": ONE}}] * 5000}), all_answered(5000)),
    "keys": (
        "calls",
        packed({"calls": [{"function": "msign", "inputs": {"m": unit(columns)}} for columns in range(1, 301)]}),
        all_answered(300, unit),
    ),
}


def posted(server: ServerProcess, function: str, body: bytes) -> tuple[int, Any]:
    """Status and content of an answer in msgpack."""
    connection = HTTPConnection(*server.address, timeout=50)
    kind = "application/json" if body.startswith(b"{") else "application/msgpack"
    try:
        connection.request("POST", f"/v1/{function}", body, {"Content-Type": kind, "Accept": "application/msgpack"})
        response = connection.getresponse()
        return response.status, msgpack.unpackb(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_loop_goes_on(server: ServerProcess, attack: str) -> None:
    """The attack gets its answer, the loop is never late by a quarter of a second, and the next caller is served."""
    function, body, is_right = ATTACKS[attack]
    before = samples(server.metrics())
    status, answer = posted(server, function, body)
    with matfn.Client(server.url) as client:
        assert client.msign(2 * np.eye(3)).tolist() == np.eye(3).tolist()
    after = samples(server.metrics())

    assert is_right(status, answer), (status, json.dumps(answer, default=str)[:300])
    assert after[ALL] - before[ALL] == after[LONGEST] - before[LONGEST]
