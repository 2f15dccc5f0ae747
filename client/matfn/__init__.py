"""Matrix functions as a service: certified roots, logarithms, polar factors and matrix equations in batches.

with matfn.Client("http://127.0.0.1:8000") as client:
    x = client.inv_root(a, r=4)
"""

from typing import TYPE_CHECKING, Any

from matfn import call, gradient, verification
from matfn.answers import Answer
from matfn.errors import (
    ApproximateWarning,
    Busy,
    ClosedError,
    DeadlineExceeded,
    Draining,
    ForkedError,
    InternalError,
    InvalidParameter,
    InvalidShape,
    Malformed,
    MatfnError,
    MethodNotAllowed,
    NotConverged,
    NotDifferentiable,
    NotFinite,
    NotFound,
    NotPositive,
    NotStabilisable,
    NotSymmetric,
    OutOfMemory,
    OutOfRange,
    Problem,
    ProblemError,
    ProtocolError,
    SignUndefined,
    Singular,
    TooLarge,
    TransportError,
    TransportTimeout,
    Unauthorized,
    UnknownFunction,
    UnsupportedArray,
    UnsupportedDtype,
    UnsupportedMediaType,
    Unverifiable,
    WorkerLost,
)
from matfn.invocation import Invocation
from matfn.wire import Certificate, Outcome, Residual, Timing

if TYPE_CHECKING:
    from matfn.async_client import AsyncClient
    from matfn.client import Client
    from matfn.local import LocalClient
    from matfn.observing import RequestInfo, ResponseInfo

    __version__: str

__all__ = [
    "Answer",
    "ApproximateWarning",
    "AsyncClient",
    "Busy",
    "Certificate",
    "Client",
    "ClosedError",
    "DeadlineExceeded",
    "Draining",
    "ForkedError",
    "InternalError",
    "InvalidParameter",
    "InvalidShape",
    "Invocation",
    "LocalClient",
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
    "Outcome",
    "Problem",
    "ProblemError",
    "ProtocolError",
    "RequestInfo",
    "Residual",
    "ResponseInfo",
    "SignUndefined",
    "Singular",
    "Timing",
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
    "call",
    "gradient",
    "verification",
]

_MODULES = {
    "AsyncClient": "matfn.async_client",
    "Client": "matfn.client",
    "LocalClient": "matfn.local",
    "RequestInfo": "matfn.observing",
    "ResponseInfo": "matfn.observing",
}

if not TYPE_CHECKING:  # which would take any name for one of these

    def __getattr__(name: str) -> Any:
        """The clients, which are imported when they are first used, and the version."""
        if name == "__version__":
            from matfn.session import package_version

            return package_version()
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
