"""The Open Inference Protocol over gRPC, on the event loop of the service.

Rules of this file:

- Every method is served as a stream, of which its callers, who send one message and await one, see nothing. Thus a
  message is read when its caller's key is known and charged when it has come, and an answer is charged until it is
  read. Methods that need no message do not read it.
- A call is served in a task of its own, which nobody cancels: a caller that leaves is told to it as over HTTP.
- A call has a trace as a request over HTTP has: `traceparent` and `tracestate` are metadata, of its answer too.
- Errors have the status of the table in docs/interoperability.md, and the problem's code in the trailing metadata.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from matfn_service.access_log import LEFT
from matfn_service.admission import INLINE_BYTES
from matfn_service.endpoints import Reply
from matfn_service.grpc_caller import RpcCaller
from matfn_service.heads import parse_head, refuse_two_keys
from matfn_service.inference import (
    Request,
    check_wanted,
    config_of,
    index,
    is_model,
    metadata_of,
    model,
    server_metadata,
)
from matfn_service.inference_messages import (
    config_message,
    index_message,
    metadata_message,
    named_model,
    read_request,
    reply_message,
    server_message,
)
from matfn_service.inference_problems import GRPC_HINT, inference_problem, told
from matfn_service.problems import CallerLeft, Refusal, as_refusal, problem_of
from matfn_service.protobuf import written
from matfn_service.tracing import Request as EndedRequest
from matfn_service.tracing import enter_trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from matfn import wire
    from matfn.errors import Problem
    from matfn_service.admission import Admission, Prepared
    from matfn_service.app import Application
    from matfn_service.ledger import Account
    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = ["GrpcServer"]

_ROOT: Final = "/inference.GRPCInferenceService/"
_HEALTH: Final = "/grpc.health.v1.Health/Check"
_OPEN: Final = frozenset({f"{_ROOT}ServerLive", f"{_ROOT}ServerReady", _HEALTH})
_SERVING, _NOT_SERVING = 1, 2
_READ_METADATA: Final = frozenset({"authorization", "x-request-id", "traceparent", "tracestate"})
_COPIES: Final = 2  # of outputs: in the message, and in the transport
_DETAIL: Final = 2000
_MOST_OF_REPORT: Final = 4096  # bytes of a message that names a model
_CODES: Final[Mapping[int | None, str]] = {
    None: "CANCELLED",  # the caller has left
    200: "OK",
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "RESOURCE_EXHAUSTED",
    415: "UNIMPLEMENTED",
    422: "INVALID_ARGUMENT",
    429: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class GrpcServer:
    """Serves the protocol on a port of its own.

    Args:
        application: which serves the same calls over HTTP.
        service: behind both.
    """

    def __init__(self, application: Application, service: Service) -> None:
        self._application = application
        self._service = service
        self._server: Any = None
        self._port = 0
        self._methods: Mapping[str, Callable[[RpcCaller], Awaitable[None]]] = {
            f"{_ROOT}ServerLive": partial(_tell, message=written((1, True))),
            f"{_ROOT}ServerReady": self._tell_ready,
            f"{_ROOT}ModelReady": self._tell_model_ready,
            f"{_ROOT}ServerMetadata": partial(_tell, message=server_message(server_metadata())),
            f"{_ROOT}ModelMetadata": self._tell_metadata,
            f"{_ROOT}ModelConfig": self._tell_config,
            f"{_ROOT}RepositoryIndex": self._tell_index,
            f"{_ROOT}ModelInfer": self._infer,
            _HEALTH: self._tell_health,
        }

    async def start(self, settings: Settings) -> str:
        """Listens; returns the address.

        Raises:
            OSError: if the address is taken or cannot be.
        """
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes lines of its own beside the log
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # workers are new programs
        import grpc

        self._server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=settings.max_connections)
        self._server.add_generic_rpc_handlers((_handlers(self),))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            self._port = self._server.add_insecure_port(f"{host}:{settings.grpc_port}")
        except RuntimeError as error:
            reason = _why_not(settings) or error
            raise OSError(f"{host}:{settings.grpc_port} cannot be listened on: {reason}") from None
        await self._server.start()
        return f"{host}:{self._port}"

    async def stop(self, seconds: float) -> None:
        """Closes all connections; answers on their way have so many seconds."""
        await self._server.stop(seconds)

    def served_by(self, method: str) -> Callable[[RpcCaller], Awaitable[None]] | None:
        """The handler of a method; None for those of other services."""
        if method in self._methods:
            return self._methods[method]
        return partial(_tell_unknown, method=method) if method.startswith(_ROOT) else None

    async def serve(self, caller: RpcCaller, answer: Callable[[RpcCaller], Awaitable[None]]) -> Refusal | None:
        """Serves one request; returns what the caller is to be told instead of an answer."""
        edge, head, entry = self._application.edge, caller.head, caller.entry
        self._begin(caller)
        try:
            refuse_two_keys(caller.scope["headers"])
            if head.path not in _OPEN:
                entry.key = edge.authorize(head)
            await answer(caller)
        except CallerLeft:
            entry.outcomes = {LEFT: 1}
        except Exception as error:  # noqa: BLE001 - any exception becomes a status
            refusal = as_refusal(error)
            entry.outcomes, caller.status = {refusal.code: 1}, problem_of(refusal, "").status
            edge.count_failure(head, entry, refusal, error)
            error.with_traceback(None)
            return refusal
        finally:
            edge.log_access(head, entry, caller.status)
            self._end(caller)
        return None

    def _begin(self, caller: RpcCaller) -> None:
        """Begins the trace of a call, in whose task this runs."""
        if self._service.telemetry is not None:
            caller.entry.trace = self._service.telemetry.begin(caller.scope)
            enter_trace(caller.entry.trace)

    def _end(self, caller: RpcCaller) -> None:
        telemetry, entry = self._service.telemetry, caller.entry
        if telemetry is not None:
            ended = EndedRequest(caller.scope, caller.head, entry, code_of(caller.status), self._service.clock())
            telemetry.end(entry.trace, ended)

    def caller(self, context: Any, method: str) -> RpcCaller:
        """The caller of a method."""
        metadata = [(key, value) for key, value in context.invocation_metadata() if key in _READ_METADATA]
        headers = [(key.encode(), value.encode()) for key, value in metadata if isinstance(value, str)]
        scope = {
            "type": "rpc",
            "method": "POST",
            "path": method,
            "headers": headers,
            "matfn.is_known": method in self._methods,
        }
        head = parse_head(scope, self._service.clock())
        return RpcCaller(context, scope, head, self._service, self._port)

    async def _tell_ready(self, caller: RpcCaller) -> None:
        await _tell(caller, message=written((1, self._service.is_ready)))

    async def _tell_health(self, caller: RpcCaller) -> None:
        await _tell(caller, message=written((1, _SERVING if self._service.is_ready else _NOT_SERVING)))

    async def _tell_model_ready(self, caller: RpcCaller) -> None:
        """No model is ready that does not exist: clients of the protocol ask this to learn whether it does."""
        name, version = named_model(await self._small_message(caller))
        is_ready = self._service.is_ready and is_model(name, version)
        await _tell(caller, message=written((1, is_ready)))

    async def _tell_metadata(self, caller: RpcCaller) -> None:
        function = model(*named_model(await self._small_message(caller)))
        await _tell(caller, message=metadata_message(metadata_of(function)))

    async def _tell_config(self, caller: RpcCaller) -> None:
        function = model(*named_model(await self._small_message(caller)))
        await _tell(caller, message=config_message(config_of(function)))

    async def _tell_index(self, caller: RpcCaller) -> None:
        await _tell(caller, message=index_message(index(is_ready=self._service.is_ready)))

    async def _small_message(self, caller: RpcCaller) -> memoryview:
        with self._service.ledger.account(caller.key) as account:
            async with self._service.reading():
                return await caller.read(_MOST_OF_REPORT, account)

    async def _infer(self, caller: RpcCaller) -> None:
        await self._application.computation.serve(caller, _MessageForm(caller))


def _why_not(settings: Settings) -> OSError | None:
    """Why an address cannot be listened on, which grpc does not say."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.grpc_port or 0), family=family).close()
    except OSError as error:
        return error
    return None


