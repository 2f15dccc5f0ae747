"""The edge, HTTP around all routes: checks keys, and turns exceptions into problems.

    server --> Edge --(Exchange)--> routes of FastAPI, and the bare POST endpoints among them

A request's head is parsed once (`heads`), and its answer leaves through an Exchange (`exchange`). Every exception ends
here as one problem document and one line in the log.
"""

from __future__ import annotations

from hmac import compare_digest
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog

from matfn_service.access_log import LEFT, Entry, access_log_of, line_of, plain_path
from matfn_service.body_reader import body_reader_of
from matfn_service.cors import Cors
from matfn_service.exchange import Exchange
from matfn_service.front_page import FILES_ROOT
from matfn_service.heads import Head, parse_head, refuse_two_keys
from matfn_service.problems import CallerLeft, Refusal, as_refusal, problem_headers
from matfn_service.site import SITE_ROOT
from matfn_service.tracing import Request, enter_trace

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = ["Edge"]

_CALL_ROOT: Final = "/v1/"
_PROBES: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
_OPEN_PATHS: Final = _PROBES | {"/"}
_OPEN_ROOTS: Final = (FILES_ROOT, SITE_ROOT)

_log = structlog.get_logger(__name__)


class Edge:
    """The outermost layer: names requests, checks keys, and turns every exception into a problem document."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._segments = service.segments
        self.renew_keys(service.settings)
        self._statistics = service.statistics
        self._clock = service.clock
        self._rest_seconds = service.rest_seconds
        self._access = access_log_of(service.settings)
        self._cors = Cors.of(service.settings.cors_origins)
        self._telemetry = service.telemetry

    def renew_keys(self, settings: Settings) -> None:
        """Takes the keys of these settings from the next request on."""
        self._keys = [(key.get_secret_value().encode(), key.tenant.name) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or passes what is not HTTP on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head, reader = parse_head(scope, self._clock()), body_reader_of(scope)
        exchange = Exchange(head, receive, send, self._rest_seconds, reader, self._segments)
        routed = _routed(scope, exchange)
        try:
            self._begin(scope, exchange)
            if await self._answered_preflight(scope, exchange):
                return
            refuse_two_keys(scope["headers"])
            exchange.entry.key = self.authorize(exchange.head)
            await self._app(routed, exchange.receive, exchange.send)
        except CallerLeft:
            exchange.entry.outcomes = {LEFT: 1}
        except Exception as error:  # noqa: BLE001 - any exception becomes a problem document
            await self._refuse(exchange, error)
            error.with_traceback(None)  # its frames hold what was sent, and some of them the error
        finally:
            self.log_access(head, exchange.entry, exchange.status)
            if self._telemetry is not None:
                request = Request(routed, head, exchange.entry, exchange.status, self._clock())
                self._telemetry.end(exchange.entry.trace, request)

    def _begin(self, scope: Scope, exchange: Exchange) -> None:
        """Lets traces and other origins have their headers of the answer."""
        if self._telemetry is not None:
            trace = exchange.entry.trace = self._telemetry.begin(scope)
            enter_trace(trace)
            exchange.headers.extend(() if trace is None else trace.headers)
        if self._cors is not None:
            exchange.headers.extend(self._cors.of_answer(dict(scope["headers"])))

    async def _answered_preflight(self, scope: Scope, exchange: Exchange) -> bool:
        """Answers a browser's question whether a page of an allowed origin may send a request; it has no key."""
        granted = None if self._cors is None else self._cors.of_preflight(scope["method"], dict(scope["headers"]))
        if granted is None:
            return False
        exchange.headers = [*granted]
        await exchange.answer(HTTPStatus.OK, "text/plain", [b""])
        return True

    def log_access(self, head: Head, entry: Entry, status: int | None) -> None:
        """Writes the line of a request that has ended, if there is an access log."""
        if self._access is not None:
            self._access(line_of(head, entry, status, self._clock()))

    def authorize(self, head: Head) -> str:
        """The name of the request's key; empty where none is needed.

        Raises:
            Refusal: `unauthorized`.
        """
        if not self._keys or head.path in _OPEN_PATHS or head.path.startswith(_OPEN_ROOTS):
            return ""
        # every key is compared, each in constant time: how long it takes tells nothing
        known = [name for key, name in self._keys if compare_digest(head.key, key)]
        if not known:
            raise Refusal("unauthorized", "the request has no API key" if not head.key else "the API key is not known")
        return known[0]

    async def _refuse(self, exchange: Exchange, error: Exception) -> None:
        refusal, head = as_refusal(error), exchange.head
        exchange.entry.outcomes = {refusal.code: 1}
        if head.method == "OPTIONS" and refusal.allow is not None:
            await exchange.answer(HTTPStatus.OK, "text/plain", [b""], problem_headers(refusal))
            return
        # a probe that is told to wait asks again and again, and its answer is the whole story
        if head.path not in _PROBES or refusal is not error:
            self.count_failure(head, exchange.entry, refusal, error)
        if exchange.status is not None:
            raise error  # the answer has begun: nothing is left but to cut the connection
        try:
            await exchange.refuse(refusal)
        except CallerLeft:
            return

    def count_failure(self, head: Head, entry: Entry, refusal: Refusal, error: Exception) -> None:
        """Counts and logs a request that failed by this error, which means this refusal."""
        self._statistics.count_call(entry.function or head.path.removeprefix(_CALL_ROOT), refusal.code)
        fields = {
            "method": head.method,
            "path": plain_path(head.path),
            "code": refusal.code,
            "request_id": head.request_id,
            **({"key": entry.key} if entry.key else {}),
        }
        spent = round((self._clock() - head.arrived) * 1e3, 3)
        if refusal is not error and refusal.code == "internal":
            _log.error("request failed", **fields, ms=spent, exc_info=error)
        else:
            _log.warning("request failed", **fields, ms=spent, detail=refusal.detail)


def _routed(scope: Scope, exchange: Exchange) -> Scope:
    """The scope for the routes: HEAD is GET there, and servers drop the body of its answer."""
    method = "GET" if exchange.head.method == "HEAD" else exchange.head.method
    return {**scope, "method": method, "matfn.exchange": exchange}
