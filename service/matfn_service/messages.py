"""The messages between the service and a worker; both ends pickle them by these names."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from matfn_kernels import Batch, evaluate_together
from matfn_service.encoding import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from torch import Tensor

    from matfn_kernels import Backends, Program, Requested
    from matfn_service.arena import Arena, Slot
    from matfn_service.encoding import Status

__all__ = ["Answer", "Call", "Done", "Evaluate", "Failed", "Repeated"]

T = TypeVar("T")

Answer: TypeAlias = "tuple[list[Slot], tuple[Status, ...], tuple[bytes, ...]]"


@dataclass(frozen=True, slots=True, eq=False)
class Repeated(Generic[T]):
    """A value that message after message has: either end pickles it once, and the other keeps one object of it."""

    value: T

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as the bytes of the value."""
        return _again, (_pickled(self.value),)


@lru_cache(maxsize=256)
def _pickled(value: Hashable) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


@lru_cache(maxsize=256)
def _again(octets: bytes) -> Repeated[object]:
    return Repeated(pickle.loads(octets))  # noqa: S301 - from the other end of this program


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Batches whose inputs lie in shared memory, to be computed.

    Attributes:
        members: the program of each batch, its inputs and the requested tolerances of its matrices.
        end: the offset from which the arena is free.
        room: where the outputs lie if they fit there, as bytes.
        backends: those of the programs' plans.
    """

    members: list[tuple[Repeated[Program], dict[str, Slot], tuple[Requested, ...]]]
    end: int
    room: Slot | None
    backends: Repeated[Backends]

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call, in a fraction of the default's time."""
        return Evaluate, (self.members, self.end, self.room, self.backends)

    def __call__(self, arena: Arena) -> list[Answer]:
        """The answers, their outputs in shared memory."""
        batches = [
            (program.value, Batch({name: arena.get(slot) for name, slot in slots.items()}, requested))
            for program, slots, requested in self.members
        ]
        answers = [encode(evaluation) for evaluation in evaluate_together(batches, self.backends.value)]
        slots = iter(self._put(arena, [output for answer in answers for output in answer.outputs]))
        return [([next(slots) for _ in a.outputs], a.statuses, a.certificates) for a in answers]

    def _put(self, arena: Arena, outputs: list[Tensor]) -> list[Slot]:
        slots = None if self.room is None else arena.put_in(self.room, outputs)
        if slots is None:
            arena.end = self.end
            slots = [arena.put([output]) for output in outputs]
        return slots


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

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call."""
        return Done, (self.value, self.seconds)


@dataclass(frozen=True, slots=True)
class Failed:
    """The traceback of a message that raised, and whether memory had run out."""

    text: str
    for_memory: bool
