"""The application in servers that are not our own: it drains when they end its lifespan."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest

from matfn_kernels.programs.profile import Profile
from matfn_service.app import create_app
from matfn_service.pulse import Loss, WorkerLost
from matfn_service.service import State
from matfn_service.settings import Settings
from matfn_service.warm_up import warm_up_surely
from scripted import post, until

if TYPE_CHECKING:
    from scripted import ScriptedExecutor

pytestmark = pytest.mark.anyio


async def test_calls_are_answered_before_the_end(executor: ScriptedExecutor) -> None:
    """What the device has when the lifespan ends is answered, and who comes later is told."""
    app = create_app(Settings(), executor=executor)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://matfn") as client, asyncio.TaskGroup() as group:
        async with app.router.lifespan_context(app):
            await app.state.service.warmed_up()
            executor.forget()
            await executor.hold()
            call = group.create_task(post(client))
            await executor.busy.acquire()

            async def release() -> int:
                await until(lambda: app.state.service.state is State.DRAINING)
                late = await post(client)
                executor.finish_batch()
                return late.status_code

            late = group.create_task(release())

        assert call.done()

    assert call.result().status_code == HTTPStatus.OK
    assert late.result() == HTTPStatus.SERVICE_UNAVAILABLE


async def test_former_name_of_a_setting_is_warned_of(
    executor: ScriptedExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server whose workers are set by MATFN_LANES logs at its start which name replaces it."""
    async with create_app(Settings(lanes=2), executor=executor).router.lifespan_context(None):
        pass
    warned = capsys.readouterr().out
    async with create_app(Settings(workers=2), executor=executor).router.lifespan_context(None):
        pass

    assert "MATFN_LANES is deprecated" in warned
    assert "MATFN_WORKERS" in warned
    assert "deprecated" not in capsys.readouterr().out


@pytest.mark.parametrize("losses", [1, 3, 7])
async def test_a_warm_up_that_loses_workers_begins_anew(executor: ScriptedExecutor, losses: int) -> None:
    """It succeeds as soon as no worker is lost."""
    lost = iter([WorkerLost(Loss.KILLED, "gone")] * losses)
    executor.fault = lambda batch: next(lost, None)  # noqa: ARG005

    await warm_up_surely(executor, Profile.nominal(), pause=0.0)


async def test_a_warm_up_ends_where_workers_are_lost_every_time(executor: ScriptedExecutor) -> None:
    """After eight tries it fails with the last loss."""
    executor.fault = lambda batch: WorkerLost(Loss.KILLED, "gone")  # noqa: ARG005

    with pytest.raises(WorkerLost):
        await warm_up_surely(executor, Profile.nominal(), pause=0.0)
    assert len(executor.sizes) == 8
