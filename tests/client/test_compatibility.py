"""Servers of other versions: what they tell is understood, what is new is passed over; errors name both versions."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import pytest

import matfn
from matfn import compatibility, wire
from matfn.errors import Problem
from matfn.version import package_version
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A = np.diag([1.0, 2.0])
KINDS = pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
OWN = package_version()


def serving(document: dict[str, Any], answer: Callable[[wire.Call], bytes], status: int = 200) -> Any:
    """A server that tells this document, and answers calls so."""
    told = http_response(json.dumps(document).encode(), content_type="application/json")
    media = wire.Media.MSGPACK if status == 200 else wire.Media.MSGPACK.problem

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        while request := server.read(conversation):
            head, _, body = request.partition(b"\r\n\r\n")
            if head.startswith(b"GET"):
                conversation.say(told)
                continue
            call = wire.decode_call(body, wire.Media.MSGPACK, "msign")
            conversation.say(http_response(answer(call), status, media))

    return script


def used(kind: type, document: dict[str, Any], answer: Callable[[wire.Call], bytes], status: int = 200) -> Any:
    """What a call of a client of either kind gives."""

    async def within(url: str) -> Any:
        async with matfn.AsyncClient(url) as client:
            return await client.with_info.msign(A)

    with ScriptedServer(serving(document, answer, status)) as server:
        if kind is matfn.AsyncClient:
            return asyncio.run(within(server.url))
        with matfn.Client(server.url) as client:
            return client.with_info.msign(A)


def plain(call: wire.Call) -> bytes:
    """The first input, as this version answers."""
    return b"".join(wire.encode_answer(answered(call), wire.Media.MSGPACK))


def newer(call: wire.Call) -> bytes:
    """The same from a later version, which says more everywhere."""
    tree = msgpack.unpackb(plain(call), raw=False)
    tree["novelty"] = [1, {"a": None}]
    tree["timing"]["novelty_ms"] = 3.0
    for certificate in tree["certificates"]:
        certificate["novelty"] = "x"
    for tensor in tree["outputs"].values():
        tensor["layout"] = "C"
    packed: bytes = msgpack.packb(tree)
    return packed


def refused(code: str, hint: str | None = "look there") -> Callable[[wire.Call], bytes]:
    """A refusal with this code."""
    return lambda _: wire.encode_problem(Problem.of(code, "no", hint=hint), wire.Media.MSGPACK)


@KINDS
@pytest.mark.parametrize(
    "document", [{}, {"wire": [1], "version": OWN}, {"wire": [1, 2, 3], "version": "9.0.0", "new": 1}]
)
def test_newer_servers_are_understood(kind: type, document: dict[str, Any]) -> None:
    """A server that speaks this version of the wire, among others, may say more than this client knows."""
    answer = used(kind, {**document, "limits": {"max_items": 3, "max_novelty": 5}}, newer)

    np.testing.assert_array_equal(answer.value, A)


@KINDS
def test_other_wire_is_refused_before_the_call(kind: type) -> None:
    """A server that speaks other versions only gets no call; the error names both."""
    with pytest.raises(matfn.ProtocolError, match=rf"matfn 9\.1\.0 and speaks version 2, 3 .* matfn {re.escape(OWN)}"):
        used(kind, {"wire": [3, 2], "version": "9.1.0"}, plain)


@KINDS
@pytest.mark.parametrize(("told", "named"), [({"version": "0.0.9"}, "matfn 0.0.9"), ({}, "such as matfn 0.1.0")])
def test_missing_function_names_both_versions(kind: type, told: dict[str, Any], named: str) -> None:
    """A function that the server has not is an error with the server's version and this client's."""
    with pytest.raises(matfn.UnknownFunction) as caught:
        used(kind, told, refused("unknown_function"), 404)

    assert caught.value.hint is not None
    assert caught.value.hint.startswith("look there; ")
    assert named in caught.value.hint
    assert caught.value.hint.endswith(f"this client matfn {OWN}")


@pytest.mark.parametrize("code", ["invalid_parameter", "malformed"])
@pytest.mark.parametrize(("told", "is_named"), [("9.0.0", True), (OWN, False), ("", False)])
def test_refused_argument_names_versions_that_differ(code: str, told: str, is_named: bool) -> None:
    """An argument may be new or gone as well; between equal versions it is not said."""
    problem = compatibility.with_versions(Problem.of(code, "no"), told)

    assert ("matfn 9.0.0" in (problem.hint or "")) is is_named


def test_other_refusals_name_no_version() -> None:
    """A matrix that has no answer has none in any version, nor does a server that was not asked."""
    singular, unknown = Problem.of("singular", "no"), Problem.of("unknown_function", "no")

    assert compatibility.with_versions(singular, "9.0.0") is singular
    assert compatibility.with_versions(unknown, None) is unknown
    assert compatibility.with_versions(replace(unknown, hint=None), "9.0.0").hint == (
        f"the server is matfn 9.0.0, this client matfn {OWN}"
    )


@pytest.mark.parametrize("told", [None, 3, "1", [], ["1"], [True], {}])
def test_odd_wire_versions_are_as_none(told: object) -> None:
    """What is no list of numbers says nothing."""
    compatibility.require_common_wire({"wire": told})


@pytest.fixture(scope="module")
def document() -> Iterator[dict[str, Any]]:
    """What this version's own catalogue says."""
    with matfn.LocalClient(device="cpu") as client:
        yield client.functions()


def test_catalogue_tells_versions(document: dict[str, Any]) -> None:
    """The catalogue has the version of the package and those of the wire."""
    assert (document["version"], document["wire"]) == (OWN, [1])
