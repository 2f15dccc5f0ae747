"""Answers for an optimizer from a client that works beside the training step.

    Refresher(client, schedule, tolerated, executor).advance(progress, subject)     once a step

Rules of this file:
- A step copies the matrices, and leaves all else to the executor's thread.
- A step waits only where the schedule says so; every other step looks whether the answers are there.
- What failed keeps what it had, with one warning a refresh. A matrix whose refreshes fail more often in a row than is
  tolerated raises its error, and an input or answer that is not finite raises at once.
- What is asked is the subject's business: inverse roots, or eigenbases.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

import torch

from matfn.answers import Answer, outputs_of
from matfn.callers import callers_line
from matfn.errors import ClosedError, MatfnError, NotFinite
from matfn.shared_client import shared_client

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from concurrent.futures import Executor, Future

    from torch import Tensor

    from matfn.invocation import Invocation
    from matfn.optim.schedule import Progress, Schedule

__all__ = ["ManyAnswers", "RefreshClient", "RefreshWarning", "Refreshed", "Refresher", "Subject"]

_Results: TypeAlias = "dict[Hashable, Answer[Any] | MatfnError]"


class RefreshWarning(UserWarning):
    """A refresh failed or is late, and the optimizer goes on with what it has."""


class ManyAnswers(Protocol):
    """A client that answers many calls in one request."""

    def map(self, calls: Iterable[Invocation[Any]], *, on_error: Literal["return"]) -> list[Answer[Any] | MatfnError]:
        """An answer or an error for each call, in their order."""


class RefreshClient(Protocol):
    """A client whose answers have certificates, such as Client and LocalClient."""

    @property
    def with_info(self) -> ManyAnswers:
        """The functions with certificates."""


def chosen_client(client: RefreshClient | None) -> RefreshClient:
    """The client, or for None the one in this process that all share.

    Raises:
        TypeError: it is no client that answers by itself, such as an AsyncClient or a URL.
    """
    if client is None:
        return shared_client()
    many = getattr(getattr(client, "with_info", None), "map", None)
    if many is None or iscoroutinefunction(many):
        raise TypeError(f"client is {type(client).__qualname__}; an optimizer takes a Client, a LocalClient or None")
    return client


class Subject(Protocol):
    """The results of a refresh of an optimizer, named in the plural by `noun`."""

    noun: ClassVar[str]

    def freeze(self) -> None:
        """Keeps copies of the matrices as they are now, which a checkpoint carries."""

    def frozen(self) -> Mapping[Hashable, Tensor]:
        """These copies; nothing writes to them."""

    def calls(self, frozen: Mapping[Hashable, Tensor]) -> Mapping[Hashable, Invocation[Any]]:
        """The calls about them, at most one for each; made beside the training step, in another thread."""

    def adopt(self, answers: Mapping[Hashable, Any]) -> None:
        """Uses these answers from now on, and drops the copies."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The outcome of a refresh.

    Attributes:
        asked: step at which it was asked for.
        ended: step at which it was adopted, or found to have failed.
        answered: matrices with an answer.
        failed: matrices without one, which keep what they had.
        error_estimate: largest relative error of an answer by the certificates, 0 without any; None if one has none.
    """

    asked: int
    ended: int
    answered: int
    failed: int
    error_estimate: float | None


@dataclass(frozen=True, slots=True)
class _Flight:
    """A refresh that was sent: the future of its answers, and whether a checkpoint held it."""

    future: Future[_Results]
    resumed: bool


class Refresher:
    """Sends refreshes, adopts their answers and counts failures.

    Args:
        client: answers the calls, all of a refresh together.
        schedule: when to ask, adopt and wait.
        tolerated: failures in a row that each matrix may have.
        executor: runs the client's calls.
    """

    def __init__(self, client: RefreshClient, schedule: Schedule, tolerated: int, executor: Executor) -> None:
        if tolerated < 0:
            raise ValueError(f"tolerated_failures={tolerated} is negative; 0 raises the first failure")
        self._client = client
        self._schedule = schedule
        self._tolerated = tolerated
        self._executor = executor
        self._failures: dict[Hashable, int] = {}
        self._flight: _Flight | None = None
        self._told_late = False
        self.last: Refreshed | None = None

    def renewed(self) -> Refresher:
        """A refresher of the same client and schedule that has sent nothing yet."""
        return Refresher(self._client, self._schedule, self._tolerated, self._executor)

    def advance(self, progress: Progress, subject: Subject) -> None:
        """One step's part of the refreshes.

        Raises:
            MatfnError: a matrix failed more often than is tolerated, is not finite, or the client is closed.
        """
        if progress.pending:
            self._flight = self._flight or self._sent(subject, resumed=True)
            self._land(progress, subject)
        if self._schedule.asks(progress):
            subject.freeze()
            progress.begin()
            self._flight = self._sent(subject)
            self._land(progress, subject)

    def _sent(self, subject: Subject, *, resumed: bool = False) -> _Flight:
        frozen = subject.frozen()
        settled = _settled(frozen.values())
        return _Flight(self._executor.submit(_answers, self._client, subject, frozen, settled), resumed)

    def _land(self, progress: Progress, subject: Subject) -> None:
        """Adopts the pending answers if they are due and there, or are waited for."""
        flight = self._flight
        if flight is None or not self._schedule.adopts(progress):
            return
        if not (flight.future.done() or self._waits(flight, progress)):
            self._tell_late(progress, subject.noun)
            return
        error = flight.future.exception()  # an interrupt while this waits leaves the refresh pending
        self._flight, self._told_late = None, self._told_late and self._schedule.is_late(progress)
        if error is not None:
            subject.adopt({})
            progress.end(adopted=False)
            raise error
        self._take(flight.future.result(), progress, subject)

    def _waits(self, flight: _Flight, progress: Progress) -> bool:
        # a refresh sent again from a checkpoint is waited for like a first one: the run goes on as if never interrupted
        return self._schedule.waits(progress) or (flight.resumed and self._schedule.first == "sync")

    def _take(self, results: _Results, progress: Progress, subject: Subject) -> None:
        answers = {key: result for key, result in results.items() if isinstance(result, Answer)}
        errors = {key: result for key, result in results.items() if isinstance(result, MatfnError)}
        subject.adopt({key: answer.value for key, answer in answers.items()})
        progress.end(adopted=bool(answers) or not errors)
        self._failures = {key: self._failures.get(key, 0) + 1 for key in errors}
        self.last = Refreshed(progress.asked, progress.step, len(answers), len(errors), _worst(list(answers.values())))
        self._judge(errors)

    def _judge(self, errors: Mapping[Hashable, MatfnError]) -> None:
        """Raises the error that may not be tolerated, or warns of those that may."""
        for key, error in errors.items():
            if isinstance(error, NotFinite) or self._failures[key] > self._tolerated:
                error.add_note(f"refresh of {key}: failure {self._failures[key]} in a row, {self._tolerated} tolerated")
                raise error
        if errors:
            key, error = next(iter(errors.items()))
            count, of = max(self._failures.values()), self._tolerated
            words = (
                f"{len(errors)} matrices keep what they had: failure {count} in a row, {of} tolerated; {key}: {error}"
            )
            callers_line().warn(words, RefreshWarning)

    def _tell_late(self, progress: Progress, noun: str) -> None:
        """Warns of a late answer, once until one is in time."""
        if self._told_late or not self._schedule.is_late(progress):
            return
        self._told_late = True
        in_use = f"the {noun} of step {progress.adopted} stay" if progress.adopted else f"no {noun} are"
        late = f"the refresh of step {progress.asked} has no answer at step {progress.step}"
        words = f"{late}; {in_use} in use (on_late='wait' waits)"
        callers_line().warn(words, RefreshWarning)


def _answers(
    client: RefreshClient, subject: Subject, frozen: Mapping[Hashable, Tensor], settled: Callable[[], None]
) -> _Results:
    """The client's answers, complete in memory when this returns, on whatever streams they were computed."""
    settled()
    calls = subject.calls(frozen)
    results = dict(zip(calls, client.with_info.map(calls.values(), on_error="return"), strict=True))
    _settled([part for result in results.values() if isinstance(result, Answer) for part in outputs_of(result.value)])()
    for key, result in results.items():
        if isinstance(result, ClosedError):
            raise result
        if isinstance(result, Answer) and not _is_finite(result.value):
            raise FloatingPointError(f"the answer of {calls[key].function} to {key} holds NaN or infinity")
    return results


def _is_finite(value: Any) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in outputs_of(value))


def _settled(tensors: Iterable[Tensor]) -> Callable[[], None]:
    """A wait for what is queued now on the streams of these tensors' devices; none on a CPU."""
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    events: list[Any] = [torch.cuda.current_stream(device).record_event() for device in devices]

    def wait() -> None:
        for event in events:
            event.synchronize()

    return wait


def _worst(answers: Sequence[Answer[Any]]) -> float | None:
    estimates = [certificate.error_estimate for answer in answers for certificate in answer.certificates]
    known = [estimate for estimate in estimates if estimate is not None]
    return max(known, default=0.0) if len(known) == len(estimates) else None
