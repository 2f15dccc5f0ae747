"""The watchdog of the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from matfn_service.histogram import Histogram
from matfn_service.watchdog import Watchdog
from scraped import samples

if TYPE_CHECKING:
    import httpx

BOUNDS = (0.01, 0.1, 1.0)


def test_a_punctual_loop_has_no_lag() -> None:
    """A wake-up at its time, or before it, counts as no lag."""
    lags = Histogram(BOUNDS)
    watchdog = Watchdog(lags, time.monotonic)
    watchdog.count(5.0, 5.0)
    watchdog.count(6.0, 5.9)

    assert (lags.counts, lags.sum, watchdog.largest) == ([2, 0, 0, 0], 0.0, 0.0)


def test_a_long_delay_counts_for_every_moment_that_it_covers() -> None:
    """A delay of 0.205 s covers eleven wake-ups, the last of which would have been late by 5 ms."""
    lags = Histogram(BOUNDS)
    watchdog = Watchdog(lags, time.monotonic)
    watchdog.count(1.0, 1.205)

    assert lags.counts == [1, 4, 6, 0]
    assert watchdog.largest == pytest.approx(0.205)


def test_the_largest_lag_is_forgotten() -> None:
    """A lag shows for a minute at least and for two at most."""
    watchdog = Watchdog(Histogram(BOUNDS), time.monotonic)
    watchdog.count(0.0, 3.0)
    shown = []
    for now in (50.0, 70.0, 140.0):
        watchdog.count(now, now)
        shown.append(watchdog.largest)

    assert shown == [3.0, 3.0, 0.0]


@pytest.mark.anyio
async def test_a_blocked_loop_is_noticed(client: httpx.AsyncClient) -> None:
    """What stops the loop shows in the report of the state and in the metrics."""
    await asyncio.sleep(0)
    started = time.monotonic()
    while time.monotonic() < started + 0.3:
        continue
    while (await client.get("/v1/status")).json()["loop"]["largest_lag"] < 0.2:  # noqa: ASYNC110
        await asyncio.sleep(0)

    assert samples((await client.get("/metrics")).text)["matfn_loop_lag_seconds_sum"] > 0.2
