"""Names of requests in spans and metrics: the semantic conventions of OpenTelemetry for HTTP and for RPC.

Attributes of our own, `matfn.*`, are the same for both. The octets of requests that are alike are made once.

Source: opentelemetry.io/docs/specs/semconv, version 1.45.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from matfn_service.access_log import LEFT, plain_path
from matfn_service.otlp import attributes_of, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

    from matfn_service.otlp import Attribute
    from matfn_service.tracing import Request

__all__ = [
    "HTTP_LABELS",
    "RPC_LABELS",
    "SCHEMA",
    "Described",
    "Labels",
    "described",
    "labels_of",
    "method_of",
    "scheme_of",
]

SCHEMA: Final = "https://opentelemetry.io/schemas/1.45.0"

Labels: TypeAlias = "tuple[str | int | None, ...]"
"""The values of the attributes by which requests are counted; None or nothing for those that a request has not."""
HTTP_LABELS: Final = (
    "http.request.method",
    "url.scheme",
    "network.protocol.version",
    "http.route",
    "http.response.status_code",
    "error.type",
)
RPC_LABELS: Final = ("rpc.system.name", "rpc.method", "rpc.status_code", "error.type")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_OTHER: Final = "_OTHER"  # for methods that the conventions, or the server, do not know
_SERVER: Final = 2  # the kind of a span that serves a request
_SERVER_ERROR: Final = 500
_GRPC: Final = "grpc"
_GRPC_ERRORS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_AGENT: Final = 200  # most letters of a User-Agent
_PATH: Final = 200  # and of a path, of which a log has no more either
_KEPT: Final = 1024  # different requests whose octets are kept, of 1 KB at most


@dataclass(frozen=True, slots=True)
class Described:
    """The span of a request: the fields of its name and kind, those of its attributes, and whether it is an error."""

    head: bytes
    attributes: bytes
    is_error: bool


def described(request: Request, labels: Labels) -> Described:
    """The span of a request that has ended, with the labels by which it is counted."""
    entry = request.entry
    own = entry.function, entry.key, entry.calls, entry.matrices, tuple(entry.outcomes)
    if request.scope["type"] != "http":
        return _described_rpc(labels, request.scope["path"][:_PATH], own)
    server = request.scope.get("server") or ("", None)
    agent = _agent(request.scope["headers"])
    return _described_http(labels, request.head.path[:_PATH], server[0], server[1], agent, own)


@lru_cache(_KEPT)
def _described_http(
    labels: Labels, path: str, host: str, port: int | None, agent: bytes, own: tuple[Any, ...]
) -> Described:
    by_name = dict(zip(HTTP_LABELS, labels, strict=True))
    method, route = by_name["http.request.method"], by_name["http.route"]
    verb = "HTTP" if method == _OTHER else method
    by_name |= {"url.path": plain_path(path), "server.address": host, "server.port": port}
    by_name["user_agent.original"] = agent.decode("ascii", "backslashreplace")
    status = by_name["http.response.status_code"]
    failed = isinstance(status, int) and status >= _SERVER_ERROR
    return Described(named(f"{verb} {route}" if route else f"{verb}", _SERVER), _attributes(by_name, own), failed)


@lru_cache(_KEPT)
def _described_rpc(labels: Labels, path: str, own: tuple[Any, ...]) -> Described:
    by_name = dict(zip(RPC_LABELS, labels, strict=True))
    method = by_name["rpc.method"]
    if method == _OTHER:
        by_name["rpc.method_original"] = plain_path(path).removeprefix("/")
    name = _GRPC if method == _OTHER else f"{method}"
    return Described(named(name, _SERVER), _attributes(by_name, own), bool(by_name["error.type"]))


def _attributes(by_name: dict[str, Any], own: tuple[Any, ...]) -> bytes:
    """Those of the conventions that have a value, and our own: function, key, calls and what they got."""
    names = "matfn.function", "matfn.key", "matfn.calls", "matfn.matrices", "matfn.codes"
    facts: list[tuple[str, Attribute]] = [(name, value) for name, value in by_name.items() if value not in {None, ""}]
    facts += [(name, value) for name, value in zip(names, own, strict=True) if value]
    return attributes_of(facts)


def labels_of(request: Request) -> Labels:
    """The attributes by which a request is counted, in the order of `HTTP_LABELS` or `RPC_LABELS`."""
    scope, status = request.scope, request.status
    if scope["type"] != "http":
        method = scope["path"].removeprefix("/") if scope["matfn.is_known"] else _OTHER
        return _GRPC, method, status, status if status in _GRPC_ERRORS else ""
    return method_of(scope), scheme_of(scope), _version(scope), _route(request), status, _error(request)


def method_of(scope: Scope) -> str:
    """The method, as the conventions name it."""
    method: str = scope["method"]
    return method if method in _METHODS else _OTHER


def scheme_of(scope: Scope) -> str:
    """How the caller speaks."""
    return str(scope.get("scheme", "http"))  # servers may leave it out, says ASGI


def _version(scope: Scope) -> str:
    return str(scope.get("http_version", "1.1"))


def _route(request: Request) -> str:
    """The pattern of the path, one of few; empty where no route took the request."""
    return request.entry.route or getattr(request.scope.get("route"), "path", "")


def _agent(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return next((value[:_AGENT] for name, value in headers if name == b"user-agent"), b"")


def _error(request: Request) -> str:
    """The code of a failure of the server's; empty for an answer, and for a request that is refused rightly."""
    status = request.status
    if status is None:
        return LEFT
    if isinstance(status, int) and status < _SERVER_ERROR:
        return ""
    return next(iter(request.entry.outcomes), str(status))
