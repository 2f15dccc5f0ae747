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

    assert len(queue._all) + len(queue._deadlines) + len(queue._keys) < 300
    assert len(queue) == 1


def test_batches_are_bounded_in_jobs_and_matrices() -> None:
    """However little they take, a batch has at most so many jobs and, of several jobs, so many matrices."""
    tiny = [Job(seconds=0.0, bytes=0) for _ in range(MOST_JOBS + 1)]
    halves = [Job(seconds=0.0, bytes=0, items=MOST_ITEMS // 2) for _ in range(3)]

    assert [len(batch) for batch in drained(queue_of(*tiny))] == [MOST_JOBS, 1]
    assert [len(batch) for batch in drained(queue_of(*halves))] == [2, 1]
