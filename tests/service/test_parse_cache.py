"""Bodies found in the parse cache are understood as if they were parsed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matfn import wire
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.validation import Limits
from matfn_service.admission import Admission
from matfn_service.problems import REFUSALS, as_refusal
from scripted import endless_account, matrices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matfn_service.admission import Prepared

pytestmark = pytest.mark.anyio

MSGPACK = wire.Media.MSGPACK


@pytest.fixture(scope="module")
def readers() -> Iterator[ThreadPoolExecutor]:
    """Threads that read large bodies; none are sent here."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def admission(readers: ThreadPoolExecutor) -> Admission:
    """An admission whose parse cache is empty."""
    return Admission(Limits(), Profile.nominal(), readers)


def body(call: wire.Call) -> bytearray:
    """The call as it is sent."""
    return bytearray(b"".join(wire.encode_call(call, MSGPACK)))


def general(**parameters: wire.Value) -> wire.Call:
    """Square roots of three general matrices."""
    tensor = wire.Tensor("float64", (3, 5, 5), np.random.default_rng(3).standard_normal((3, 5, 5)).tobytes())
    return wire.Call("root", {"a": tensor}, {"r": 2, "structure": "general", **parameters}, {})


CALLS = {
    "one": wire.Call("msign", {"m": matrices(4, 4)}, {}, {}),
    "parameters": wire.Call("inv_root", {"a": matrices(2, 3, 3)}, {"r": 4, "damping": 1e-3}, {"tol": 1e-5}),
    "broadcast": wire.Call("solve_lyapunov", {"a": matrices(3, 5, 5), "q": matrices(5, 5)}, {}, {"priority": 3}),
    "two": wire.Call("mclip", {"m": matrices(6, 4, 4)}, {"hi": 0.5}, {"on_failure": "nan"}),
    "general": general(),
    "own": wire.Call("power", {"a": matrices(3, 4, 4), "p": wire.Tensor("float32", (3,), b"\0\0\0@" * 3)}, {}, {}),
}


async def understood(admission: Admission, content: bytearray, function: str) -> Prepared | tuple[str, str]:
    """The call in a body, or its refusal."""
    try:
        return await admission.one(memoryview(content), MSGPACK, function, endless_account())
    except REFUSALS as error:
        refusal = as_refusal(error)
        return refusal.code, refusal.detail


def same(one: Prepared | tuple[str, str], other: Prepared | tuple[str, str]) -> bool:
    """Whether two bodies were understood alike, to the last bit."""
    if isinstance(one, tuple) or isinstance(other, tuple):
        return one == other
    a, b = one.call, other.call
    names = list(a.inputs) == list(b.inputs) and list(one.batch.inputs) == list(other.batch.inputs)
    bits = all(torch.equal(x.view(torch.uint8), b.inputs[name].view(torch.uint8)) for name, x in a.inputs.items())
    return names and bits and settled(one) == settled(other)


def settled(prepared: Prepared) -> list[object]:
    """All of a call but its numbers; a rejection by its words, since two of them are never equal."""
    call, batch = prepared.call, prepared.batch
    refusals = [one.rejection and one.rejection.__reduce__() for one in batch.requested]
    requested = [replace(one, rejection=None) for one in batch.requested]
    rejected = {index: rejection.__reduce__() for index, rejection in call.rejected.items()}
    return [call.function, call.lead, call.parameters, call.options, rejected, prepared.plan, requested, refusals]


@pytest.mark.parametrize("name", CALLS)
async def test_other_numbers_of_a_cached_body(readers: ThreadPoolExecutor, name: str) -> None:
    """A body that differs from a cached one in its numbers is understood as with an empty cache."""
    call = CALLS[name]
    others = {
        key: wire.Tensor(t.dtype, t.shape, (2 * np.frombuffer(t.data, t.dtype)).tobytes())
        for key, t in call.inputs.items()
    }
    second = body(wire.Call(call.function, others, call.params, call.options))
    knowing = admission(readers)
    await understood(knowing, body(call), call.function)

    assert knowing._parsed.find(call.function, memoryview(second)) is not None
    assert same(
        await understood(knowing, second, call.function), await understood(admission(readers), second, call.function)
    )


OCTETS = {"dtype": "float64", "shape": [2, 2]}
LISTS = {
    "one": ("polar", {"m": [[0.5], [-0.25]]}),
    "batch": ("msign", {"m": [[[1.0, 2.0], [3.0, 4.0]]] * 3}),
    "beside octets": ("tri_solve", {"t": [[2.0, 0.0], [1.0, 3.0]], "b": {**OCTETS, "data": bytes(range(32))}}),
    "not finite": ("mclip", {"m": [[1.0, None], [3.0, 4.0]]}),
}


@pytest.mark.parametrize("name", LISTS)
async def test_nested_lists_are_read_each_time(readers: ThreadPoolExecutor, name: str) -> None:
    """Bodies whose numbers are nested lists are understood the second time as the first."""
    function, inputs = LISTS[name]
    content = bytearray(msgpack.packb({"inputs": inputs}))
    knowing = admission(readers)

    first, second, third = [await understood(knowing, content, function) for _ in range(3)]

    assert same(first, second)
    assert same(second, third)
    assert same(third, await understood(admission(readers), content, function))


@given(st.data())
async def test_no_byte_goes_unread(readers: ThreadPoolExecutor, data: st.DataObject) -> None:
    """A cached body with any byte changed is understood as with an empty cache."""
    call = CALLS[data.draw(st.sampled_from(sorted(CALLS)))]
    changed = body(call)
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    knowing = admission(readers)
    await understood(knowing, body(call), call.function)

    assert same(
        await understood(knowing, changed, call.function), await understood(admission(readers), changed, call.function)
    )


async def test_cache_is_bounded(readers: ThreadPoolExecutor) -> None:
    """The cache keeps at most 1024 templates, the last one among them."""
    knowing = admission(readers)
    for number in range(1100):
        last = body(wire.Call("msign", {"m": matrices(1, 1)}, {}, {"deadline": 1.0 + number}))
        await understood(knowing, last, "msign")

    assert len(knowing._parsed._kept) <= 1024
    assert knowing._parsed.find("msign", memoryview(last)) is not None
