"""The service as a Ray Serve deployment: the same application in every replica.

serve run matfn_service.ray_app:app
serve deploy docker/ray.yaml
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ray
from ray import serve
from ray.serve.config import RequestRouterConfig

from matfn_service.app import create_app
from matfn_service.configuration import configured
from matfn_service.logs import configure_logs
from matfn_service.ray_router import KeyRouter
from matfn_service.serve import ENVIRONMENT
from matfn_service.service import State

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message, Receive, Scope, Send

    from matfn_service.service import Service

__all__ = ["Bytes", "Replica", "app", "build", "deployment"]

_OPTIONS: Final = {
    "ray_actor_options": {"num_cpus": 1, "runtime_env": {"env_vars": ENVIRONMENT}},
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 16},
    "max_ongoing_requests": 256,  # the service has bounds of its own, in bytes and seconds
    "request_router_config": RequestRouterConfig(request_router_class=KeyRouter),
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 30.0,  # above MATFN_DRAIN_SECONDS
    "logging_config": {"enable_access_log": False},
}


class Bytes:
    """The application with bodies as bytes: Ray pickles what it sends to its proxies, and no view can be pickled."""

    def __init__(self, app: FastAPI) -> None:
        self.service: Service = app.state.service
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""

        async def send_bytes(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": bytes(message.get("body", b""))}
            await send(message)

        await self._app(scope, receive, send_bytes)


def build() -> Bytes:
    """The application of one replica, with a worker for each of Ray's processors where MATFN_WORKERS is unset."""
    settings = configured({})
    configure_logs(settings)
    processors = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    workers = settings.workers or max(1, int(processors))
    return Bytes(create_app(settings.model_copy(update={"workers": workers})))


class Replica:
    """A replica: the health check that Ray calls.

    Attributes:
        app: the application; Ray's ingress sets it, and ends its lifespan, which drains, before the replica goes.
    """

    app: Bytes

    async def check_health(self) -> None:
        """Returns once the replica is warm, which keeps a redeployment from going on before.

        Raises:
            RuntimeError: if it cannot compute, so that another is started in its place.
        """
        service = self.app.service
        await service.warmed_up()
        if service.state is State.FAILED:
            raise RuntimeError("the service could not warm up; its log has the reason")


deployment = serve.deployment(name="matfn", **_OPTIONS)(serve.ingress(build)(Replica))
app = deployment.bind()
