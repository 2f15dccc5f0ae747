"""The queue as a pure structure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.queue import MOST_ITEMS, MOST_JOBS, PRIORITIES, KeyedQueue, Limit

AGING = 10.0
BOUND = Limit(seconds=20.0, bytes=1000)
WIDE = Limit(seconds=math.inf, bytes=10**9)


@dataclass(frozen=True, eq=False)
class Job:
    """Something to wait."""

    key: str = "p"
    seconds: float = 1.0
    bytes: int = 10
    items: int = 1
    priority: int = 0
    arrived: float = 0.0
    deadline: float = math.inf
    tenant: str = ""


jobs = st.builds(
    Job,
    key=st.sampled_from("abc"),
    seconds=st.floats(0, 5),
    bytes=st.integers(0, 400),
    priority=st.integers(0, 9),
    deadline=st.one_of(st.just(math.inf), st.integers(0, 10**5).map(lambda milliseconds: milliseconds / 1000)),
)


def queue_of(*waiting: Job, bound: Limit = WIDE) -> KeyedQueue[Job]:
    """A queue that holds these jobs."""
    queue: KeyedQueue[Job] = KeyedQueue(bound, AGING)
    for job in waiting:
        assert queue.push(job)
    return queue


def drained(queue: KeyedQueue[Job], limit: Limit = WIDE) -> list[list[Job]]:
    """All batches until nothing waits."""
    batches = []
    while len(queue):
        batches.append(queue.next_batch(-math.inf, limit))
    return batches


@given(st.lists(jobs, max_size=40))
def test_bound_is_never_exceeded(offered: list[Job]) -> None:
    """Whatever is offered, what waits stays within the bound and the sums are those of what waits."""
    queue: KeyedQueue[Job] = KeyedQueue(BOUND, AGING)
    taken = [job for job in offered if queue.push(job)]

    assert queue.bytes == sum(job.bytes for job in taken) <= BOUND.bytes
    assert queue.seconds == pytest.approx(sum(job.seconds for job in taken))
    assert queue.seconds <= BOUND.seconds or len(taken) == 1


@given(st.lists(jobs, max_size=40), st.data())
def test_every_job_leaves_once(offered: list[Job], data: st.DataObject) -> None:
    """What goes in comes out exactly once: in a batch, expired or discarded; and an empty queue weighs nothing."""
    queue = queue_of(*offered)
    discarded = [job for job in offered if data.draw(st.booleans()) and queue.discard(job)]
    expired = queue.expire(50.0)
    batched = [job for batch in drained(queue, Limit(3.0, 500)) for job in batch]

    assert sorted(map(id, [*discarded, *expired, *batched])) == sorted(map(id, offered))
    assert all((job.deadline <= 50.0) == (job in expired) for job in offered if job not in discarded)
    assert (queue.bytes, queue.seconds, len(queue)) == (0, 0.0, 0)


@given(st.lists(jobs, min_size=1, max_size=40), st.floats(0.1, 6), st.integers(1, 600))
def test_batches_share_a_key_within_the_limit(offered: list[Job], seconds: float, size: int) -> None:
    """A batch has one key and stays within the limit, unless a single job exceeds it."""
    for batch in drained(queue_of(*offered), Limit(seconds, size)):
        assert len({job.key for job in batch}) == 1
        fits = sum(job.seconds for job in batch) <= seconds and sum(job.bytes for job in batch) <= size
        assert fits or len(batch) == 1


@given(st.lists(jobs, max_size=40))
def test_order_within_a_key(offered: list[Job]) -> None:
    """Jobs that come together leave by priority, then earliest deadline, then oldest."""
    order = {job: number for number, job in enumerate(offered)}
    batches = drained(queue_of(*offered))

    for batch in batches:
        assert batch == sorted(batch, key=lambda job: (-job.priority, min(job.deadline, AGING / 2), order[job]))


def test_first_due_key_goes_first() -> None:
    """Of two keys, that of the job with the earlier deadline is next, even if the other is older."""
    patient, urgent = Job("a"), Job("b", deadline=1.0)
    queue = queue_of(patient, urgent)

    assert queue.next_batch(0.0, WIDE) == [urgent]
    assert queue.next_batch(0.0, WIDE) == [patient]


def test_first_short_job_is_found() -> None:
    """Of what is short and urgent enough, the key of the job due first is named; nothing leaves the queue."""
    queue = queue_of(Job("a", 5.0), Job("b", 0.1), Job("c", 0.1, priority=3), Job("c", 0.1))
    found = [queue.first_short(seconds, priority) for seconds, priority in [(1.0, 0), (1.0, 4), (0.1, 0), (9.0, 1)]]

    assert [job and job.key for job in found] == ["c", None, None, "c"]
    assert len(queue) == 4


def test_lone_job_beyond_the_limit_goes_alone() -> None:
    """A job larger than any batch is not refused, it runs by itself."""
    large, small = Job(bytes=500), Job(bytes=1)

    assert drained(queue_of(large, small), Limit(9.0, 100)) == [[large], [small]]


@given(st.integers(0, 9), st.floats(0.1, 5))
def test_nothing_starves(priority: int, deadline: float) -> None:
    """Whatever comes later than 9 agings and the patience waits behind, however urgent."""
    old = Job("old")
    late = PRIORITIES * AGING
    newcomer = Job("new", priority=priority, arrived=late, deadline=late + deadline)

    assert queue_of(newcomer, old).next_batch(late, WIDE) == [old]


def test_group_enters_whole_or_not_at_all() -> None:
    """Pieces of one call are all taken in or all refused."""
    queue = queue_of(Job(bytes=800), bound=BOUND)

    assert not queue.push(Job(bytes=150), Job(bytes=150))
    assert len(queue) == 1
    assert queue.push(Job(bytes=100), Job(bytes=100))


def test_seconds_ahead_counts_higher_priorities() -> None:
    """What is ahead of a call is what waits at its priority or above."""
    queue = queue_of(Job(seconds=1.0, priority=0), Job(seconds=2.0, priority=5), Job(seconds=4.0, priority=9))

    assert [queue.seconds_ahead(priority) for priority in (0, 1, 6)] == [7.0, 6.0, 4.0]


def test_discarded_jobs_are_let_go() -> None:
    """Many callers who leave do not make the queue grow."""
    queue = queue_of(Job("kept"))
    for number in range(1000):
        job = Job(f"p{number}", deadline=5.0)
        queue.push(job)
        queue.discard(job)

    tenant = queue._tenants[""]
    assert len(tenant.all) + len(queue._deadlines) + len(tenant.keys) < 300
    assert len(queue) == 1


def test_batches_are_bounded_in_jobs_and_matrices() -> None:
    """However little they take, a batch has at most so many jobs and, of several jobs, so many matrices."""
    tiny = [Job(seconds=0.0, bytes=0) for _ in range(MOST_JOBS + 1)]
    halves = [Job(seconds=0.0, bytes=0, items=MOST_ITEMS // 2) for _ in range(3)]

    assert [len(batch) for batch in drained(queue_of(*tiny))] == [MOST_JOBS, 1]
    assert [len(batch) for batch in drained(queue_of(*halves))] == [2, 1]


WEIGHTS = {"a": 1.0, "b": 2.0, "c": 5.0}
loads = st.lists(st.builds(Job, seconds=st.floats(0.01, 3), tenant=st.sampled_from("abc")), min_size=1, max_size=60)


def fair_queue_of(*waiting: Job, bound: Limit = WIDE) -> KeyedQueue[Job]:
    """A queue of weighted tenants that holds these jobs."""
    queue: KeyedQueue[Job] = KeyedQueue(bound, AGING, WEIGHTS.__getitem__)
    for job in waiting:
        assert queue.push(job)
    return queue


@given(loads, st.floats(0.1, 4))
def test_tenants_share_by_weight(offered: list[Job], seconds: float) -> None:
    """While two tenants wait, what they were given over their weights differs by no more than a job of each."""
    queue = fair_queue_of(*offered)
    given_to, remaining = (
        dict.fromkeys(WEIGHTS, 0.0),
        {name: sum(j.tenant == name for j in offered) for name in WEIGHTS},
    )
    longest = {name: max([j.seconds for j in offered if j.tenant == name], default=0.0) for name in WEIGHTS}
    while len(queue):
        waiting = [name for name in WEIGHTS if remaining[name]]
        for one in waiting:
            for other in waiting:
                ahead = given_to[one] / WEIGHTS[one] - given_to[other] / WEIGHTS[other]
                assert ahead <= longest[one] / WEIGHTS[one] + longest[other] / WEIGHTS[other] + 1e-9
        for job in queue.next_batch(0.0, Limit(seconds, 10**9)):
            given_to[job.tenant] += job.seconds
            remaining[job.tenant] -= 1


@given(st.integers(1, 50), st.integers(0, 9))
def test_a_flood_delays_another_tenant_by_one_batch(number: int, priority: int) -> None:
    """A newcomer's job is next, however many jobs of another tenant came before it and at whatever priority."""
    queue = fair_queue_of(*[Job(tenant="a", priority=priority) for _ in range(number)])
    queue.next_batch(0.0, Limit(1.0, 100))
    small = Job("small", seconds=0.01, tenant="b")
    queue.push(small)

    assert queue.next_batch(0.0, Limit(1.0, 100)) == [small]


