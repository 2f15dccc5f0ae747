"""Limits of tenants: requests and bytes in flight, device seconds a minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.allowances import Allowances
from matfn_service.problems import Refusal
from matfn_service.tenants import Tenant

BOUND = 1000


def refusal(allowances: Allowances, name: str = "a", size: int = 1, now: float = 0.0) -> Refusal:
    """The refusal of a call."""
    with pytest.raises(Refusal) as caught:
        allowances.check(name, size, now)
    return caught.value


def test_tenants_without_limits_are_never_refused() -> None:
    """Without a key, and with one that has no limits, everything is allowed."""
    allowances = Allowances([Tenant("a")], BOUND)
    for name in ("", "a"):
        for _ in range(100):
            allowances.enter(name)
            allowances.check(name, 10**6, 0.0)
            allowances.take(name, 10**6, 10**6)


def test_requests_in_flight_are_limited() -> None:
    """The refusal names the key, the limit and the setting; a request that ends makes room."""
    allowances = Allowances([Tenant("a", requests=2), Tenant("b")], BOUND)
    allowances.enter("a")
    allowances.enter("a")
    with pytest.raises(Refusal) as caught:
        allowances.enter("a")
    allowances.enter("b")
    allowances.leave("a")
    allowances.enter("a")

    assert caught.value.code == "busy"
    assert caught.value.detail == "the API key a has 2 requests in flight, as many as it may (requests=2)"
    assert [use.refused for use in allowances] == [1, 0]


def test_bytes_in_flight_are_limited() -> None:
    """Bytes beyond the limit are refused for now, a call that exceeds it alone for good."""
    allowances = Allowances([Tenant("a", bytes=100)], BOUND)
    allowances.check("a", 60, 0.0)
    allowances.take("a", 60, 0.0)

    assert (refusal(allowances, size=41).code, refusal(allowances, size=101).code) == ("busy", "too_large")
    assert "bytes=100" in refusal(allowances, size=41).detail
    allowances.check("a", 40, 0.0)
    allowances.release("a", 60)
    allowances.check("a", 100, 0.0)


def test_one_of_several_tenants_leaves_memory_to_the_others() -> None:
    """Beyond three quarters of the bound only the first call of a tenant is allowed; a tenant alone has it all."""
    several, alone = Allowances([Tenant("a"), Tenant("b")], BOUND), Allowances([Tenant("a")], BOUND)
    for allowances in (several, alone):
        allowances.check("a", 700, 0.0)
        allowances.take("a", 700, 0.0)

    assert "for other keys" in refusal(several, size=51).detail
    several.check("a", 50, 0.0)
    several.check("b", 900, 0.0)
    alone.check("a", 300, 0.0)


def test_seconds_come_back_with_time() -> None:
    """A minute's worth may be used at once; then the wait is as long as the debt takes to come back."""
    allowances = Allowances([Tenant("a", seconds=30.0)], BOUND)
    allowances.check("a", 1, 0.0)
    allowances.take("a", 1, 40.0)
    refused = refusal(allowances)

    assert refused.retry_after == pytest.approx(21.0)
    assert "seconds=30" in refused.detail
    refusal(allowances, now=20.0)
    allowances.check("a", 1, 20.1)


def test_seconds_are_charged_as_they_were_taken() -> None:
    """What a call took beyond its prediction counts, and what it did not take is given back."""
    allowances = Allowances([Tenant("a", seconds=30.0)], BOUND)
    allowances.check("a", 1, 0.0)
    allowances.take("a", 1, 40.0)
    allowances.charge("a", -39.0)
    allowances.check("a", 1, 0.0)
    allowances.charge("a", 1000.0)

    assert refusal(allowances).retry_after == 60.0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=60))
def test_seconds_taken_stay_near_the_rate(calls: list[tuple[float, float]]) -> None:
    """Over any time, a tenant takes no more than a minute's worth, what came back, and its last call."""
    allowances, now, taken = Allowances([Tenant("a", seconds=60.0)], BOUND), 0.0, 0.0
    for pause, seconds in calls:
        now += pause
        try:
            allowances.check("a", 1, now)
        except Refusal:
            continue
        allowances.take("a", 0, seconds)
        taken += seconds
        assert taken <= 60.0 + now + seconds + 1e-6


@given(st.lists(st.integers(1, 400), max_size=40), st.integers(1, 400))
def test_bytes_never_exceed_the_limit(sizes: list[int], most: int) -> None:
    """Whatever is offered, what is in flight stays within the limit, and everything released leaves nothing."""
    allowances, held = Allowances([Tenant("a", bytes=most)], BOUND), []
    for size in sizes:
        try:
            allowances.check("a", size, 0.0)
        except Refusal:
            continue
        allowances.take("a", size, 0.0)
        held.append(size)
        assert sum(held) <= most
    for size in held:
        allowances.release("a", size)

    assert [use.bytes for use in allowances] == [0]


def test_renewed_limits_count_what_is_in_flight() -> None:
    """New limits of a key hold at once for the requests that it has; a key that is gone ends its requests quietly."""
    allowances = Allowances([Tenant("a"), Tenant("gone")], BOUND)
    for name in ("a", "gone"):
        allowances.enter(name)
    allowances.renew([Tenant("a", requests=1)])
    with pytest.raises(Refusal):
        allowances.enter("a")
    for name in ("a", "gone"):
        allowances.leave(name)
    allowances.enter("a")

    assert [use.requests for use in allowances] == [1]
