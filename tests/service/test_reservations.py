"""Who was refused finds its place when it comes back as told, and is expected no longer than that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.cost_ratio import CostRatio
from matfn_service.queue import Limit
from matfn_service.reservations import Reservations

GRACE = 1.0
WORK = Limit(0.5, 100)
WIDE = Limit(100.0, 10**6)


@pytest.mark.parametrize(("comes", "is_kept"), [(9.9, False), (10.0, True), (11.0, True), (11.1, False)])
def test_reservation_is_kept_from_its_time_for_the_grace(comes: float, is_kept: bool) -> None:
    """Who comes early or late has no place; who comes when told has one."""
    reservations = Reservations(GRACE, 8, WIDE)
    reservations.reserve("a", 10.0, WORK)

    assert reservations.claim("a", comes) is is_kept


def test_reservation_is_kept_once_and_to_its_caller_only() -> None:
    """Another caller does not get the place, and the same one not twice."""
    reservations = Reservations(GRACE, 8, WIDE)
    reservations.reserve("a", 10.0, WORK)

    assert [reservations.claim(name, 10.5) for name in ("b", "a", "a")] == [False, True, False]


def test_reserved_work_is_ahead_until_claimed_or_overdue() -> None:
    """It counts from the refusal on, and no longer than the grace after its time."""
    reservations = Reservations(GRACE, 8, WIDE)
    for name, due in [("a", 10.0), ("b", 11.0), ("c", 12.0)]:
        reservations.reserve(name, due, WORK)
    reservations.claim("b", 11.0)
    reservations.expire(11.5)

    assert (len(reservations), reservations.ahead) == (1, WORK)


def test_second_refusal_replaces_the_first() -> None:
    """A caller is expected once, at the last time that it was told."""
    reservations = Reservations(GRACE, 8, WIDE)
    reservations.reserve("a", 10.0, WORK)
    reservations.reserve("a", 20.0, WORK)

    assert reservations.ahead == WORK
    assert reservations.claim("a", 20.0)


@given(
    st.lists(
        st.tuples(st.sampled_from("pce"), st.sampled_from("abcdef"), st.floats(0, 10), st.integers(0, 9)), max_size=60
    )
)
def test_what_is_ahead_is_what_is_expected(events: list[tuple[str, str, float, int]]) -> None:
    """Whatever comes in whatever order, nothing is left over, and no more callers are remembered than may be."""
    reservations = Reservations(GRACE, 4, WIDE)
    for kind, name, at, size in events:
        if kind == "p":
            reservations.reserve(name, at, Limit(size / 8, size))
        elif kind == "c":
            reservations.claim(name, at)
        else:
            reservations.expire(at)
        assert len(reservations) <= 4
    reservations.expire(100.0)

    assert (len(reservations), reservations.ahead) == (0, Limit(0.0, 0))


@pytest.mark.parametrize("horizon", [Limit(1.2, 10**6), Limit(100.0, 250)])
def test_reserved_work_is_bounded(horizon: Limit) -> None:
    """Beyond the horizon nobody is remembered, so that who never comes back cannot put off the others for long."""
    reservations = Reservations(GRACE, 8, horizon)
    for name in "abcd":
        reservations.reserve(name, 10.0, WORK)

    assert len(reservations) == 2
    assert not reservations.claim("c", 10.0)


def test_cost_ratio_follows_what_batches_take() -> None:
    """It is 1 at first, the ratio of the sums after, and forgets what was long ago."""
    ratio = CostRatio()
    before = ratio.value
    ratio.count(1.0, 2.0)
    for _ in range(200):
        ratio.count(1.0, 3.0)

    assert before == 1.0
    assert ratio.value == pytest.approx(3.0)


def test_short_batches_hardly_move_the_cost_ratio() -> None:
    """What a launch costs shows in a lone small matrix, not in a full queue."""
    ratio = CostRatio()
    ratio.count(1.0, 1.0)
    ratio.count(1e-6, 1e-3)

    assert ratio.value == pytest.approx(1.0, rel=2e-3)
