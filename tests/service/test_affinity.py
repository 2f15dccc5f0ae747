"""Calls of one key meet at one replica, and no replica's queue grows much longer than the others'."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.affinity import Placements, preferred

KEY, OTHER = "inv_root:float32:64x64", "msign:float32:64x64"
QUEUES = st.dictionaries(st.text(min_size=1), st.integers(0, 1000), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("queues", "alike", "expected"),
    [
        ({"a": 3, "b": 2}, {"a": 1}, "a"),
        ({"a": 3, "b": 2}, {}, "b"),
        ({"a": 3, "b": 2, "c": 3}, {"a": 1, "c": 2}, "c"),
        ({"a": 3, "b": 2, "c": 3}, {"a": 1, "b": 1}, "b"),
        ({"a": 9, "b": 2}, {"a": 9}, "b"),
        ({"a": 0, "b": 0}, {"gone": 5, "b": 1}, "b"),
    ],
    ids=[
        "calls of its key",
        "the shorter queue",
        "the most calls of its key",
        "equal numbers",
        "too long a queue",
        "a replica gone",
    ],
)
def test_preference(queues: dict[str, int], alike: dict[str, int], expected: str) -> None:
    """The replica with the most calls of the key is preferred within the bound, then the shorter queue."""
    assert preferred(queues, alike, 1.5) == expected


@given(QUEUES, st.dictionaries(st.text(min_size=1), st.integers(1, 9)), st.floats(1.0, 10.0))
def test_bound_is_held(queues: dict[str, int], alike: dict[str, int], slack: float) -> None:
    """There is always a replica, and its queue with this call is no longer than its share times the slack."""
    length = queues[preferred(queues, alike, slack)]

    assert length + 1 <= math.ceil(slack * (sum(queues.values()) + 1) / len(queues))


@pytest.mark.parametrize("slack", [1.0, 1.25, 2.0])
def test_hot_key_spreads(slack: float) -> None:
    """A hundred calls of one key wait at as many replicas as the bound asks for."""
    queues = Counter(dict.fromkeys("abcde", 0))
    for _ in range(100):
        queues[preferred(queues, queues, slack)] += 1

    assert max(queues.values()) <= math.ceil(100 * slack / 5)
    assert sum(length > 0 for length in queues.values()) >= 5 / slack


def test_placements_know_what_is_under_way() -> None:
    """Calls count under their key where they went last, until they end."""
    placements = Placements(lambda: 0.0, 10.0)
    for request, key, replica in [
        ("1", KEY, "a"),
        ("2", KEY, "b"),
        ("3", OTHER, "a"),
        ("4", KEY, "a"),
        ("2", KEY, "a"),
    ]:
        placements.add(request, key, replica)
    placements.remove("1")
    placements.remove("never placed")

    assert placements.alike(KEY) == {"a": 2}
    assert placements.alike(OTHER) == {"a": 1}


def test_old_placements_are_forgotten() -> None:
    """A call whose end was never reported is forgotten after a while."""
    now = [0.0]
    placements = Placements(lambda: now[0], 10.0)
    placements.add("1", KEY, "a")
    now[0] = 6.0
    placements.add("2", KEY, "b")
    now[0] = 12.0

    assert placements.alike(KEY) == {"b": 1}
