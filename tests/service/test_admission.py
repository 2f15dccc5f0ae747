"""Reading of bodies in threads: long work leaves a thread and the interpreter to others."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from matfn import wire
from matfn_kernels import Limits, Profile
from matfn_service.admission import Admission, Prepared
from matfn_service.problems import CallerLeft, Refusal
from scripted import endless_account, matrices

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def admission() -> Iterator[Admission]:
    """An admission with two threads, as the service has."""
    with ThreadPoolExecutor(2) as pool:
        yield Admission(Limits(), Profile.nominal(), pool)


def many(count: int) -> memoryview:
    """The body of so many calls."""
    call = wire.Call("msign", {"m": matrices(2, 2)}, {}, {})
    return memoryview(b"".join(wire.encode_calls([call] * count, wire.Media.MSGPACK)))


async def test_long_work_takes_turns(admission: Admission) -> None:
    """Of several works that hold the interpreter, one runs at a time, and each has its value."""
    running, most = 0, 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)  # lets the other threads run
        with lock:
            running -= 1
        return number

    numbers = await asyncio.gather(*[admission.in_turn(partial(work, number)) for number in range(20)])

    assert list(numbers) == list(range(20))
    assert most == 1


@pytest.mark.parametrize("count", [1, 2, 50])
async def test_few_calls_pass_long_work(admission: Admission, count: int) -> None:
    """A request of a few calls is read while long work runs and more of it waits."""
    goes_on = threading.Event()
    long = [asyncio.ensure_future(admission.in_turn(goes_on.wait)) for _ in range(3)]
    async with asyncio.timeout(30):
        calls = await admission.many(many(count), wire.Media.MSGPACK, endless_account())
    goes_on.set()

    assert [function for function, _ in calls] == ["msign"] * count
    assert all(await asyncio.gather(*long))


async def test_many_calls_wait_for_their_turn(admission: Admission) -> None:
    """A request of a thousand calls is read after the long work that came before it."""
    goes_on = threading.Event()
    long = asyncio.ensure_future(admission.in_turn(goes_on.wait))
    await asyncio.sleep(0)
    late = asyncio.ensure_future(admission.many(many(1000), wire.Media.MSGPACK, endless_account()))
    await admission.in_thread(int)  # the second thread is free, and is not taken

    assert not late.done()
    goes_on.set()
    assert await long
    assert len(await late) == 1000


async def test_work_that_raises_ends_its_turn(admission: Admission) -> None:
    """An error reaches its caller, and the next work runs."""
    with pytest.raises(ZeroDivisionError):
        await admission.in_turn(lambda: 1 // 0)

    assert await admission.in_turn(lambda: 5) == 5


async def test_nothing_is_read_for_who_has_left(admission: Admission) -> None:
    """Work whose caller leaves before its turn is not done, and whoever comes after it goes on."""
    goes_on = threading.Event()
    long = asyncio.ensure_future(admission.in_turn(goes_on.wait))
    done: list[int] = []
    left = [asyncio.ensure_future(admission.in_turn(lambda: done.append(1), lambda: True)) for _ in range(3)]
    late = asyncio.ensure_future(admission.in_turn(lambda: done.append(2)))
    goes_on.set()

    assert all(isinstance(one, CallerLeft) for one in await asyncio.gather(*left, return_exceptions=True))
    await asyncio.gather(long, late)
    assert done == [2]


async def test_cancelled_work_keeps_its_turn_to_its_end(admission: Admission) -> None:
    """A thread cannot be stopped: the next work begins when it has ended, not when its caller is cancelled."""
    begun, goes_on, order = threading.Event(), threading.Event(), list[str]()

    def long() -> None:
        begun.set()
        goes_on.wait()
        order.append("long")

    cancelled = asyncio.ensure_future(admission.in_turn(long))
    await admission.in_thread(begun.wait)
    cancelled.cancel()
    after = asyncio.ensure_future(admission.in_turn(lambda: order.append("next")))
    await admission.in_thread(int)
    assert order == []
    goes_on.set()
    await after

    assert cancelled.cancelled()
    assert order == ["long", "next"]


@pytest.mark.parametrize("digits", [310, 4000])
@pytest.mark.parametrize("place", ["params", "options"])
async def test_a_huge_number_fails_its_call_alone(admission: Admission, digits: int, place: str) -> None:
    """A whole number beyond every float is refused as any other, and the request's other calls are read."""
    name = {"params": "r", "options": "priority"}[place]
    good: dict[str, Any] = {"function": "root", "inputs": {"a": [[2, 1], [1, 2]]}, "params": {"r": 2}, "options": {}}
    bad = good | {place: good[place] | {name: 10**digits}}
    body = memoryview(json.dumps({"calls": [good, bad, good]}).encode())

    (_, first), (_, refusal), (_, last) = await admission.many(body, wire.Media.JSON, endless_account())
    assert isinstance(first, Prepared)
    assert isinstance(last, Prepared)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, name in refusal.detail) == ("invalid_parameter", True)