def _options(settings: Settings) -> Sequence[tuple[str, int]]:
    idle = math.ceil(settings.write_idle_seconds * 1000)
    return (
        ("grpc.keepalive_time_ms", math.ceil(idle / 2)),  # without a sign of life, until the caller is asked for one
        ("grpc.keepalive_timeout_ms", idle),
        ("grpc.http2.ping_timeout_ms", idle),  # which grpc 1.85 goes by
        ("grpc.so_reuseport", 0),  # a port that is taken is to be told
        ("grpc.max_receive_message_length", settings.grpc_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_connection_idle_ms", settings.keep_alive_seconds * 1000),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: matrices of floats hardly compress
        ("grpc.http2.bdp_probe", 0),  # what is not read yet is bounded by the window of its stream, 64 KiB
    )


def _handlers(server: GrpcServer) -> Any:
    """Details of a call by which grpc finds the handler of its method."""
    import grpc

    class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
        def service(self, details: Any) -> Any:
            answer = server.served_by(details.method)
            if answer is None:
                return None
            return grpc.stream_stream_rpc_method_handler(partial(_handle, grpc, server, details.method, answer))

    return Handlers()


async def _handle(
    grpc: Any, server: GrpcServer, method: str, answer: Callable[[RpcCaller], Awaitable[None]], *call: Any
) -> None:
    """Serves a request in a task of its own, and ends it with a status."""
    context = call[1]
    caller = server.caller(context, method)
    serving = asyncio.get_running_loop().create_task(server.serve(caller, answer))
    try:
        refusal = await asyncio.shield(serving)
    except asyncio.CancelledError:
        caller.leave()
        raise
    if refusal is not None and not context.cancelled():
        problem = inference_problem(refusal, caller.head.request_id, GRPC_HINT)
        code = getattr(grpc.StatusCode, code_of(problem.status))
        await context.abort(code, told(problem)[:_DETAIL], (*caller.trailers, *_trailers(problem)))


def code_of(status: int | None) -> str:
    """The name of the status that stands for one of HTTP; None is that of a request without an answer."""
    return _CODES.get(status, "INTERNAL")


def _trailers(problem: Problem) -> tuple[tuple[str, str], ...]:
    """Metadata of a problem besides its words; the last is gRPC's own Retry-After."""
    index_, wait = problem.index, problem.retry_after_ms
    return (
        ("matfn-code", problem.code),
        *([] if index_ is None else [("matfn-index", str(index_))]),
        *([] if wait is None else [("grpc-retry-pushback-ms", str(math.ceil(wait)))]),
    )


async def _tell(caller: RpcCaller, *, message: bytes) -> None:
    """Sends a report."""
    await caller.answer(HTTPStatus.OK, "", [message])


async def _tell_unknown(caller: RpcCaller, *, method: str) -> None:
    del caller
    name = method.removeprefix(_ROOT)[:_DETAIL]
    raise Refusal("method_not_allowed", f"there is no method {name}", "ModelInfer computes; statistics are at /metrics")


@dataclass(slots=True)
class _MessageForm:
    """The form of ModelInfer."""

    caller: RpcCaller
    request: Request | None = field(default=None, init=False)

    async def prepared(self, admission: Admission, content: memoryview, account: Account) -> Prepared:
        """The call in a message."""
        is_small = content.nbytes <= INLINE_BYTES
        read = partial(read_request, content, self.caller.seconds)
        request = read() if is_small else await admission.in_thread(read)
        self.request, self.caller.entry.function = request, request.call.function
        check_wanted(request)
        return await admission.sent(request.call, account, _COPIES, is_small=is_small)

    def reply(self, answer: wire.EncodedAnswer) -> Reply:
        """The answer as one message."""
        assert self.request is not None
        return Reply("", [reply_message(self.request, answer)])
