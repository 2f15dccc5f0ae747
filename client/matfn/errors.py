"""Every error of matfn, its code, its HTTP status and what to try next, in one table.

MatfnError                      anything this package raises on purpose
├── ClosedError                 the client was closed before the call
├── ForkedError                 a forked process cannot compute on the GPU of its parent
├── UnsupportedArray            an array would lose something on its way, or is none; nothing was sent
├── TransportError              never got an answer: name not resolved, refused, reset
│   ├── TransportTimeout        the answer did not come within the client's timeout
│   └── ProtocolError           something came back, but no answer of matfn
└── ProblemError                got an answer, and it says no
    ├── Malformed               400   ├── InvalidShape        422   ├── Singular          422
    ├── Unauthorized            401   ├── InvalidParameter    422   ├── SignUndefined     422
    ├── UnknownFunction         404   ├── UnsupportedDtype    422   ├── NotStabilisable   422
    ├── NotFound                404   ├── NotFinite           422   ├── NotConverged      422
    ├── MethodNotAllowed        405   ├── NotSymmetric        422   ├── Busy              429
    ├── TooLarge                413   ├── NotPositive         422   ├── Draining          503
    ├── UnsupportedMediaType    415   ├── OutOfRange          422   ├── OutOfMemory       503
    └── DeadlineExceeded        504   ├── InternalError       500   └── WorkerLost        500

Errors of status 422 are ValueErrors too. Those of matrices that have no answer, or none within the tolerance, are also
numpy.linalg.LinAlgErrors: NotPositive, Singular, SignUndefined, NotStabilisable, OutOfRange and NotConverged.

Unverifiable                    an UnknownFunction and AttributeError: no answer of this function can be verified
NotDifferentiable               an UnknownFunction and AttributeError: this function has no gradients

ApproximateWarning              an answer came, but its certificate says `approximate`
"""

# ruff: noqa: N818 - the names say what happened, as the contract spells them

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Final

from numpy.linalg import LinAlgError

from matfn._codes import TABLE, ErrorCode, Problem, is_retryable, status_of

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "TABLE",
    "ApproximateWarning",
    "Busy",
    "ClosedError",
    "DeadlineExceeded",
    "Draining",
    "ErrorCode",
    "ForkedError",
    "InternalError",
    "InvalidParameter",
    "InvalidShape",
    "Malformed",
    "MatfnError",
    "MethodNotAllowed",
    "NotConverged",
    "NotDifferentiable",
    "NotFinite",
    "NotFound",
    "NotPositive",
    "NotStabilisable",
    "NotSymmetric",
    "OutOfMemory",
    "OutOfRange",
    "Problem",
    "ProblemError",
    "ProtocolError",
    "SignUndefined",
    "Singular",
    "TooLarge",
    "TransportError",
    "TransportTimeout",
    "Unauthorized",
    "UnknownFunction",
    "UnsupportedArray",
    "UnsupportedDtype",
    "UnsupportedMediaType",
    "Unverifiable",
    "WorkerLost",
    "is_retryable",
    "problem_error",
    "status_of",
]


class MatfnError(Exception):
    """Base of all errors of this package.

    try:
        x = client.inv_root(a, r=4)
    except matfn.NotPositive as error:      # the server's answer is no, and why
        print(error.index, error.hint)
    except matfn.TransportError:            # the server could not be reached
        ...

    Attributes:
        call: the place of the call among those given to `map`; None for a single call.
    """

    call: int | None = None

    def of_call(self, place: int) -> Self:
        """A copy of the error that names its call among those given to `map`."""
        other = copy(self)
        other.call, other.__cause__ = place, self.__cause__
        return other

    def _named(self, words: str) -> str:
        return words if self.call is None else f"call {self.call}: {words}"


class ClosedError(MatfnError):
    """The client was closed before this call."""


class ForkedError(MatfnError):
    """This process was forked from one that uses a GPU, which it cannot use itself; a spawned process can."""


class UnsupportedArray(MatfnError, TypeError, ValueError):
    """An input is no dense array of numbers, or has something besides them that would be lost; nothing was sent.

    Attributes:
        detail: what was given.
        hint: what to pass instead; empty where that depends.
    """

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail, hint)
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        return self._named(f"{self.detail} ({self.hint})" if self.hint else self.detail)


class TransportError(MatfnError):
    """No answer was received: the name did not resolve, the connection was refused, reset or cut."""


class TransportTimeout(TransportError):
    """No answer came within the client's timeout; the call is not sent again, because the server may be at work."""


class ProtocolError(TransportError):
    """The response is no answer of matfn: another server's page, or another version's format."""


