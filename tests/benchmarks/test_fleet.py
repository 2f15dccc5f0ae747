"""The simulation against what is known without it: queueing theory, accounts that must balance, the real router."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ceilings import ceilings, demand
from fleet import Fleet, Kind, Loop, Trace, View, by_key, shorter_of_two, simulate, uniform
from matfn_kernels.programs.profile import Profile
from matfn_service.affinity import preferred
from matfn_service.queue import Limit
from traffic import seconds_a_call, sorts, trace

if TYPE_CHECKING:
    from fleet import Outcome, Policy

SECONDS = 0.002
LAUNCH = 0.003
ALONE = Limit(seconds=0.0, bytes=0)
POLICIES = [uniform, shorter_of_two, by_key(1.0), by_key(1.25)]


def poisson(rate: float, calls: int, kinds: int = 1) -> Trace:
    """Calls that know nothing of each other, all of the same cost."""
    rng = np.random.default_rng(7)
    each = tuple(Kind(f"hint {kind}", kind, 1, SECONDS, 10, 100, 200) for kind in range(kinds))
    return Trace(each, np.cumsum(rng.exponential(1 / rate, calls)), rng.integers(0, kinds, calls))


@pytest.mark.parametrize(("load", "replicas"), [(0.3, 1), (0.7, 1), (0.7, 5)])
def test_calls_alone_wait_as_in_an_m_d_1_queue(load: float, replicas: int) -> None:
    """Where every call is computed alone, the mean wait is that of Pollaczek and Khinchine, at each replica."""
    sent = poisson(replicas * load / SECONDS, 60_000)

    found = simulate(sent, Fleet(replicas, limit=ALONE), uniform, seed=1)

    waited = float((found.finished - sent.times).mean()) - SECONDS
    assert waited == pytest.approx(SECONDS * load / (2 * (1 - load)), rel=0.05)


def test_batches_grow_until_launches_leave_room() -> None:
    """A device that could not launch for each call is always busy, with batches just large enough to keep up."""
    sent = poisson(0.9 / SECONDS, 30_000)
    rate = len(sent.times) / float(sent.times[-1])  # as it came out: the batches are sensitive to it

    found = simulate(sent, Fleet(1, launch=LAUNCH), uniform, seed=1)

    assert rate * (LAUNCH + SECONDS) > 1
    assert float(found.batches[:, 1].mean()) == pytest.approx(rate * LAUNCH / (1 - rate * SECONDS), rel=0.01)


@pytest.mark.parametrize(("devices", "fronts"), [(1, 0), (1, 2), (3, 0), (3, 2)])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_call_is_served_once(policy: Policy, devices: int, fronts: int) -> None:
    """What comes is computed once and answered no sooner than it can be; devices and loops do that work, no more."""
    fleet = Fleet(
        replicas=6,
        routers=2,
        devices=devices,
        launch=LAUNCH,
        limit=Limit(0.1, 1 << 20),
        parts=max(2, devices),
        loop=Loop(1e-4, 1e-7),
        fronts=fronts,
        front=Loop(2e-4, 2e-7),
        hop=1e-3,
        byte=1e-8,
    )
    sent = poisson(3 / SECONDS, 20_000, kinds=9)

    found = simulate(sent, fleet, policy, seed=1)

    loops = _seconds_a_call(fleet.loop)
    reading = _seconds_a_call(fleet.front) if fronts else 0.0
    least = SECONDS + LAUNCH + loops + reading + 2 * fleet.hop + 300 * fleet.byte
    assert float((found.finished - sent.times).min()) >= least - 1e-12
    assert found.batches[:, 1].sum() == len(sent.times)
    assert found.device_seconds.sum() == pytest.approx(len(found.batches) * LAUNCH + len(sent.times) * SECONDS)
    assert found.loop_seconds.sum() == pytest.approx(len(sent.times) * loops)
    assert len(found.front_seconds) == 6 * fronts
    assert found.front_seconds.sum() == pytest.approx(len(sent.times) * reading)


def _seconds_a_call(loop: Loop) -> float:
    """Of a request of 100 bytes and an answer of 200."""
    return loop.seconds(100) + loop.seconds(200)


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_calls_that_come_together_go_to_all_devices(devices: int) -> None:
    """Calls alone in their batches are done after as many rounds as the devices of one replica need."""
    calls = 23
    sent = Trace(poisson(1.0, 1).kinds, np.zeros(calls), np.zeros(calls, np.int64))

    found = simulate(sent, Fleet(1, devices=devices, limit=ALONE), uniform, seed=1)

    assert float(found.finished.max()) == pytest.approx(math.ceil(calls / devices) * SECONDS)


@pytest.mark.parametrize("fronts", [1, 4])
def test_fronts_feed_what_one_loop_could_not(fronts: int) -> None:
    """A loop that is asked for twice its time keeps up once a front has taken three quarters of its work over."""
    sent = poisson(0.5 / SECONDS, 4_000)
    whole, part = Loop(call=4 * SECONDS), Loop(call=SECONDS)

    alone = simulate(sent, Fleet(1, loop=whole), uniform, seed=1)
    behind = simulate(sent, Fleet(1, loop=part, fronts=fronts, front=part), uniform, seed=1)

    took = float(sent.times[-1])
    assert float(alone.finished.max()) == pytest.approx(2 * took, rel=0.05)
    assert float(behind.finished.max()) == pytest.approx(took, rel=0.02)


def test_batches_keep_to_keys_and_limits() -> None:
    """A batch has calls of one key, within the limit."""
    limit = Limit(seconds=4 * SECONDS, bytes=1 << 20)
    sent = poisson(0.9 / SECONDS, 5_000, kinds=3)

    found = simulate(sent, Fleet(1, launch=LAUNCH, limit=limit), uniform, seed=1)

    assert float(found.batches[:, 1].max()) == 4
    assert _runs_of_one_key(sent, found)


def _runs_of_one_key(sent: Trace, found: Outcome) -> bool:
    """Whether all calls answered at one moment are of one kind; without a loop's cost a batch is answered at once."""
    kind_at: dict[float, int] = {}
    return all(
        kind_at.setdefault(moment, kind) == kind
        for moment, kind in zip(found.finished.tolist(), sent.which.tolist(), strict=True)
    )


