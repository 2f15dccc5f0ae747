"""Corrections of prices: bounded, robust, and forgotten in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.corrections import HIGHEST, LOWEST, Corrections

seconds = st.floats(0, 1e6)


def measured(*quotients: float, predicted: float = 10.0) -> Corrections:
    """Corrections after batches of one key that took so many times what was predicted."""
    corrections = Corrections()
    for quotient in quotients:
        corrections.count("a", predicted, predicted * quotient)
    return corrections


def test_unmeasured_key_has_no_correction() -> None:
    """A key without a measured batch keeps its price."""
    assert measured(3.0).factor("b") == 1.0


@pytest.mark.parametrize("quotient", [1 / 50, 1 / 3, 1.0, 7.0, 400.0])
def test_correction_is_what_batches_took(quotient: float) -> None:
    """Batches that take the same multiple of their price have it as their correction, from the first one on."""
    for times in (1, 2, 9):
        assert measured(*[quotient] * times).factor("a") == pytest.approx(quotient, rel=0.02)


@given(st.lists(st.tuples(seconds, seconds), max_size=12))
def test_correction_is_bounded(batches: list[tuple[float, float]]) -> None:
    """No measurement, zero and a million included, takes a correction out of its bounds."""
    corrections = Corrections()
    for batch in batches:
        corrections.count("a", *batch)

    assert LOWEST <= corrections.factor("a") <= HIGHEST


@given(st.floats(0.1, 10), st.lists(st.floats(0, 1e6), max_size=2), st.integers(0, 3))
def test_odd_batches_move_nothing(usual: float, odd: list[float], place: int) -> None:
    """Two odd batches among five leave the correction at the usual quotient."""
    quotients = [usual] * (5 - len(odd))
    quotients[place % len(quotients) : 0] = odd

    assert measured(*quotients).factor("a") == pytest.approx(usual, rel=0.02)


@pytest.mark.parametrize("quotient", [20.0, 400.0])
def test_correction_holds_for_small_pieces(quotient: float) -> None:
    """Pieces so small that their price is far below a launch confirm the correction that made them small."""
    corrections = measured(quotient)
    for _ in range(9):
        corrections.count("a", 0.005 / quotient, 0.005)

    assert corrections.factor("a") == pytest.approx(quotient, rel=0.02)


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=40), st.floats(0.1, 100.0))
def test_highest_correction_remembers_the_worst(before: list[float], worst: float) -> None:
    """The highest correction covers every batch of the last ten to a fifth, and is never below the correction."""
    corrections = measured(*before, worst, *[0.1] * 10)

    assert corrections.highest("a") >= 0.8 * worst * 0.98
    assert corrections.highest("a") >= corrections.factor("a")
    assert corrections.highest("a") <= max(*before, worst) * 1.02


def test_highest_correction_fades() -> None:
    """One bad batch is forgotten after some hundred good ones."""
    assert measured(100.0, *[1.0] * 300).highest("a") == pytest.approx(1.0, rel=0.02)


def test_correction_follows_a_lasting_change() -> None:
    """After three batches of another quotient the correction is that one."""
    assert measured(1.0, 1.0, 1.0, 1.0, 1.0, 300.0, 300.0, 300.0).factor("a") == pytest.approx(300.0, rel=0.02)


def test_launch_of_small_batches_counts_little() -> None:
    """Single small matrices, whose launch takes longer than they do, leave the price of full batches as it is."""
    corrections = Corrections()
    for _ in range(9):
        corrections.count("a", 5e-6, 1e-4)

    assert corrections.factor("a") == pytest.approx(1.0, rel=0.1)


@given(st.lists(st.integers(0, 9), max_size=60))
def test_keys_are_bounded(keys: list[int]) -> None:
    """The keys measured last are kept, and no more than the bound."""
    corrections = Corrections(most=4)
    for key in keys:
        corrections.count(key, 1.0, 2.0)
    latest = list(dict.fromkeys(reversed(keys)))

    assert len(corrections) == min(4, len(latest))
    assert {key for key in range(10) if corrections.factor(key) != 1.0} == set(latest[:4])
