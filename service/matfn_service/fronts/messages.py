"""The messages between the server and a front; both ends pickle them by these names."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matfn_kernels import Profile, Program, Requested
    from matfn_service.arena import Slot
    from matfn_service.encoding import Status
    from matfn_service.ledger import Charges
    from matfn_service.messages import Repeated
    from matfn_service.problems import Refusal
    from matfn_service.settings import Settings
    from matfn_service.statistics import Statistics
    from matfn_service.tracing import SpanReference

__all__ = [
    "Abandon",
    "Ask",
    "Asked",
    "Counted",
    "Delivered",
    "Ended",
    "Hello",
    "Over",
    "Ready",
    "Refused",
    "Release",
    "Renewed",
    "Serving",
    "Submit",
    "Told",
    "Unready",
]


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message to a front: the settings that are in force."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Renewed:
    """The settings that are in force from now on."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Ready:
    """The server is warm: the profile by which plans are made, and the names that answers carry."""

    profile: Profile
    device: str
    workers: int


@dataclass(frozen=True, slots=True)
class Unready:
    """The server could not warm up, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Serving:
    """The front listens, and takes calls: its loop turns."""


@dataclass(frozen=True, slots=True)
class Submit:
    """A job for the queue, with the attributes of `matfn_service.jobs.Job`, and the number and name of its request.

    Attributes:
        span: of the request, if it is recorded.
    """

    number: int
    request: int
    caller: str
    program: Repeated[Program]
    inputs: dict[str, Slot]
    requested: tuple[Requested, ...]
    function: str
    seconds: float
    bytes: int
    answer_bytes: int
    priority: int
    arrived: float
    deadline: float
    tenant: str
    span: SpanReference | None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call, several times as fast as the default."""
        return Submit, _FIELDS_OF(self)


_FIELDS_OF: Final = attrgetter(*Submit.__slots__)


@dataclass(frozen=True, slots=True)
class Over:
    """A request has ended, of a key whose jobs were sent."""

    request: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """The caller of a job has left."""

    number: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """The answer to a job: what `matfn_service.jobs.Served` has, the outputs as they travel."""

    number: int
    evaluations: tuple[tuple[tuple[Slot, ...], tuple[Status, ...], tuple[bytes, ...]], ...]
    queue_seconds: float
    spans: tuple[tuple[float, float], ...]
    batch_size: int
    fill: float
    batches: tuple[SpanReference, ...]

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call, likewise."""
        first = self.number, self.evaluations, self.queue_seconds
        return Delivered, (*first, self.spans, self.batch_size, self.fill, self.batches)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a job, or a question, has no answer."""

    number: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Release:
    """The answer to a job is no longer read where the server put it."""

    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that the server itself answers, as an ASGI scope."""

    number: int
    scope: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One more ASGI message from the caller of such a request."""

    number: int
    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """One more ASGI message to that caller."""

    number: int
    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer to such a request is complete."""

    number: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of a front since it last told, what it holds, and a sign that its loop turns."""

    statistics: Statistics
    charges: Charges
