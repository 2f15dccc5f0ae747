"""The retry decision as a pure function."""

from __future__ import annotations

import pytest

from matfn.errors import (
    TABLE,
    MatfnError,
    Problem,
    ProtocolError,
    TransportError,
    TransportTimeout,
    problem_error,
)
from matfn.retry import RetryPolicy

POLICY = RetryPolicy(max_retries=4, first_s=0.1, cap_s=1.0, budget_s=10.0)
RESET = TransportError("reset")


def busy(retry_after_ms: float | None) -> MatfnError:
    """A server that asks to wait."""
    return problem_error(Problem("busy", "", 429, "", retry_after_ms=retry_after_ms))


@pytest.mark.parametrize(("attempt", "bound"), [(0, 0.1), (1, 0.2), (2, 0.4), (3, 0.8)])
def test_wait_has_full_jitter_under_a_doubling_bound(attempt: int, bound: float) -> None:
    """The wait is uniform between nothing and a bound that doubles."""
    waits = [POLICY.delay(attempt, RESET, 0.0, random) for random in (0.0, 0.5, 0.75)]

    assert waits == pytest.approx([0.0, bound / 2, bound * 0.75])


def test_bound_stops_doubling_at_the_cap() -> None:
    """However many attempts, the jitter stays below the cap."""
    patient = RetryPolicy(max_retries=100, cap_s=1.0)

    assert patient.delay(50, RESET, 0.0, 0.5) == pytest.approx(0.5)


def test_server_is_obeyed() -> None:
    """What the server asks for is waited in full, jitter comes on top."""
    assert POLICY.delay(0, busy(1500.0), 0.0, 0.5) == pytest.approx(1.55)


def test_last_attempt_is_the_last() -> None:
    """After max_retries retries the error stands."""
    assert POLICY.delay(3, RESET, 0.0, 0.0) is not None
    assert POLICY.delay(4, RESET, 0.0, 0.0) is None
    assert RetryPolicy(max_retries=0).delay(0, RESET, 0.0, 0.0) is None


def test_wait_beyond_the_budget_is_given_up() -> None:
    """A wait that would end after the budget is not begun."""
    assert POLICY.delay(0, busy(1000.0), 8.9, 0.0) == pytest.approx(1.0)
    assert POLICY.delay(0, busy(1000.0), 9.1, 0.0) is None


def test_deadline_shortens_the_budget() -> None:
    """A call whose answer is worthless after its deadline is not tried again after it."""
    hurried = POLICY.within(0.5)

    assert hurried.delay(0, RESET, 0.4, 0.5) == pytest.approx(0.05)
    assert hurried.delay(0, RESET, 0.5, 0.0) is None
    assert POLICY.within(None) is POLICY
    assert POLICY.within(99.0) is POLICY


@pytest.mark.parametrize("code", sorted(TABLE))
def test_only_passing_problems_are_tried_again(code: str) -> None:
    """Busy, draining, out of memory and internal may pass; everything else would be said again."""
    wait = POLICY.delay(0, problem_error(Problem.of(code, "")), 0.0, 0.0)

    assert (wait is not None) == (code in {"busy", "draining", "out_of_memory", "internal"})


@pytest.mark.parametrize(("error", "again"), [(RESET, True), (TransportTimeout(""), False), (ProtocolError(""), False)])
def test_transport_failures_are_tried_again_unless_the_server_may_be_at_work(error: MatfnError, again: bool) -> None:
    """A reset may pass; a timeout would double the server's work, another protocol would stay another."""
    assert (POLICY.delay(0, error, 0.0, 0.0) is not None) == again
