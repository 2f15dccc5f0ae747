"""Matrix functions as a service: batched, certified roots, polar factors, clipping and triangular inverses.

with matfn.Client("http://127.0.0.1:8000") as client:
    x = client.inv_root(a, r=4)
"""

from matfn import call, verification
from matfn.answers import Answer
from matfn.async_client import AsyncClient
from matfn.client import Client
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
    NotFinite,
    NotFound,
    NotPositive,
    NotStabilisable,
    NotSymmetric,
    OutOfMemory,
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
from matfn.local import LocalClient
from matfn.session import package_version as _package_version
from matfn.wire import Certificate, Outcome, Residual, Timing

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
    "NotFinite",
    "NotFound",
    "NotPositive",
    "NotStabilisable",
    "NotSymmetric",
    "OutOfMemory",
    "Outcome",
    "Problem",
    "ProblemError",
    "ProtocolError",
    "Residual",
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
    "verification",
]

__version__ = _package_version()
