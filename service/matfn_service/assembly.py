"""Batches to workers and back, as two inverse pairs: `deal` and `gather`, `by_program` and `apart`.

A batch is several jobs. A share of it, which one worker computes, is a list of parts; a part is rows of one job. Within
a share, the parts of one program are computed as one batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matfn_kernels import Batch, Program

__all__ = ["Part", "apart", "by_program", "deal", "gather", "halves"]

T = TypeVar("T")


class Rows(Protocol):
    """Anything with a row for each matrix."""

    def rows(self, start: int, stop: int) -> Self:
        """The rows start..stop."""


R = TypeVar("R", bound=Rows)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of the job with the number `owner` in its batch, and their program.

    Attributes:
        answer_bytes: size of the outputs of a row.
        seconds: predicted time of a row.
    """

    owner: int
    program: Program
    batch: Batch
    answer_bytes: int = 0
    seconds: float = 0.0

    @property
    def items(self) -> int:
        """Number of matrices."""
        return self.batch.items

    def rows(self, start: int, stop: int) -> Part:
        """The matrices start..stop."""
        whole = start <= 0 and stop >= self.items
        return self if whole else replace(self, batch=self.batch.rows(start, stop))


def deal(whole: Sequence[Part], shares: int) -> list[list[Part]]:
    """The rows of all parts in up to `shares` shares of nearly equal size, as views; no share is empty."""
    total = sum(part.items for part in whole)
    shares = min(shares, max(1, total))
    if shares == 1:  # as for all small batches
        return [list(whole)] if whole else []
    bounds = [total * share // shares for share in range(shares + 1)]
    dealt: list[list[Part]] = [[] for _ in range(shares)]
    start = 0
    for part in whole:
        stop = start + part.items
        for share, (low, high) in enumerate(pairwise(bounds)):
            if max(start, low) < min(stop, high) or (start == stop and share == 0):
                dealt[share].append(part.rows(max(start, low) - start, min(stop, high) - start))
        start = stop
    return [parts for parts in dealt if parts]


def gather(owners: int, answered: Iterable[tuple[Part, T]]) -> list[list[T]]:
    """For each owner the answers to its parts, in the order of its rows."""
    pieces: list[list[T]] = [[] for _ in range(owners)]
    for part, answer in answered:
        pieces[part.owner].append(answer)
    return pieces


def halves(parts: Sequence[Part]) -> tuple[list[Part], list[Part]] | None:
    """The parts in two, a single part by its rows; None if there is one matrix or less."""
    if len(parts) > 1:
        middle = len(parts) // 2
        return list(parts[:middle]), list(parts[middle:])
    (part,) = parts
    middle = part.items // 2
    if not middle:
        return None
    return [part.rows(0, middle)], [part.rows(middle, part.items)]


def by_program(parts: Sequence[Part]) -> dict[Program, list[int]]:
    """The numbers of the parts of each program."""
    members: dict[Program, list[int]] = {}
    last: Program | None = None
    for index, part in enumerate(parts):
        if part.program is not last:  # a program takes microseconds to hash
            last = part.program
            indices = members.setdefault(last, [])
        indices.append(index)
    return members


def apart(parts: Sequence[Part], members: Mapping[Program, Sequence[int]], evaluations: Iterable[R]) -> list[R]:
    """Each part's rows of the evaluation of its program."""
    found: dict[int, R] = {}
    for indices, evaluation in zip(members.values(), evaluations, strict=True):
        bounds = pairwise([0, *accumulate(parts[index].items for index in indices)])
        found |= {index: evaluation.rows(*bound) for index, bound in zip(indices, bounds, strict=True)}
    return [found[index] for index in range(len(parts))]
