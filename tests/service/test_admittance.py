"""Jobs are admitted or refused by what waits, what runs and what time it is, without an event loop."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.validation import Limits, parse_call
from matfn_kernels.running.evaluation import batch_of
from matfn_kernels.running.plan import make_plan
from matfn_service.admittance import Admittance, Occupancy
from matfn_service.jobs import Job
from matfn_service.problems import Refusal
from matfn_service.queue import KeyedQueue, Limit
from matfn_service.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 100.0
BOUND = Limit(8.0, 8000)
BATCH = Limit(80.0, 8000)
IDLE = Occupancy(seconds=0.0, bytes=0, workers=1, cost_ratio=1.0)
BUSY = Occupancy(seconds=1.0, bytes=1000, workers=1, cost_ratio=1.0)


def job(seconds: float = 1.0, size: int = 1000, items: int = 1, deadline: float = math.inf) -> Job:
    """A job of so many matrices that costs so much."""
    call = parse_call("msign", {"m": torch.ones(items, 2, 2)}, {}, {}, Limits())
    program = make_plan(call, Profile.nominal()).program
    return Job(program, batch_of(call), "msign", seconds, size, 0, NOW, deadline)


def admittance(batch: Limit = BATCH) -> tuple[Admittance, KeyedQueue[Job], Statistics]:
    """An admittance to an empty queue, the queue, and the statistics."""
    queue: KeyedQueue[Job] = KeyedQueue(BOUND, 10.0)
    statistics = Statistics()
    return Admittance(queue, batch, statistics), queue, statistics


def refusal(gate: Admittance, refused: Job, caller: str = "a", device: Occupancy = BUSY, now: float = NOW) -> Refusal:
    """The refusal of a job."""
    with pytest.raises(Refusal) as caught:
        gate.admit(refused, caller, device, now)
    return caught.value


def filled(gate: Admittance, jobs: Sequence[Job]) -> None:
    """Admits jobs of callers that nobody refused before."""
    for number, admitted in enumerate(jobs):
        gate.admit(admitted, f"first-{number}", BUSY, NOW)


def test_admitted_job_waits() -> None:
    """A job that fits is queued as it is."""
    gate, queue, _ = admittance()
    sent = job()

    assert gate.admit(sent, "a", IDLE, NOW) == (sent,)
    assert (len(queue), gate.held_bytes(BUSY), gate.backlog_seconds(BUSY)) == (1, 2000, 2.0)


def test_backlog_is_shared_by_the_workers() -> None:
    """Two workers halve the time until all work is done."""
    gate, _, _ = admittance()
    gate.admit(job(seconds=3.0), "a", IDLE, NOW)

    assert gate.backlog_seconds(replace(BUSY, workers=2)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("batch", "items", "pieces"),
    [(Limit(8.0, 8000), 8, 1), (Limit(2.0, 8000), 8, 4), (Limit(80.0, 250), 8, 4), (Limit(0.1, 8000), 3, 3)],
    ids=["small", "long", "large", "few matrices"],
)
def test_large_job_is_divided(batch: Limit, items: int, pieces: int) -> None:
    """Pieces take an eighth of a batch's seconds and fit its bytes, and have one matrix at least."""
    gate, queue, _ = admittance(batch)
    jobs = gate.admit(job(items=items), "a", IDLE, NOW)

    assert (len(jobs), len(queue)) == (pieces, pieces)
    assert sum(piece.batch.items for piece in jobs) == items
    assert {piece.is_piece for piece in jobs} == {pieces > 1}


@pytest.mark.parametrize(
    ("remaining", "words"), [(-1.0, "had passed"), (0.0, "had passed"), (0.5, "are ahead"), (1.0, "are ahead")]
)
def test_hopeless_deadline_is_refused(remaining: float, words: str) -> None:
    """A call is refused if its deadline is over, or not behind the work ahead."""
    gate, queue, statistics = admittance()
    error = refusal(gate, job(deadline=NOW + remaining))

    assert (error.code, error.retry_after) == ("deadline_exceeded", None)
    assert words in error.detail
    assert (len(queue), statistics.dropped_deadline) == (0, 1)


def test_deadline_behind_the_work_ahead_is_admitted() -> None:
    """A call whose deadline is later than the work ahead of it is queued."""
    gate, queue, _ = admittance()
    gate.admit(job(deadline=NOW + 1.01), "a", BUSY, NOW)

    assert len(queue) == 1


def test_job_beyond_the_bound_is_too_large() -> None:
    """A job that the empty queue could not hold is told to be smaller, not to come back."""
    gate, _, statistics = admittance()
    error = refusal(gate, job(size=8001), device=IDLE)

    assert (error.code, error.retry_after, statistics.dropped_busy) == ("too_large", None, 0)
    assert len(gate.reservations[""]) == 0


def test_first_job_may_be_longer_than_the_bound() -> None:
    """Predicted time alone refuses no job while nothing waits."""
    gate, queue, _ = admittance()
    gate.admit(job(seconds=100.0), "a", IDLE, NOW)

    assert len(queue) == 1