def test_same_seed_gives_same_answers() -> None:
    """The simulation depends on its arguments only."""
    sent = poisson(2 / SECONDS, 5_000)

    first, second = (simulate(sent, Fleet(4), shorter_of_two, seed=3) for _ in range(2))

    assert np.array_equal(first.finished, second.finished)


def test_keys_go_where_the_real_router_sends_them() -> None:
    """The simulated choice by key has as many calls of the key and as long a queue as the service's choice."""
    chance = random.Random(5)
    for _ in range(300):
        replicas = chance.randint(1, 12)
        view = View(replicas)
        for replica in range(replicas):
            for call in range(chance.randint(0, 6)):
                view.place(chance.choice("ab"), replica, call + 1)
        queues = {str(replica): int(length) for replica, length in enumerate(view.lengths)}
        alike = {str(replica): count for replica, count in view.alike("a").items()}

        chosen, wanted = str(by_key(1.25)("a", view, chance)), preferred(queues, alike, 1.25)

        assert alike.get(chosen, 0) == alike.get(wanted, 0)
        assert queues[chosen] == queues[wanted]


def test_bursts_come_at_their_rate() -> None:
    """A trace has as many calls of each use as were asked for, in the order of time."""
    uses = sorts(Profile.nominal())
    sent = trace(uses, rate=5_000, seconds=40, seed=2)

    first = 0
    for use in uses:
        calls = int(((sent.which >= first) & (sent.which < first + len(use.kinds))).sum())
        expected = 5_000 * 40 * use.share
        assert calls == pytest.approx(expected, abs=4 * math.sqrt(expected * use.burst))
        first += len(use.kinds)
    assert (np.diff(sent.times) >= 0).all()


def test_ceilings_are_where_the_simulation_is_full() -> None:
    """One event loop that is asked for what it can just do is busy all the time."""
    uses = sorts(Profile.nominal())
    fleet = Fleet(1, loop=Loop(2e-4, 1e-10), byte=1e-12)
    rate = 0.5 / seconds_a_call(uses)
    devices = ceilings(demand(uses, rate, fleet), 0.5, fleet, look=1e-6)["one event loop"]

    sent = trace(uses, rate * devices, seconds=200, seed=3)
    kinds = [sent.kinds[kind] for kind in sent.which.tolist()]
    work = sum(fleet.loop.call + (kind.received + kind.sent) * fleet.loop.byte for kind in kinds)

    assert work / 200 == pytest.approx(1.0, rel=0.05)