def test_idle_tenants_save_nothing_up() -> None:
    """A tenant that had nothing to do for long does not take the device from the others afterwards."""
    queue = fair_queue_of(*[Job(tenant="a") for _ in range(100)])
    for _ in range(50):
        queue.next_batch(0.0, Limit(1.0, 10))
    for _ in range(50):
        queue.push(Job("late", tenant="b"))
    served = [queue.next_batch(0.0, Limit(1.0, 10))[0].tenant for _ in range(30)]

    assert served.count("b") == pytest.approx(20, abs=1)


def test_seconds_beyond_the_prediction_are_charged() -> None:
    """A tenant whose work took longer than predicted waits for the others accordingly."""
    queue = fair_queue_of(*[Job(tenant=name) for name in "ab" for _ in range(20)])
    queue.charge("a", 10.0)

    assert [queue.next_batch(0.0, Limit(1.0, 10))[0].tenant for _ in range(20)] == ["b"] * 20


def test_an_tenant_fills_its_share_only() -> None:
    """Seconds of one tenant take no room from another, and where both wait each has its share."""
    queue = fair_queue_of(*[Job(tenant="a", bytes=1) for _ in range(20)], bound=BOUND)

    assert not queue.has_room("a", 1.0, 1)
    assert all(queue.push(Job(tenant="b", bytes=1)) for _ in range(13))
    assert not queue.has_room("b", 1.0, 1)
    assert [queue.share(name) for name in "ab"] == pytest.approx([1 / 3, 2 / 3])


