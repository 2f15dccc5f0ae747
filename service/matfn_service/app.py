"""The application: reports in FastAPI, the computing routes as bare ASGI beside them, one edge around both."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from matfn_kernels import VERIFY, VJP
from matfn_service.edge import Edge
from matfn_service.endpoints import PLAN, Computation
from matfn_service.front_page import add_front_page
from matfn_service.heads import is_inference
from matfn_service.inference_http import InferenceRoutes
from matfn_service.manual import MANUAL_POLICY, manual
from matfn_service.metrics import Metrics
from matfn_service.openapi import openapi_document
from matfn_service.reports import batches_report, catalogue_report, status_report
from matfn_service.service import Service, State
from matfn_service.settings import Settings
from matfn_service.site import add_site
from matfn_service.tracing import telemetry_of
from matfn_service.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import Any, NoReturn

    from starlette.types import Receive, Scope, Send

    from matfn_service.executor import Executor
    from matfn_service.tracing import Telemetry

__all__ = ["Application", "application_of", "create_app"]


class Application(FastAPI):
    """FastAPI inside the edge; POST /v1/{function} bypasses it, since its layers cost as much as the queue."""

    def __init__(self, service: Service, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.computation = Computation(service)
        self._inference = InferenceRoutes(service, self.computation)
        self._allowances = service.allowances
        self.edge = Edge(self._route, service)

    def renew_keys(self, settings: Settings) -> None:
        """Takes the keys of these settings from the next request on."""
        self.edge.renew_keys(settings)
        self._allowances.renew(key.tenant for key in settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        await self.edge(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        root, _, name = scope["path"].rpartition("/") if scope["type"] == "http" else ("", "", "")
        if root == "/v1" and scope["method"] == "POST":
            scope["path_params"] = {"function": name}
            await self.computation(scope, receive, send)
        elif scope["type"] == "http" and is_inference(scope["path"]):
            await self._inference(scope, receive, send)
        else:
            await self.report(scope, receive, send)

    async def report(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves what is no call of one function, past the edge."""
        await super().__call__(scope, receive, send)


def create_app(
    settings: Settings | None = None,
    *,
    executor: Executor | None = None,
    clock: Callable[[], float] = time.monotonic,
    telemetry: Telemetry | None = None,
) -> Application:
    """The ASGI application; device and clock are arguments, so that tests may bring their own.

    Args:
        settings: all settings; None reads them from the environment.
        executor: the device; None takes the one that the settings name, when the application starts.
        clock: seconds that never go back.
        telemetry: where traces and metrics go; None takes what the environment names, and nothing if it names nothing.
    """
    service = Service(settings or Settings(), executor, clock, telemetry or telemetry_of(os.environ))
    return application_of(service)


def application_of(service: Service, make: Callable[..., Application] = Application) -> Application:
    """The application around a service, with all routes.

    Args:
        service: behind the routes.
        make: the class of the application, or what makes it.
    """
    app = make(
        service,
        title="matfn",
        version=VERSION,
        lifespan=_lifespan(service),
        redirect_slashes=False,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    for error in (Exception, HTTPException, RequestValidationError):
        app.add_exception_handler(error, _to_the_edge)
    _add_reports(app, service)
    _add_metrics(app, service)
    _add_manual(app, service)
    add_front_page(app)
    add_site(app, service.settings.site)
    app.router.routes += [
        Route(path, app.computation, include_in_schema=False)
        for path in (
            "/v1/{function}",
            f"/v1/{VERIFY}{{verified}}",
            f"/v1/{VJP}{{differentiated}}",
            f"/v1/{PLAN}{{planned:path}}",
        )
    ]
    document = openapi_document(app)
    app.openapi = lambda: document  # type: ignore[method-assign] # FastAPI's own way to publish another document
    return app


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        async with service.running():
            yield
            if service.state is not State.DRAINING:  # our own server has drained while it still listened; others do not
                await service.drain()

    return lifespan


async def _to_the_edge(request: Request, error: Exception) -> NoReturn:
    """Raises FastAPI's own errors again, so that the edge answers them with problem documents."""
    del request
    raise error


def _add_reports(app: FastAPI, service: Service) -> None:
    catalogue = JSONResponse(catalogue_report(service.settings)).body

    @app.get("/v1/functions", tags=["reports"], summary="Every function, its arguments and limits")
    async def functions() -> Response:
        return Response(catalogue, media_type="application/json")

    @app.get("/v1/status", tags=["reports"], summary="Device, queue, batches and counters")
    async def status() -> JSONResponse:
        return JSONResponse(status_report(service))

    @app.get("/v1/batches", tags=["reports"], summary="The last batches, and what waits by its key")
    async def batches(after: int = 0) -> JSONResponse:
        return JSONResponse(batches_report(service, after))

    @app.get("/healthz", tags=["health"], summary="Whether the process answers")
    async def healthz() -> JSONResponse:
        return JSONResponse({"state": service.state})

    @app.get("/readyz", tags=["health"], summary="Whether calls are taken now")
    async def readyz() -> JSONResponse:
        service.require_ready()
        return JSONResponse({"state": service.state})


def _add_metrics(app: FastAPI, service: Service) -> None:
    metrics = Metrics(service)

    @app.get(
        "/metrics", tags=["reports"], summary="Counters and states for Prometheus", response_class=PlainTextResponse
    )
    async def scrape(request: Request) -> Response:
        content, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})


def _add_manual(app: FastAPI, service: Service) -> None:
    page = HTMLResponse(manual(service.settings), headers={"content-security-policy": MANUAL_POLICY})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page
