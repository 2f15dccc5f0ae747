"""Jobs to batches and back: `assemble` and `split` are an inverse pair, `deal` and `gather` are another.

The first pair is about memory (one batch of several), the second about lanes (several shares of one batch). A share is
a list of parts; a part is the rows of one job, so that answers find their way back whatever was cut where.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from matfn_kernels.evaluation import concatenate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matfn_kernels.evaluation import Batch, Evaluation

__all__ = ["Part", "assemble", "deal", "gather", "halves", "split"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of the job with the number `owner` in its batch."""

    owner: int
    batch: Batch

    @property
    def items(self) -> int:
        """Number of matrices."""
        return self.batch.items


def assemble(parts: Sequence[Part]) -> Batch:
    """One batch of all parts, in order; the one copy that the data sees."""
    return concatenate([part.batch for part in parts])


def split(evaluation: Evaluation, sizes: Sequence[int]) -> list[Evaluation]:
    """The evaluation in consecutive pieces of these sizes, as views."""
    pieces: list[Evaluation] = []
    start = 0
    for size in sizes:
        pieces.append(evaluation.rows(start, start + size))
        start += size
    assert start == evaluation.items
    return pieces


def deal(batches: Sequence[Batch], shares: int) -> list[list[Part]]:
    """The rows of all batches in up to `shares` shares of nearly equal size, as views; no share is empty."""
    total = sum(batch.items for batch in batches)
    shares = min(shares, max(1, total))
    bounds = [total * share // shares for share in range(shares + 1)]
    dealt: list[list[Part]] = [[] for _ in range(shares)]
    start = 0
    for owner, batch in enumerate(batches):
        stop = start + batch.items
        for share, (low, high) in enumerate(pairwise(bounds)):
            if max(start, low) < min(stop, high) or (start == stop and share == 0):
                dealt[share].append(Part(owner, _rows(batch, max(start, low) - start, min(stop, high) - start)))
        start = stop
    return [parts for parts in dealt if parts]


def _rows(batch: Batch, start: int, stop: int) -> Batch:
    return batch if start <= 0 and stop >= batch.items else batch.rows(start, stop)


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
    return [Part(part.owner, part.batch.rows(0, middle))], [Part(part.owner, part.batch.rows(middle, part.items))]
