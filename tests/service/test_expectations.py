"""Tenants are expected for a moment after their answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.expectations import Expectations

WHEN = 100.0


@given(st.floats(0, 0.004))
def test_tenant_is_expected_after_its_answer(later: float) -> None:
    """Others leave room for a tenant shortly after its answer; for itself it need not."""
    expectations = Expectations()
    expectations.answered(["a"], WHEN)

    assert expectations.until("b", WHEN + later) == pytest.approx(WHEN + 0.005)
    assert expectations.until("a", WHEN + later) is None


@given(st.floats(0.006, 10))
def test_nobody_is_expected_for_long(later: float) -> None:
    """A tenant that sends nothing after its answer is not waited for."""
    expectations = Expectations()
    expectations.answered(["a", "b"], WHEN)

    assert expectations.until("c", WHEN + later) is None


def test_the_last_answer_counts() -> None:
    """Of several tenants, the one that was answered last is expected longest."""
    expectations = Expectations()
    expectations.answered(["a"], WHEN)
    expectations.answered(["b"], WHEN + 0.003)

    assert expectations.until("c", WHEN + 0.004) == pytest.approx(WHEN + 0.008)
    assert expectations.until("b", WHEN + 0.004) == pytest.approx(WHEN + 0.005)
