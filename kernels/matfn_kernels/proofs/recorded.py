"""Balls whose operations are recorded, and computed in C for one matrix of the batch after the other.

A tape takes the steps of a proof. The first norm that is asked for runs them all: every matrix stays in the cache, and
its bound is that which it has alone. native/balls.inc computes what `balls` computes in torch.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

from matfn_kernels.linalg.native.library import in_parts
from matfn_kernels.linalg.native.structures import BALL_FACTS, BallSlot, BallsPlan, BallStep, Half, Step, View

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Recorded", "Tape", "compiled"]

_SLACK: Final = 1 + 2.0**-47
_PARALLEL: Final = 1 << 20
"""Multiplications that are worth a thread."""
_PLAIN: Final = View(0)


@dataclass(slots=True)
class _Entry:
    """A step, the shape of what it makes, the balls that it reads, and the ball whose place it takes, if any."""

    fields: dict[str, float]
    shape: tuple[int, int]
    reads: tuple[int, ...] = ()
    takes: int | None = None


@dataclass(slots=True)
class Tape:
    """The steps of a proof about a batch of so many matrices."""

    items: int
    entries: list[_Entry] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)
    facts: Tensor | None = None

    def given(
        self,
        x: Tensor,
        exponent: Tensor | None = None,
        *,
        doubled: bool = False,
        unread: Half | None = None,
        ones: bool = False,
    ) -> Recorded:
        """X 2^exponent of X (batch, m, n) in float32 or float64; half of it may be unread, its diagonal be ones."""
        x = x.contiguous()
        fields: dict[str, float] = {"unread": unread or 0, "ones": ones, "single": x.dtype == torch.float32}
        self.kept.append(x)
        if exponent is not None:
            exponent = exponent.to(torch.int64).contiguous()
            self.kept.append(exponent)
            fields["exponents"] = exponent.data_ptr()
        return self.record(Step.GIVEN, x.shape[1:], (), doubled=False, at=x.data_ptr(), **fields).as_doubled(doubled)

    def diagonal(self, values: Tensor | None, order: int, *, doubled: bool = False) -> Recorded:
        """diag(l) of l (batch, n) in float64, or I."""
        at = 0
        if values is not None:
            self.kept.append(values := values.contiguous())
            at = values.data_ptr()
        return self.record(Step.DIAGONAL, (order, order), (), doubled=False, at=at).as_doubled(doubled)

    def record(
        self, code: Step, shape: tuple[int, ...], reads: tuple[Recorded, ...], *, doubled: bool, **fields: float
    ) -> Recorded:
        """The ball that a new step makes."""
        assert self.facts is None, "a tape that ran takes no further step"
        for name, ball in zip("xy", reads, strict=False):
            fields |= {name: ball.index, f"{name}_view": int(ball.view)}
        rows, columns = shape
        entry = _Entry({"code": code, "doubled": doubled, **fields}, (rows, columns), tuple(b.index for b in reads))
        self.entries.append(entry)
        return Recorded(self, len(self.entries) - 1, (rows, columns), doubled)

    def told(self, index: int) -> Tensor:
        """The facts of a step's ball (BALL_FACTS, items)."""
        if self.facts is None:
            self.facts = torch.empty(len(self.entries), BALL_FACTS, self.items, dtype=torch.float64)
            self._run(self.facts)
            self.kept.clear()
        return self.facts[index]

    def _run(self, facts: Tensor) -> None:
        plan, kept = compiled(self.entries, self.items, facts.data_ptr())
        work = plan.steps * plan.largest**3
        in_parts("matfn_balls", plan, self.items, -(-_PARALLEL // work), f"bounds of order {plan.largest}")
        del kept


def compiled(entries: list[_Entry], items: int, facts: int) -> tuple[BallsPlan, tuple[object, ...]]:
    """The plan of a program that writes facts (steps, BALL_FACTS, items) to that address, and what it points to."""
    places = _Places.of(entries)
    steps = (BallStep * len(entries))(*map(_step, entries, places.found))
    slots = (BallSlot * len(places.kinds))(*(BallSlot(*kind) for kind in places.kinds))
    largest, doubled = max(max(entry.shape) for entry in entries), any(kind[-1] for kind in places.kinds)
    pointers = ctypes.addressof(steps), ctypes.addressof(slots), facts
    return BallsPlan(items, len(steps), len(slots), largest, doubled, *pointers), (steps, slots)


def _step(entry: _Entry, place: tuple[int, ...]) -> BallStep:
    """A step with its balls' places: of what it makes, and of what it reads."""
    out, *reads = place
    return BallStep(**{**entry.fields, "out": out, **dict(zip("xy", reads, strict=False))})


_Kind: TypeAlias = "tuple[int, int, int]"
"""Rows and columns of a ball, and whether it has two parts."""


@dataclass(slots=True)
class _Places:
    """Places of balls, which are free again after the last step that reads them.

    Attributes:
        kinds: of the balls that each place may hold.
        free: places by kind.
        found: for each step the place of what it makes and of what it reads.
    """

    kinds: list[_Kind] = field(default_factory=list)
    free: dict[_Kind, list[int]] = field(default_factory=dict)
    found: list[tuple[int, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, entries: list[_Entry]) -> _Places:
        """The places in a program."""
        owner = list(range(len(entries)))
        for number, entry in enumerate(entries):
            if entry.takes is not None:
                owner[number] = owner[entry.takes]
        balls = [tuple(owner[ball] for ball in (number, *entry.reads)) for number, entry in enumerate(entries)]
        last = {ball: number for number, some in enumerate(balls) for ball in some}
        places, at = cls(), dict[int, int]()
        for number, some in enumerate(balls):
            if some[0] == number:
                at[number] = places.taken(_kind(entries[number]))
            places.found.append(tuple(at[ball] for ball in some))
            for ball in {ball for ball in some if last[ball] == number}:
                places.free[_kind(entries[ball])].append(at[ball])
        return places

    def taken(self, kind: _Kind) -> int:
        """A place for a ball."""
        free = self.free.setdefault(kind, [])
        if not free:
            free.append(len(self.kinds))
            self.kinds.append(kind)
        return free.pop()


def _kind(entry: _Entry) -> _Kind:
    return (*entry.shape, int(entry.fields["doubled"]))


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ball that a step makes, or a view of it.

    Attributes:
        tape: that takes the steps.
        index: of the step.
        shape: rows and columns.
        doubled: whether it is kept in twice the digits.
        view: how the ball is read.
    """

    tape: Tape
    index: int
    shape: tuple[int, int]
    doubled: bool
    view: View = _PLAIN

    @property
    def frobenius(self) -> Tensor:
        """An upper bound of the Frobenius norm, (batch,)."""
        return self._norm(0)

    @property
    def spectral(self) -> Tensor:
        """An upper bound of the 2-norm, of the absolute values too, (batch,)."""
        return self._norm(1)

    @property
    def uncertainty(self) -> Tensor:
        """The radius about the first part, (batch,)."""
        return self.tape.told(self.index)[2] * _SLACK

    @property
    def exists(self) -> Tensor:
        """Whether a factor was computed, (batch,)."""
        return self.tape.told(self.index)[3] > 0

    def _norm(self, which: int) -> Tensor:
        norm = self.tape.told(self.index)[which]
        return norm * _SLACK if View.ROUNDED in self.view else norm

    @property
    def mT(self) -> Recorded:  # noqa: N802 - as torch names it
        """The transpose."""
        return replace(self, shape=self.shape[::-1], view=self.view ^ View.TURNED)

    def rounded(self) -> Recorded:
        """The ball about the first part that holds this one."""
        return replace(self, doubled=False, view=self.view | View.ROUNDED) if self.doubled else self

    def as_doubled(self, doubled: bool) -> Recorded:
        """This ball, from which results in twice the digits are made if `doubled`."""
        return replace(self, doubled=doubled)

    def times(self, y: Recorded, *, symmetric: bool) -> Recorded:
        """X Y."""
        shape, doubled = (self.shape[0], y.shape[1]), self.doubled or y.doubled
        return self.tape.record(Step.PRODUCT, shape, (self, y), doubled=doubled, symmetric=symmetric)

    def plus(self, y: Recorded, *, sign: float, factor: float) -> Recorded:
        """(X + sign Y) factor, a power of two."""
        doubled = self.doubled or y.doubled
        return self.tape.record(Step.SUM, self.shape, (self, y), doubled=doubled, sign=sign, factor=factor)

    def identity(self) -> Recorded:
        """I of the same order."""
        return self.tape.diagonal(None, self.shape[0])

    def factored(self) -> Recorded:
        """Lower triangular L near L L^T = (X + X^T) / 2, not trusted."""
        return self.tape.record(Step.FACTOR, self.shape, (self,), doubled=False).as_doubled(self.doubled)

    def inverted(self) -> Recorded:
        """A triangle near the inverse of this one, not trusted."""
        return self.tape.record(Step.INVERSE, self.shape, (self,), doubled=False)

    def rows_like(self, y: Recorded) -> Recorded:
        """Rows times powers of two that bring those of Y near 1; of what was given exactly."""
        return self.tape.record(Step.ROWS_LIKE, self.shape, (self, y), doubled=False).as_doubled(self.doubled)

    def strictly_lower(self) -> Recorded:
        """The entries below the diagonal."""
        return self.tape.record(Step.STRICT, self.shape, (self,), doubled=self.doubled)

    def wider(self, defect: Recorded) -> Recorded:
        """The ball that holds (I + G)^-1 X (I + G)^-T too, for any G no larger than the defect; X is read no more."""
        found = self.tape.record(Step.WIDER, self.shape, (self, defect), doubled=self.doubled)
        self.tape.entries[-1].takes = self.index
        return replace(found, view=self.view)
