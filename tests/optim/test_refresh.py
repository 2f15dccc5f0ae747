"""When steps wait for roots, what a dead or slow server costs, and when a failure ends the training."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

import matfn
from matfn.errors import Problem, problem_error
from matfn.optim import RefreshWarning, Shampoo
from matfn.optim.schedule import Progress, Schedule
from matfn.own_thread import OwnThread
from processes import running_server
from refreshing import AtOnce, CountingClient, DownClient, OnDemand

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVERY = 4


@pytest.fixture(scope="module")
def client() -> Iterator[CountingClient]:
    """A client on the CPU."""
    with CountingClient() as client:
        yield client


def parameter() -> torch.nn.Parameter:
    """A matrix that starts at 0."""
    return torch.nn.Parameter(torch.zeros(6, 4))


def shampoo(one: torch.nn.Parameter, client: Any, **options: Any) -> Shampoo:
    """A Shampoo of this parameter."""
    settings: dict[str, Any] = {"lr": 0.1, "refresh_every": EVERY, "executor": AtOnce()} | options
    return Shampoo([one], client=client, **settings)


def step(one: torch.nn.Parameter, optimizer: Shampoo, times: int = 1) -> torch.Tensor:
    """The parameter after so many steps."""
    for _ in range(times):
        generator = torch.Generator().manual_seed(Progress.of(optimizer.param_groups[0]).step)
        one.grad = torch.randn(one.shape, generator=generator)
        optimizer.step()
    return one.detach().clone()


def adopted(optimizer: Shampoo) -> int:
    """The step whose factors the roots in use belong to."""
    return Progress.of(optimizer.param_groups[0]).adopted


def test_step_never_waits_after_the_first(client: CountingClient) -> None:
    """Steps go on with the first roots while no answer comes, and one warning says so at the caller's line."""
    executor, one = OnDemand(), parameter()
    optimizer = shampoo(one, client, executor=executor, first="async")

    step(one, optimizer, 2 * EVERY - 1)
    executor.run()
    step(one, optimizer)
    with pytest.warns(RefreshWarning, match="step 8 has no answer at step 12; the roots of step 4 stay") as caught:
        step(one, optimizer, 5 * EVERY)

    assert [warning.filename for warning in caught] == [__file__]
    assert adopted(optimizer) == EVERY
    assert len(executor.calls) == 1


def test_late_answer_is_taken_when_it_comes(client: CountingClient) -> None:
    """The first step after a late answer adopts it and asks anew."""
    executor, one = OnDemand(), parameter()
    optimizer = shampoo(one, client, executor=executor, first="async")
    with pytest.warns(RefreshWarning, match="no roots are in use"):
        step(one, optimizer, 2 * EVERY + 1)

    executor.run()
    step(one, optimizer)

    assert adopted(optimizer) == EVERY
    assert len(executor.calls) == 1


def test_answer_in_time_is_adopted_on_time(client: CountingClient) -> None:
    """An answer that came at once is used only one interval later."""
    one = parameter()
    optimizer = shampoo(one, client)

    steps = []
    for _ in range(4 * EVERY):
        step(one, optimizer)
        steps.append(adopted(optimizer))

    assert steps == [0] * 3 + [4] * 8 + [8] * 4 + [12]


def test_wait_waits_at_max_staleness(client: CountingClient) -> None:
    """With on_late="wait" a thread of the optimizer's own gives the steps of an executor without delay."""
    paths = []
    for executor in (AtOnce(), OwnThread()):
        one = parameter()
        paths.append(step(one, shampoo(one, client, executor=executor, on_late="wait"), 5 * EVERY))

    assert torch.equal(*paths)


def test_dead_server_keeps_training_alive() -> None:
    """Three refreshes in a row may fail, each with a warning; steps go on with the last good roots."""
    client, one = DownClient(), parameter()
    client.down = False
    optimizer = shampoo(one, client, max_staleness=EVERY)
    step(one, optimizer, EVERY)
    client.down = True

    for failure in (1, 2, 3):
        with pytest.warns(RefreshWarning, match=f"failure {failure} in a row, 3 tolerated.*refused") as caught:
            step(one, optimizer, EVERY)
        assert [warning.filename for warning in caught] == [__file__]

    assert adopted(optimizer) == EVERY
    client.down = False
    step(one, optimizer, EVERY)
    assert adopted(optimizer) == 5 * EVERY


def test_fourth_failure_raises() -> None:
    """The fourth refresh in a row that fails raises its error."""
    client, one = DownClient(), parameter()
    optimizer = shampoo(one, client, max_staleness=EVERY)
    with pytest.warns(RefreshWarning):
        step(one, optimizer, 4 * EVERY - 1)

    with pytest.raises(matfn.TransportError, match="refused") as caught:
        step(one, optimizer)

    assert "factor 0 of parameter 0 in group 0: failure 4 in a row, 3 tolerated" in caught.value.__notes__[0]


def test_success_forgets_failures() -> None:
    """Only failures in a row count."""
    client, one = DownClient(), parameter()
    optimizer = shampoo(one, client, max_staleness=EVERY, tolerated_failures=1)

    for _ in range(2):
        client.down = True
        with pytest.warns(RefreshWarning, match="failure 1 in a row"):
            step(one, optimizer, EVERY)
        client.down = False
        step(one, optimizer, EVERY)

    assert adopted(optimizer) == 4 * EVERY


