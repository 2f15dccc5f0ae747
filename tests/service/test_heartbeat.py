"""Verdicts on fronts, by what the system says of them in looks a second apart."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from matfn_service.fronts import heartbeat
from matfn_service.fronts.heartbeat import Heartbeat
from matfn_service.pulse import Look, Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVING, STARTING = 10, 60
HOUR = 3600


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[Look]], None]:
    """Makes the system say this of every process, look by look."""

    def script(looks: Iterator[Look]) -> None:
        monkeypatch.setattr(heartbeat, "look_at", lambda _: next(looks))

    return script


def looks(state: str, share: float) -> Iterator[Look]:
    """A process in one state, with a share of a processor."""
    ticks = os.sysconf("SC_CLK_TCK")
    return (Look(state, int(share * ticks * second)) for second in range(HOUR))


def silent(watched: Heartbeat) -> tuple[int, Loss | None]:
    """How many looks at a front that does not beat find nothing, in an hour, and what the next one finds."""
    for number in range(HOUR):
        if (verdict := watched.look(1)) is not None:
            return number, verdict
    return HOUR, None


@pytest.mark.parametrize(
    ("state", "share", "patience"),
    [("S", 0.0, SERVING), ("S", 1.0, SERVING), ("R", 1.0, SERVING), ("R", 0.0, 10 * SERVING), ("D", 0.0, 10 * SERVING)],
)
@pytest.mark.parametrize("has_begun", [True, False])
def test_front_without_beats_hangs(
    seen: Callable[[Iterator[Look]], None], state: str, share: float, patience: int, has_begun: bool
) -> None:
    """After ten looks, sixty before its first beat, and ten times as many where it lacks a processor or a disk."""
    seen(looks(state, share))
    watched = Heartbeat()
    if has_begun:
        watched.beat()

    assert silent(watched) == (patience if has_begun else patience * STARTING // SERVING, Loss.HUNG)


def test_beat_between_looks_is_enough(seen: Callable[[Iterator[Look]], None]) -> None:
    """However much of a processor the front takes, or how long the server did not look."""
    seen(looks("R", 1.0))
    watched = Heartbeat()

    for _ in range(HOUR):
        watched.beat()
        assert watched.look(1) is None


@pytest.mark.parametrize("has_begun", [True, False])
def test_stopped_front_is_told_by_two_looks(seen: Callable[[Iterator[Look]], None], has_begun: bool) -> None:
    """One in a row is a moment that may pass."""
    states = iter("TSTTS")
    seen(Look(state, 0) for state in states)
    watched = Heartbeat()
    if has_begun:
        watched.beat()

    assert [watched.look(1) for _ in range(4)] == [None, None, None, Loss.STOPPED]
    assert watched.is_stopped


def test_process_of_which_the_system_says_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has ended, of which the pipe tells."""
    monkeypatch.setattr(heartbeat, "look_at", lambda _: None)

    assert silent(Heartbeat()) == (HOUR, None)
