"""Batches of matrices and evaluations of them, taken apart by rows and put together again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.contract.certificate import Certificate
    from matfn_kernels.running.requested import Requested

__all__ = ["Batch", "Evaluation", "concatenate", "in_order", "join", "own_values"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Matrices to be computed together: inputs (batch, ...) and the requested tolerance of each."""

    inputs: Mapping[str, Tensor]
    requested: tuple[Requested, ...]

    @property
    def items(self) -> int:
        """Number of matrices."""
        return len(self.requested)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compute: some dimension is zero."""
        return any(size == 0 for tensor in self.inputs.values() for size in tensor.shape)

    def some(self, rows: list[int], apart: Sequence[str]) -> Batch:
        """The matrices in these rows, without the inputs that are `apart`."""
        inputs = {name: tensor[rows] for name, tensor in self.inputs.items() if name not in apart}
        return Batch(inputs, tuple(self.requested[row] for row in rows))

    def rows(self, start: int, stop: int) -> Batch:
        """The matrices start..stop."""
        return Batch({name: tensor[start:stop] for name, tensor in self.inputs.items()}, self.requested[start:stop])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values (batch, ...) and one certificate a matrix."""

    outputs: tuple[Tensor, ...]
    certificates: tuple[Certificate, ...]

    @property
    def items(self) -> int:
        """Number of matrices."""
        return len(self.certificates)

    def rows(self, start: int, stop: int) -> Evaluation:
        """The answers start..stop."""
        return Evaluation(tuple(output[start:stop] for output in self.outputs), self.certificates[start:stop])


def concatenate(batches: Sequence[Batch]) -> Batch:
    """One batch of several with the same program; `Evaluation.rows` takes it apart again."""
    if len(batches) == 1:
        return batches[0]
    names = batches[0].inputs
    inputs = {name: torch.cat([batch.inputs[name] for batch in batches]) for name in names}
    return Batch(inputs, tuple(one for batch in batches for one in batch.requested))


def join(evaluations: Sequence[Evaluation]) -> Evaluation:
    """One evaluation of several, in order."""
    if len(evaluations) == 1:
        return evaluations[0]
    outputs = tuple(torch.cat(column) for column in zip(*(e.outputs for e in evaluations), strict=True))
    return Evaluation(outputs, tuple(c for e in evaluations for c in e.certificates))


def own_values(inputs: Mapping[str, Tensor], names: Sequence[str], items: int) -> list[tuple[float, ...]]:
    """The values of inputs (items,) for each matrix; none of them of a call without such inputs."""
    columns = [inputs[name].tolist() for name in names]
    return list(zip(*columns, strict=True)) if columns else [()] * items


def in_order(parts: Sequence[tuple[Evaluation, list[int] | None]]) -> Evaluation:
    """One evaluation of several, each of the rows beside it."""
    order = [row for _, rows in parts for row in rows or ()]
    whole = join([evaluation for evaluation, _ in parts])
    if order == sorted(order):
        return whole
    places = sorted(range(len(order)), key=order.__getitem__)
    outputs = tuple(output[places] for output in whole.outputs)
    return Evaluation(outputs, tuple(whole.certificates[place] for place in places))
