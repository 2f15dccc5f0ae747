"""Fixtures of the service's tests: the application on a scripted device."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from matfn_service.app import create_app
from matfn_service.settings import Settings
from scripted import Opened, ScriptedExecutor, service_behind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from matfn_service.service import Service


@pytest.fixture
def anyio_backend() -> str:
    """The service runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def executor() -> ScriptedExecutor:
    """A device with one worker."""
    return ScriptedExecutor()


@pytest.fixture
def opened(executor: ScriptedExecutor) -> Opened:
    """Opens the application on the scripted device."""

    @asynccontextmanager
    async def open_app(**settings: object) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(Settings.model_validate(settings), executor=executor)
        async with app.router.lifespan_context(app):
            if executor.warm.is_set():
                await app.state.service.admission()
                executor.forget()
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://matfn") as client:
                yield client

    return open_app


@pytest.fixture
async def client(opened: Opened) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application with its default settings."""
    async with opened() as client:
        yield client


@pytest.fixture
async def service(client: httpx.AsyncClient) -> Service:
    """The service behind `client`."""
    return service_behind(client)
