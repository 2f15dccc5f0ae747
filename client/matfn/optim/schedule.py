"""When a refresh is asked for, adopted and waited for: rules without torch, a clock or a client.

    step    t                    t + every              t + max_staleness
            factors are read     roots are adopted      where they are late: kept, or waited for

Rules of this file:
- One refresh is under way at a time. It is asked for `every` steps after the one before.
- Its roots are adopted at a fixed step, not when they happen to arrive, so that a run can be repeated bit for bit.
- `max_staleness` is the largest age of the factors whose roots are in use, in steps: 2 `every` (the default) adopts
  roots one interval later, `every` at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["First", "OnLate", "Progress", "Schedule"]

First: TypeAlias = Literal["sync", "async"]
OnLate: TypeAlias = Literal["keep", "wait"]

_PREFIX: Final = "refresh_"


@dataclass(slots=True)
class Progress:
    """How far the refreshes of an optimizer have come; steps count from 1, and 0 means never.

    Attributes:
        step: steps that the optimizer has begun.
        asked: step at which the latest refresh was asked for.
        adopted: step whose factors the roots in use belong to.
        pending: 1 while the latest refresh is neither adopted nor failed.
        ended: refreshes that were adopted or failed.
    """

    step: int = 0
    asked: int = 0
    adopted: int = 0
    pending: int = 0
    ended: int = 0

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> Progress:
        """The progress that a parameter group holds."""
        return cls(**{name: group[_PREFIX + name] for name in cls.__slots__})

    def entries(self) -> dict[str, int]:
        """The progress as entries of a parameter group, which a checkpoint carries."""
        return {_PREFIX + name: value for name, value in asdict(self).items()}

    def store(self, groups: Iterable[dict[str, Any]]) -> None:
        """Writes the progress into every group."""
        for group in groups:
            group.update(self.entries())

    def begin(self) -> None:
        """Notes that a refresh was asked for at this step."""
        self.asked, self.pending = self.step, 1

    def end(self, *, adopted: bool) -> None:
        """Notes that the pending refresh was adopted, or failed."""
        self.adopted = self.asked if adopted else self.adopted
        self.pending, self.ended = 0, self.ended + 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps at which refreshes are asked for, adopted and waited for.

    Attributes:
        every: steps from one refresh to the next.
        start: the first step with a refresh.
        max_staleness: steps that the factors of the roots in use may be old.
        first: whether the first refresh is waited for at once.
        on_late: what to do where max_staleness is reached without an answer.
    """

    every: int
    start: int
    max_staleness: int
    first: First
    on_late: OnLate

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("start", 1), ("max_staleness", self.every)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                argument = {"every": "refresh_every", "start": "start_step"}.get(name, name)
                raise ValueError(f"{argument}={value!r} must be a whole number of steps, at least {least}")
        for name, allowed in (("first", get_args(First)), ("on_late", get_args(OnLate))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is none of {', '.join(map(repr, allowed))}")

    def asks(self, progress: Progress) -> bool:
        """Whether a refresh is to be asked for at this step."""
        earliest = progress.asked + self.every if progress.asked else self.start
        return not progress.pending and progress.step >= earliest

    def adopts(self, progress: Progress) -> bool:
        """Whether the pending refresh is to be adopted if it has been answered."""
        delay = min(self.max_staleness - self.every, self.every)
        return self._waits_at_once(progress) or progress.step >= progress.asked + delay

    def waits(self, progress: Progress) -> bool:
        """Whether the pending refresh is to be waited for."""
        late = self.on_late == "wait" and progress.step >= progress.asked + self.max_staleness - self.every
        return late or self._waits_at_once(progress)

    def is_late(self, progress: Progress) -> bool:
        """Whether the pending refresh has lasted so long that the next one is delayed, or max_staleness reached."""
        return progress.step >= progress.asked + max(self.every, self.max_staleness - self.every)

    def _waits_at_once(self, progress: Progress) -> bool:
        return self.first == "sync" and not progress.ended