@pytest.mark.parametrize(
    ("refused", "device"),
    [(job(seconds=2.0), replace(BUSY, bytes=0)), (job(seconds=0.0, size=2000), BUSY)],
    ids=["seconds", "bytes"],
)
def test_full_queue_refuses_and_reserves(refused: Job, device: Occupancy) -> None:
    """A job beyond the bound in seconds or bytes gets a time to come back, and room reserved from then on."""
    gate, queue, statistics = admittance()
    filled(gate, [job() for _ in range(7)])
    error = refusal(gate, refused, "late", device)

    assert (error.code, statistics.dropped_busy, len(queue)) == ("busy", 1, 7)
    assert (error.retry_after or 0.0) > 0.0
    assert gate.reservations[""].ahead == Limit(refused.seconds, refused.bytes)


def test_refused_callers_get_later_and_later_times() -> None:
    """Each refusal is behind the one before by the work of that one."""
    gate, _, _ = admittance()
    filled(gate, [job() for _ in range(7)])
    waits = [refusal(gate, job(size=1001), f"late-{number}").retry_after or 0.0 for number in range(5)]
    steps = [later - earlier for earlier, later in pairwise(waits)]

    assert min(steps) > 0.0
    assert steps == pytest.approx([steps[0]] * 4)


def test_wait_follows_the_cost_ratio() -> None:
    """Where work takes twice the predicted time, callers are told to wait twice as long."""
    waits = []
    for ratio in (1.0, 2.0):
        gate, _, _ = admittance()
        filled(gate, [job() for _ in range(7)])
        waits.append(refusal(gate, job(size=1001), device=replace(BUSY, cost_ratio=ratio)).retry_after or 0.0)

    assert waits[1] - 0.001 == pytest.approx(2 * (waits[0] - 0.001))


def test_reservation_opens_the_second_half_of_the_queue() -> None:
    """While a caller is expected, a newcomer finds half of the queue, and the expected caller all of it."""
    gate, queue, _ = admittance()
    filled(gate, [job() for _ in range(7)])
    wait = refusal(gate, job(size=1001), "expected").retry_after or 0.0
    for _ in range(3):
        queue.next_batch(NOW, Limit(0.0, 0))

    assert refusal(gate, job(), "newcomer", now=NOW + wait).code == "busy"
    gate.admit(job(size=1001), "expected", BUSY, NOW + wait)


def test_caller_that_never_comes_frees_the_queue() -> None:
    """Once a reservation is overdue, newcomers find all of the queue."""
    gate, queue, _ = admittance()
    filled(gate, [job() for _ in range(7)])
    wait = refusal(gate, job(size=1001), "expected").retry_after or 0.0
    for _ in range(3):
        queue.next_batch(NOW, Limit(0.0, 0))
    gate.admit(job(), "newcomer", BUSY, NOW + wait + 1.1)

    assert len(gate.reservations[""]) == 0


@given(st.lists(st.tuples(st.floats(0.01, 5.0), st.integers(1, 9000), st.sampled_from("abcd")), max_size=30))
def test_bound_holds(arrivals: list[tuple[float, int, str]]) -> None:
    """The bytes that wait or run, and the seconds of all jobs but a first one, stay within the bound."""
    gate, queue, _ = admittance()
    for at, (seconds, size, caller) in enumerate(arrivals):
        waited = len(queue)
        try:
            gate.admit(job(seconds, size), caller, BUSY, NOW + at / 8)
        except Refusal:
            assert len(queue) == waited
        else:
            assert not waited or queue.seconds <= BOUND.seconds
        assert queue.bytes == 0 or gate.held_bytes(BUSY) <= BOUND.bytes


@pytest.mark.parametrize("seconds", [100.0, 900.0, 80000.0])
def test_wait_is_a_minute_at_most(seconds: float) -> None:
    """A caller behind hours of work is told to come back in a minute, and that there may be no room then."""
    gate, queue, _ = admittance()
    gate.admit(job(seconds=seconds), "a", IDLE, NOW)
    error = refusal(gate, job())

    assert error.retry_after == 60.0
    assert "there may be room in about" in error.detail
    queue.next_batch(NOW, Limit(0.0, 0))
    gate.admit(job(), "a", IDLE, NOW + 60.0)


def test_flood_of_another_tenant_takes_no_room() -> None:
    """A tenant whose calls fill the queue's seconds is refused, another one is admitted, with its deadline."""
    gate, queue, _ = admittance()
    for _ in range(2):
        for flood in [job(size=1)] * 4:
            gate.admit(replace(flood, tenant="flood"), "a", IDLE, NOW)
    assert refusal(gate, replace(job(size=1), tenant="flood"), device=BUSY).code == "busy"

    gate.admit(replace(job(size=1, deadline=NOW + 2.5), tenant="small"), "b", BUSY, NOW)
    assert len(queue) == 9
