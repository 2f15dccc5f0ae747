"""Keys share a real server: one that floods it with costly work leaves the others their turns."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn
from processes import running_server
from scraped import samples
from spectra import positive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import ServerProcess

FLOOD, SMALL = 24, 20
KEYS = "flood-secret name=flood requests=64\nsmall-secret name=small weight=2\nscrape-secret name=scraper\n"
FLOODED = 'matfn_key_seconds_total{key="flood"}'
SMALL_ONES = 'matfn_key_seconds_total{key="small"}'


@pytest.fixture(scope="module", params=["1", "2"])
def keyed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with three keys and one or two workers."""
    path = tmp_path_factory.mktemp("fairness") / "keys"
    path.write_text(KEYS)
    with running_server(api_keys_file=str(path), workers=request.param) as server:
        yield server


def client_of(server: ServerProcess, name: str) -> matfn.Client:
    """A client with the key of this name."""
    return matfn.Client(server.url, api_key=f"{name}-secret", timeout=50)


@pytest.mark.filterwarnings("ignore::matfn.ApproximateWarning")
def test_flood_of_one_key_leaves_another_its_turns(keyed: ServerProcess) -> None:
    """Small calls, one after the other, are all answered while most of another key's flood still waits."""
    costly, small = np.random.default_rng(0).standard_normal((40, 32, 32)), positive(8)[0]
    answered: list[int] = []
    begun = threading.Barrier(FLOOD + 1)

    def flood(number: int) -> None:
        begun.wait()
        client.mcsgn(costly)
        answered.append(number)

    with client_of(keyed, "flood") as client, client_of(keyed, "small") as other, ThreadPoolExecutor(FLOOD) as pool:
        client.mcsgn(costly[:1])
        other.inv_root(small, 2)
        calls = [pool.submit(flood, number) for number in range(FLOOD)]
        begun.wait()
        while keyed_jobs(other) < FLOOD // 2:
            assert len(answered) < FLOOD
        for _ in range(SMALL):
            assert np.isfinite(other.inv_root(small, 2)).all()
        flooded = len(answered)
        for one in calls:
            one.result()

    assert flooded < FLOOD // 2
    assert len(answered) == FLOOD


def keyed_jobs(client: matfn.Client) -> int:
    """Jobs that wait in the server's queue."""
    return int(client.status()["queue"]["jobs"])


def test_metrics_and_logs_name_keys_and_never_tell_them(keyed: ServerProcess) -> None:
    """Each key's use is counted under its name, a refusal is logged with it, and no key is written anywhere."""
    before = samples(keyed.metrics(key="scrape-secret"))
    with client_of(keyed, "flood") as client:
        client.inv_root(positive(8), 2)
        with pytest.raises(matfn.NotFinite):
            client.inv_root(np.full((2, 2), np.nan), 2)
    line = keyed.wait_for("request failed", code="not_finite")
    metrics = samples(keyed.metrics(key="scrape-secret"))

    assert line["key"] == "flood"
    assert metrics[FLOODED] > before[FLOODED]
    assert metrics[SMALL_ONES] == before[SMALL_ONES]
    assert "secret" not in f"{keyed.lines}{metrics}"
