"""The messages between the service and a worker; both ends pickle them by these names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from matfn_kernels import Batch, evaluate_together
from matfn_service.encoding import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from matfn_kernels import Backends, Program, Requested
    from matfn_service.arena import Arena, Slot
    from matfn_service.encoding import Status

__all__ = ["Answer", "Call", "Done", "Evaluate", "Failed"]

T = TypeVar("T")

Answer: TypeAlias = "tuple[list[Slot], tuple[Status, ...], tuple[bytes, ...]]"


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Batches whose inputs lie in shared memory, to be computed.

    Attributes:
        members: the program of each batch, its inputs and the requested tolerances of its matrices.
        end: the offset from which shared memory is free.
        backends: those of the programs' plans.
    """

    members: list[tuple[Program, dict[str, Slot], tuple[Requested, ...]]]
    end: int
    backends: Backends

    def __call__(self, arena: Arena) -> list[Answer]:
        """The answers, their outputs in shared memory."""
        batches = [
            (program, Batch({name: arena.get(slot) for name, slot in slots.items()}, requested))
            for program, slots, requested in self.members
        ]
        answers = [encode(evaluation) for evaluation in evaluate_together(batches, self.backends)]
        arena.end = self.end
        return [([arena.put([output]) for output in a.outputs], a.statuses, a.certificates) for a in answers]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A function to be called."""

    work: Callable[[], T]

    def __call__(self, arena: Arena) -> T:
        """The function's value."""
        del arena
        return self.work()


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The value of a message, and the seconds that it took."""

    value: T
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The traceback of a message that raised, and whether memory had run out."""

    text: str
    for_memory: bool