_CLASSES: Final[dict[str, type[ProblemError]]] = {}


class ProblemError(MatfnError):
    """The server, or this process for a LocalClient, answered with a problem."""

    def __init_subclass__(cls, code: str = "", **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if code:
            _CLASSES[code] = cls

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    @property
    def code(self) -> str:
        """The stable name of the error, such as `not_positive`."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status that belongs to the code."""
        return self.problem.status

    @property
    def title(self) -> str:
        """The code in a few words."""
        return self.problem.title

    @property
    def detail(self) -> str:
        """The fault of this call, and which call it was if there were many."""
        return self._named(self.problem.detail)

    @property
    def hint(self) -> str | None:
        """A remedy to try."""
        return self.problem.hint

    @property
    def index(self) -> int | None:
        """Which matrix of the batch is meant, counted over the flattened leading dimensions."""
        return self.problem.index

    @property
    def request_id(self) -> str:
        """The name of the request in the server's log; empty if none was sent."""
        return self.problem.request_id

    @property
    def retry_after_ms(self) -> float | None:
        """How long the server asks to wait before the next attempt."""
        return self.problem.retry_after_ms

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.code}: {self.detail}{hint}"


class Malformed(ProblemError, code="malformed"):
    """The request could not be read."""


class Unauthorized(ProblemError, code="unauthorized"):
    """No API key, or one that the server does not know."""


class UnknownFunction(ProblemError, code="unknown_function"):
    """The server has no function of this name."""


class Unverifiable(UnknownFunction, AttributeError):
    """A function of `client.verify` does not exist, because no answer of it can be verified."""


class NotDifferentiable(UnknownFunction, AttributeError):
    """A function of `client.vjp` does not exist, because there are no gradients of it."""


class NotFound(ProblemError, code="not_found"):
    """The server has no such route."""


class MethodNotAllowed(ProblemError, code="method_not_allowed"):
    """The route exists, but not for this HTTP method."""


class TooLarge(ProblemError, code="too_large"):
    """The call exceeds a limit of the server; raised without sending where the limits are known."""


class UnsupportedMediaType(ProblemError, code="unsupported_media_type"):
    """The body is neither msgpack nor JSON, or is compressed."""


class InvalidShape(ProblemError, ValueError, code="invalid_shape"):
    """The inputs' shapes do not fit the function or one another."""


class InvalidParameter(ProblemError, ValueError, code="invalid_parameter"):
    """A parameter or an option is unknown, missing or outside its domain."""


class UnsupportedDtype(ProblemError, ValueError, code="unsupported_dtype"):
    """The function is not defined on this dtype."""


class NotFinite(ProblemError, ValueError, code="not_finite"):
    """An input holds NaN or infinity."""


class NotSymmetric(ProblemError, ValueError, code="not_symmetric"):
    """An input declared symmetric is not."""


class NotPositive(ProblemError, LinAlgError, code="not_positive"):
    """A matrix has an eigenvalue where the function needs none."""


class Singular(ProblemError, LinAlgError, code="singular"):
    """The answer does not exist because a matrix, or the equation's operator, is singular."""


class SignUndefined(ProblemError, LinAlgError, code="sign_undefined"):
    """An eigenvalue lies on the imaginary axis, where the matrix sign is undefined."""


class NotStabilisable(ProblemError, LinAlgError, code="not_stabilisable"):
    """The Riccati equation has no stabilising solution."""


class OutOfRange(ProblemError, LinAlgError, code="out_of_range"):
    """An entry of the answer is too large for its dtype."""


class NotConverged(ProblemError, LinAlgError, code="not_converged"):
    """The tolerance asked for was missed."""


class Busy(ProblemError, code="busy"):
    """The queue is full, or the key is at a limit of its own; `retry_after_ms` says when to try again."""


class Draining(ProblemError, code="draining"):
    """The server is shutting down and takes no new calls."""


class WorkerLost(ProblemError, code="worker_lost"):
    """The processes that computed the call ended, hung or were killed, or the call took far longer than predicted."""


class OutOfMemory(ProblemError, code="out_of_memory"):
    """The device had no memory left for this call."""


class DeadlineExceeded(ProblemError, code="deadline_exceeded"):
    """The call's deadline passed, or cannot be met with the present backlog."""


class InternalError(ProblemError, code="internal"):
    """A defect of the server; the request id finds it in the log."""


class ApproximateWarning(UserWarning):
    """An answer is usable but less accurate than asked for; its certificate says by how much."""


def problem_error(problem: Problem) -> ProblemError:
    """The exception of a problem: the class of its code, or plain ProblemError for a code of a later version."""
    return _CLASSES.get(problem.code, ProblemError)(problem)
