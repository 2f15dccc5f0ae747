"""The application in servers that are not our own: it drains when they end its lifespan."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest

from matfn_service.app import create_app
from matfn_service.service import State
from matfn_service.settings import Settings
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
