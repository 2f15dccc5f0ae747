"""The table of error codes: what each means in HTTP, in words, and what to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TABLE", "ErrorCode", "Problem", "is_retryable", "status_of"]


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One row of the table: a code with its HTTP status, title, remedy, and whether the same call may succeed later."""

    code: str
    status: int
    title: str
    hint: str
    retryable: bool = False


TABLE: Final[Mapping[str, ErrorCode]] = {
    row.code: row
    for row in (
        ErrorCode(
            "malformed",
            400,
            "The request cannot be read",
            "send msgpack or JSON with inputs, params and options (/v2: its protocol); /docs shows the schema",
        ),
        ErrorCode(
            "unauthorized",
            401,
            "The API key is missing or wrong",
            "set MATFN_API_KEY, or pass api_key to the client; over HTTP send the header Authorization: Bearer KEY",
        ),
        ErrorCode("unknown_function", 404, "There is no such function", "GET /v1/functions lists the names"),
        ErrorCode("not_found", 404, "There is no such route", "GET /openapi.json lists the routes"),
        ErrorCode(
            "method_not_allowed",
            405,
            "The route does not take this method",
            "GET /openapi.json lists the routes with their methods",
        ),
        ErrorCode(
            "too_large",
            413,
            "The call exceeds a limit of the server",
            "split the batch, or raise MATFN_MAX_ORDER, MATFN_MAX_ITEMS or MATFN_MAX_REQUEST_BYTES",
        ),
        ErrorCode(
            "unsupported_media_type",
            415,
            "The body's media type or encoding is not understood",
            "send application/msgpack or application/json, uncompressed",
        ),
        ErrorCode(
            "invalid_shape",
            422,
            "The shapes do not fit",
            "leading dimensions broadcast; GET /v1/functions gives the trailing ones",
        ),
        ErrorCode(
            "invalid_parameter",
            422,
            "A parameter or option is outside its domain",
            "GET /v1/functions gives names, defaults and bounds",
        ),
        ErrorCode("unsupported_dtype", 422, "The function is not defined on this dtype", "send float32 or float64"),
        ErrorCode(
            "not_finite",
            422,
            "An input holds NaN or infinity",
            'drop the matrix named by index, or set on_failure="nan" to keep the others',
        ),
        ErrorCode(
            "not_symmetric",
            422,
            "A matrix declared symmetric is not",
            "send (A + A^T) / 2 if the difference is rounding",
        ),
        ErrorCode(
            "not_positive",
            422,
            "A matrix has an eigenvalue that the function excludes",
            "set damping above the most negative eigenvalue relative to the largest",
        ),
        ErrorCode(
            "singular",
            422,
            "The matrix is singular",
            "set damping where the function has it, or check for zero rows and zero diagonal entries",
        ),
        ErrorCode(
            "sign_undefined", 422, "An eigenvalue lies on the imaginary axis", "shift the matrix off the imaginary axis"
        ),
        ErrorCode(
            "not_stabilisable",
            422,
            "The equation has no stabilising solution",
            "check that every unstable mode can be reached through b and is seen by q",
        ),
        ErrorCode(
            "out_of_range",
            422,
            "An entry of the answer is too large for its dtype",
            "scale the input, or send a wider dtype",
        ),
        ErrorCode(
            "not_converged",
            422,
            "The tolerance asked for was missed",
            "raise tol, allow precision='fp64', or send float64",
        ),
        ErrorCode(
            "busy",
            429,
            "There is no room for the call now",
            "wait for retry_after_ms; the Python client does",
            retryable=True,
        ),
        ErrorCode(
            "internal",
            500,
            "The server failed",
            "report the request id; the server's log has the trace",
            retryable=True,
        ),
        ErrorCode(
            "worker_lost",
            500,
            "The processes that computed the call were lost",
            "send its matrices one by one; the server's log has the reason under worker lost",
        ),
        ErrorCode(
            "draining",
            503,
            "The server is shutting down",
            "try another replica, or this one after its restart",
            retryable=True,
        ),
        ErrorCode(
            "out_of_memory",
            503,
            "The device has no memory left",
            "send fewer or smaller matrices in one call",
            retryable=True,
        ),
        ErrorCode(
            "deadline_exceeded",
            504,
            "The deadline passed before the answer",
            "allow a later deadline, or raise the call's priority",
        ),
    )
}


def status_of(code: str) -> int:
    """The HTTP status of a code of the table; KeyError for any other."""
    return TABLE[code].status


def is_retryable(code: str) -> bool:
    """Whether the same call may succeed later; a code that this version does not know may not."""
    row = TABLE.get(code)
    return row is not None and row.retryable


@dataclass(frozen=True, slots=True)
class Problem:
    """An RFC 9457 problem document; `index` is the failed matrix of a batch."""

    code: str
    detail: str
    status: int
    title: str
    hint: str | None = None
    index: int | None = None
    request_id: str = ""
    retry_after_ms: float | None = None

    @classmethod
    def of(cls, code: str, detail: str, *, hint: str | None = None, index: int | None = None) -> Problem:
        """The problem of a code in the table, with that row's status and title, and its hint if none is given."""
        row = TABLE[code]
        return cls(code, detail, row.status, row.title, hint or row.hint, index)
