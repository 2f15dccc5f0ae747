"""Reports of a client's requests: to hooks of the caller, and to the logger "matfn".

A request is told of each time that it is sent: a retry, and the next of several servers, are requests of their own.
The logger has a line for each answer at level DEBUG, and for each retry at level INFO.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from matfn.headers import checked_headers, overridden

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, TypeAlias

    from matfn.async_transport import AsyncTransport
    from matfn.http1 import Request, Response
    from matfn.transport import Transport

    OnRequest: TypeAlias = "Callable[[RequestInfo], Mapping[str, str] | None]"
    OnResponse: TypeAlias = "Callable[[ResponseInfo], object]"

__all__ = ["AsyncObserved", "Hooks", "Observed", "RequestInfo", "ResponseInfo", "log_retry"]

_DEBUG: Final = 10  # logging.DEBUG, of a module that is slow to import


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A request that is about to be sent.

    Attributes:
        method: GET or POST.
        url: where to; of several servers, the one that is asked.
        size: bytes of the body.
    """

    method: str
    url: str
    size: int


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """The outcome of a request.

    Attributes:
        request: the request.
        seconds: from sending it to the end of the answer, or to the error.
        status: of HTTP; None if no answer came.
        size: bytes of the answer's body.
        request_id: the name of the request in the server's log; empty if the server gave none.
        error: why no answer came.
    """

    request: RequestInfo
    seconds: float
    status: int | None = None
    size: int = 0
    request_id: str = ""
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions of the caller, called in the thread or event loop of the request; what they raise, the call raises."""

    on_request: OnRequest | None = None
    on_response: OnResponse | None = None
    now: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        """Refuses what cannot be called, and coroutine functions.

        Raises:
            TypeError: a hook is one of these.
        """
        for name, hook in (("on_request", self.on_request), ("on_response", self.on_response)):
            if hook is not None and (not callable(hook) or _is_coroutine_function(hook)):
                raise TypeError(f"{name} is {hook!r}; it must be a plain function, also that of an AsyncClient")

    def begin(self, request: Request, url: str) -> _Telling | None:
        """The account of a request; None where nobody listens."""
        if self.on_request is None and self.on_response is None and not _logger().isEnabledFor(_DEBUG):
            return None
        info = RequestInfo(request.method, url + request.target, sum(map(len, request.body)))
        added = self.on_request(info) if self.on_request else None
        if added is not None and not isinstance(added, Mapping):
            raise TypeError(f"on_request returned {added!r}; it must return a mapping of headers, or None")
        if added is not None:
            request = replace(request, headers=overridden(request.headers, checked_headers(added)))
        return _Telling(self, request, info, self.now())


def _is_coroutine_function(hook: Any) -> bool:
    from inspect import iscoroutinefunction  # slow, for those with a hook only

    return iscoroutinefunction(hook) or iscoroutinefunction(type(hook).__call__)


@dataclass(slots=True)
class _Telling:
    """The account of one request, which ends with its answer or its error."""

    hooks: Hooks
    request: Request
    info: RequestInfo
    began: float
    response: Response | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told, answer = ResponseInfo(self.info, self.hooks.now() - self.began, error=error), self.response
        if answer is not None:
            name = answer.headers.get("x-request-id", "")
            told = replace(told, status=answer.status, size=len(answer.body), request_id=name)
        _log_answer(told)
        if self.hooks.on_response:
            self.hooks.on_response(told)


class Observed:
    """A transport whose requests are told of."""

    def __init__(self, transport: Transport, url: str, hooks: Hooks) -> None:
        self.transport = transport
        self._url = url
        self._hooks = hooks

    def send(self, request: Request, timeout: float | None) -> Response:
        """Sends a request and waits for its response; raises what the transport does."""
        telling = self._hooks.begin(request, self._url)
        if telling is None:
            return self.transport.send(request, timeout)
        with telling:
            telling.response = response = self.transport.send(telling.request, timeout)
        return response

    def close(self) -> None:
        """Closes all connections."""
        self.transport.close()


class AsyncObserved:
    """`Observed` for asyncio."""

    def __init__(self, transport: AsyncTransport, url: str, hooks: Hooks) -> None:
        self.transport = transport
        self._url = url
        self._hooks = hooks

    async def send(self, request: Request, timeout: float | None) -> Response:  # noqa: ASYNC109 - bounds one attempt
        """Sends a request and awaits its response; raises what the transport does."""
        telling = self._hooks.begin(request, self._url)
        if telling is None:
            return await self.transport.send(request, timeout)
        with telling:
            telling.response = response = await self.transport.send(telling.request, timeout)
        return response

    async def close(self) -> None:
        """Closes all connections."""
        await self.transport.close()


def log_retry(wait: float, error: BaseException) -> None:
    """Says that a call will be sent again."""
    _logger().info("sent again in %.3g s: %s", wait, error)


def _log_answer(told: ResponseInfo) -> None:
    sent, milliseconds = told.request, told.seconds * 1000
    if told.error is None:
        words = "%s %s (%d bytes): %s in %.1f ms, %d bytes, %s"
        _logger().debug(words, sent.method, sent.url, sent.size, told.status, milliseconds, told.size, told.request_id)
    else:
        words = "%s %s (%d bytes): no answer in %.1f ms: %r"
        _logger().debug(words, sent.method, sent.url, sent.size, milliseconds, told.error)


_loggers: Final[list[Any]] = []


def _logger() -> Any:
    """The logger "matfn"; logging is imported with the first request."""
    if not _loggers:
        import logging

        _loggers.append(logging.getLogger("matfn"))
    return _loggers[0]