def test_one_failed_matrix_keeps_its_root() -> None:
    """Where some matrices of a refresh fail, the others' roots are adopted."""

    class Picky(CountingClient):
        def _answers(self, *arguments: Any) -> list[Any]:
            _, *rest = super()._answers(*arguments)
            return [problem_error(Problem.of("singular", "singular")), *rest]

    one = parameter()
    optimizer = shampoo(one, Picky(), max_staleness=EVERY)

    with pytest.warns(RefreshWarning, match="1 matrices keep what they had.*factor 0 of parameter 0"):
        step(one, optimizer, EVERY)

    assert "root_0" not in optimizer.state[one]
    assert "root_1" in optimizer.state[one]


def test_gradient_that_is_not_finite_raises_at_once(client: CountingClient) -> None:
    """NaN in a factor is no failure to be tolerated."""
    one = parameter()
    optimizer = shampoo(one, client)
    one.grad = torch.full_like(one, torch.nan)
    optimizer.step()

    with pytest.raises(matfn.NotFinite):
        step(one, optimizer, EVERY)


def test_answer_that_is_not_finite_raises_at_once() -> None:
    """A client whose answers hold NaN ends the training."""

    class Broken(CountingClient):
        def _answers(self, *arguments: Any) -> list[Any]:
            answers = super()._answers(*arguments)
            answers[0].value.fill_(torch.nan)
            return answers

    one = parameter()
    with pytest.raises(FloatingPointError, match="inv_root"):
        step(one, shampoo(one, Broken()), EVERY)


def test_closed_client_raises_at_once() -> None:
    """A client that was closed will never answer again."""
    client, one = CountingClient(), parameter()
    client.close()

    with pytest.raises(matfn.ClosedError):
        step(one, shampoo(one, client), EVERY)


def test_worst_estimate_is_told(client: CountingClient) -> None:
    """The latest refresh can be logged: its steps, its answers and their largest error estimate."""
    one = parameter()
    optimizer = shampoo(one, client)
    step(one, optimizer, EVERY)

    last = optimizer.last_refresh

    assert last is not None
    assert (last.asked, last.ended, last.answered, last.failed) == (EVERY, EVERY, 2, 0)
    assert last.error_estimate is not None
    assert 0 < last.error_estimate < 1e-3


def test_pending_refresh_does_not_hold_the_process() -> None:
    """A process ends by itself while a refresh is under way that is never answered."""
    code = (
        "import threading, matfn.own_thread as own; own._EXIT_SECONDS = 0.1;"
        "own.OwnThread().submit(threading.Event().wait)"
    )

    done = subprocess.run([sys.executable, "-c", code], timeout=50, check=False)

    assert done.returncode == 0


SLOWLY_FREED = """
from threading import Event
from matfn.own_thread import OwnThread

class Held:
    def __del__(self):
        for _ in range(10**7):
            pass
        print("freed", flush=True)

submitted = Event()
answer = OwnThread().submit(lambda held: submitted.wait(), Held())
submitted.set()
answer.result()
"""


def test_a_process_ends_after_the_threads_of_its_refreshes() -> None:
    """An answered refresh still frees its tensors, within torch, where the end of Python would abort the process."""
    done = subprocess.run([sys.executable, "-c", SLOWLY_FREED], timeout=50, check=True, capture_output=True, text=True)

    assert done.stdout == "freed\n"


@pytest.mark.parametrize("max_staleness", [4, 5, 8, 11])
@pytest.mark.parametrize("on_late", ["keep", "wait"])
def test_roots_in_time_are_never_older_than_allowed(max_staleness: int, on_late: Any) -> None:
    """Where every answer is in time, the factors of the roots in use are younger than max_staleness at each step."""
    schedule, progress = Schedule(4, 4, max_staleness, "sync", on_late), Progress()

    for _ in range(100):
        progress.step += 1
        for _ in range(2):
            if progress.pending and schedule.adopts(progress):
                progress.end(adopted=True)
            if schedule.asks(progress):
                progress.begin()
        assert progress.step < 4 or progress.step - progress.adopted < max_staleness


@pytest.mark.timeout(120)
def test_server_killed_and_restarted_loses_no_step(tmp_path: Path) -> None:
    """Training goes on over a server's death, and takes new roots from the next one at the same address."""
    path, one, twin, local = tmp_path / "matfn.sock", parameter(), parameter(), DownClient()
    alike = shampoo(twin, local, max_staleness=EVERY)
    with matfn.Client(f"unix://{path}", max_retries=0) as client:
        optimizer = shampoo(one, client, max_staleness=EVERY)
        with running_server(uds=str(path)) as server:
            step(one, optimizer, EVERY)
            server.process.kill()
            server.process.wait()
        with pytest.warns(RefreshWarning, match="failure 1 in a row"):
            step(one, optimizer, EVERY)
        with running_server(uds=str(path)):
            step(one, optimizer, EVERY)

    local.down = False
    step(twin, alike, EVERY)
    local.down = True
    with pytest.warns(RefreshWarning, match="failure 1 in a row"):
        step(twin, alike, EVERY)
    local.down = False
    step(twin, alike, EVERY)
    assert adopted(optimizer) == adopted(alike) == 3 * EVERY
    torch.testing.assert_close(one.detach(), twin.detach())
