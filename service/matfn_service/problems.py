"""Failures as RFC 9457 problems.

Rules of this file: inner code raises a Refusal and knows no HTTP. Here every exception becomes a Refusal, and every
Refusal a Problem with the status and the words of the table in `matfn.errors`. Nothing else builds one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from matfn.errors import Problem
from matfn.wire import DecodeError
from matfn_kernels import Rejection
from matfn_service.memory import is_for_memory

__all__ = ["REFUSALS", "CallerLeft", "Refusal", "as_refusal", "problem_headers", "problem_of"]

_CODES_OF_STATUS: Final = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
}


class CallerLeft(Exception):  # noqa: N818 - no error to answer: the connection is gone
    """The caller hung up before its answer was ready."""


class Refusal(Exception):  # noqa: N818 - an answer to the caller, not a fault of ours
    """A request, or one call of many, that gets a problem instead of an answer.

    Attributes:
        code: a row of the table in `matfn.errors`.
        detail: the value, the limit and what they mean for this call.
        hint: what to try; None takes the table's.
        index: which matrix of the batch, where it is one.
        retry_after: seconds until the same call may succeed.
        status: instead of the table's status.
        allow: the methods that the route does take.
    """

    def __init__(  # noqa: PLR0913 - one argument per member of the problem object
        self,
        code: str,
        detail: str,
        hint: str | None = None,
        *,
        index: int | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.index = index
        self.retry_after = retry_after
        self.status = status
        self.allow = allow

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call, by name, for the fronts."""
        return partial(Refusal, **vars(self)), ()


REFUSALS: Final = (Refusal, Rejection, DecodeError)  # by the service, by the kernels, by the wire


def as_refusal(error: Exception) -> Refusal:
    """The refusal that an exception means to the caller; an unexpected one is `internal`, without details."""
    match error:
        case Refusal():
            return error.with_traceback(None)  # whose frames would hold it, and what was sent, until a whole collection
        case Rejection():
            return Refusal(error.code, error.detail, error.hint, index=error.index)
        case DecodeError():
            return Refusal(error.code, error.detail, error.hint)
        case HTTPException():
            return _of_framework(error)
        case RequestValidationError():
            return Refusal("malformed", "; ".join(str(entry["msg"]) for entry in error.errors()))
        case _:
            return _of_failure(error)


def _of_failure(error: Exception) -> Refusal:
    if is_for_memory(error):
        return Refusal("out_of_memory", "the server has too little memory for this request now")
    return Refusal("internal", "the server failed on this request; its log has the reason")


def _of_framework(error: HTTPException) -> Refusal:
    code = _CODES_OF_STATUS.get(HTTPStatus(error.status_code))
    if code is None:
        code = "malformed" if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else "internal"
    allow = (error.headers or {}).get("Allow")
    return Refusal(code, error.detail, status=error.status_code, allow=allow and _allow(allow))


def _allow(methods: str) -> str:
    """The methods of a route and those that every route has, each once."""
    return ", ".join(sorted({*methods.split(", "), "HEAD", "OPTIONS"}))


def problem_of(refusal: Refusal, request_id: str) -> Problem:
    """The problem document of a refusal."""
    problem = Problem.of(refusal.code, refusal.detail, hint=refusal.hint, index=refusal.index)
    wait = refusal.retry_after
    return replace(
        problem,
        status=refusal.status or problem.status,
        request_id=request_id,
        retry_after_ms=None if wait is None else wait * 1000.0,
    )


def problem_headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """The headers that a status needs besides its body: Retry-After, Allow, WWW-Authenticate."""
    headers = []
    if refusal.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(refusal.retry_after)))
    if refusal.allow is not None:
        headers.append((b"allow", refusal.allow.encode("latin-1")))
    if refusal.code == "unauthorized" and refusal.status is None:  # 403 is for no want of a key
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
