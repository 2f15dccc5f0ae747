"""Callers that do not read their answers are found, others are left alone."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.outflow import Outflow, Pace, Reading

pytestmark = pytest.mark.anyio

PACE = Pace(idle=10.0, rate=100)


class Stuck(asyncio.Transport):
    """A connection in which so much waits."""

    def __init__(self, waiting: int) -> None:
        super().__init__()
        self.waiting = waiting
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait."""
        return self.waiting

    def abort(self) -> None:
        """Closes it at once."""
        self.aborted.set()


@pytest.mark.parametrize(
    ("looks", "is_dropped"),
    [
        ([(5.0, 5000), (9.0, 5000)], False),
        ([(5.0, 5000), (10.5, 5000)], True),
        ([(9.0, 3000), (18.0, 1000)], False),
        ([(9.0, 4999), (11.0, 4998)], True),
        ([(9.0, 4000), (19.0, 3001), (28.0, 3001)], True),
        ([(9.0, 4000), (10.0, 3900)], False),
    ],
    ids=["pause", "nothing", "fast", "drops", "slower and slower", "at the rate"],
)
def test_who_reads_too_slowly(looks: list[tuple[float, int]], is_dropped: bool) -> None:
    """Nothing read for ten seconds is too slow, and so is less than the rate on average after them."""
    reading = Reading(PACE, 0.0, 5000)

    assert any(reading.is_too_slow(*look) for look in looks) is is_dropped


def test_new_answers_are_no_progress() -> None:
    """What is added while nothing is read neither counts as read nor buys time."""
    reading = Reading(PACE, 0.0, 1000)
    reading.more(3000)

    assert not reading.is_too_slow(9.0, 3000)
    reading.more(9000)
    assert reading.is_too_slow(10.1, 9000)


@given(st.lists(st.tuples(st.floats(0.01, 9.0), st.integers(0, 500)), max_size=30))
def test_who_reads_at_the_rate_is_never_dropped(steps: list[tuple[float, int]]) -> None:
    """A caller that reads as much as it must in every interval is left alone, whatever more is written."""
    now, waiting = 0.0, 10**6
    reading = Reading(PACE, now, waiting)
    for seconds, more in steps:
        now, waiting = now + seconds, waiting - int(101 * seconds) - 1
        assert not reading.is_too_slow(now, waiting)
        waiting += more
        reading.more(waiting)


async def test_a_stuck_connection_is_dropped_and_counted() -> None:
    """A connection whose caller reads nothing is aborted once."""
    counted: Counter[str] = Counter()
    transport = Stuck(1000)
    outflow = Outflow(transport, Pace(idle=0.01, rate=0), lambda: counted.update(["dropped"]))
    outflow.written()
    outflow.written()

    await asyncio.wait_for(transport.aborted.wait(), 10)
    assert counted == {"dropped": 1}


async def test_a_connection_that_was_read_is_left_alone() -> None:
    """The watch ends with what waits, or with the connection, and begins anew with the next answer."""
    transport = Stuck(0)
    outflow = Outflow(transport, Pace(idle=0.01, rate=0), transport.aborted.clear)
    outflow.written()
    assert outflow._timer is None
    transport.waiting = 5
    outflow.written()
    assert outflow._timer is not None
    outflow.end()
    assert outflow._timer is None
    assert not transport.aborted.is_set()