def test_work_ahead_is_that_of_the_tenant_at_its_share() -> None:
    """A flood of another tenant is ahead of a call only as far as both share the device."""
    queue = fair_queue_of(*[Job(tenant="a") for _ in range(50)], Job(tenant="b"))

    assert queue.seconds_ahead(0, "c") == 0.0
    assert queue.seconds_ahead(0, "b") == pytest.approx(1.5)
    assert queue.seconds_ahead(0, "a") == pytest.approx(51.0)


def test_batch_takes_jobs_of_all_tenants_in_turn() -> None:
    """Jobs of one key share a batch whoever sent them, and each tenant has its turn in it."""
    queue = fair_queue_of(*[Job(tenant=name) for name in "ab" for _ in range(9)])
    taken = queue.next_batch(0.0, Limit(6.0, 1000))

    assert sorted(job.tenant for job in taken) == ["a", "a", "b", "b", "b", "b"]


def test_batch_is_sized_by_present_prices() -> None:
    """What jobs were predicted to take when they came does not size a batch where other prices are given."""
    queue = queue_of(*[Job(seconds=seconds) for seconds in (0.001, 1000.0, 0.001, 1.0)])

    assert len(queue.next_batch(0.0, Limit(3.0, 1000), seconds_of=lambda job: 1.0)) == 3  # noqa: ARG005


@pytest.mark.parametrize(("now", "order"), [(None, ["head", "rest", "next"]), (3.0, ["head", "next", "rest"])])
def test_replaced_job_keeps_its_place_or_goes_to_the_end(now: float | None, order: list[str]) -> None:
    """Pieces wait where their job did; with a time, those after the first wait behind what came before it."""
    whole = Job("whole", seconds=4.0)
    queue = queue_of(whole, Job("next", arrived=1.0))
    queue.replace(whole, (Job("head"), Job("rest", seconds=3.0)), now)

    assert [batch[0].key for batch in drained(queue)] == order
    assert not queue.discard(whole)
