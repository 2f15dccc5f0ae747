"""Proved bounds of the answers of calls with certify="proved"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch

from matfn_kernels.proofs import Bounds, bound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.running.requested import Requested, Statement

__all__ = ["own_bounds", "proved"]


class Matrices(Protocol):
    """The part of a batch that a proof reads."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """Inputs (batch, ...), claimed outputs among them."""

    @property
    def requested(self) -> tuple[Requested, ...]:
        """The requested tolerance of each matrix."""


def proved(batch: Matrices, outputs: Sequence[Tensor], shift: Tensor | None) -> Bounds | None:
    """Proved bounds of the answers for which a proof was requested, infinite elsewhere; None if there are none.

    Args:
        batch: the inputs and what was requested.
        outputs: the computed answers (batch, ...); none of a verification, whose answers are among the inputs.
        shift: the number added to each diagonal, (batch,), or None for none.
    """
    if not any(requested.proof for requested in batch.requested):
        return None
    error = torch.full((len(batch.requested),), math.inf, dtype=torch.float64)
    reasons: list[str | None] = [None] * len(batch.requested)
    for statement, indices in _by_statement(batch.requested).items():
        for some in _by_shift(indices, shift):
            found = _bounds(statement, some, batch.inputs, outputs, shift)
            error[some] = found.error
            for index, reason in zip(some, found.reason, strict=True):
                reasons[index] = reason
    return Bounds(error, tuple(reasons))


def own_bounds(batch: Matrices, error: Tensor) -> Bounds | None:
    """The errors of a program that proves them itself, rounded up, where a proof was requested; None if nowhere."""
    if not any(requested.proof for requested in batch.requested):
        return None
    return Bounds(torch.nextafter(error.cpu(), torch.full((), math.inf, dtype=error.dtype)), (None,) * len(error))


def _bounds(
    statement: Statement,
    indices: list[int],
    inputs: Mapping[str, Tensor],
    outputs: Sequence[Tensor],
    shift: Tensor | None,
) -> Bounds:
    """Bounds of the answers with these indices."""
    rows = {name: tensor[indices].cpu() for name, tensor in inputs.items()}
    answers = [rows.pop(name) for name in statement.claims] or [output[indices].cpu() for output in outputs]
    if not all(tensor.numel() for tensor in (*rows.values(), *answers)):
        return _of_empty(len(indices), answers)
    shifts = None if shift is None or not bool(shift[indices].any()) else shift[indices].cpu()
    return bound(statement.function, rows, dict(statement.parameters), answers, shifts)


def _by_shift(indices: list[int], shift: Tensor | None) -> list[list[int]]:
    """The answers without a shift and those with one: a bound counts the rounding of a shift, even of zero."""
    if shift is None:
        return [indices]
    is_shifted = (shift != 0).tolist()
    groups = [[i for i in indices if is_shifted[i] is wanted] for wanted in (False, True)]
    return [group for group in groups if group]


def _of_empty(items: int, answers: Sequence[Tensor]) -> Bounds:
    """Bounds where some dimension is zero: of answers without entries they are 0, of others none is tried."""
    if any(answer.numel() for answer in answers):
        return Bounds(torch.full((items,), math.inf, dtype=torch.float64), ("an inner dimension is zero",) * items)
    return Bounds(torch.zeros(items, dtype=torch.float64), (None,) * items)


def _by_statement(requested: Sequence[Requested]) -> dict[Statement, list[int]]:
    """Indices of the answers to be proved, by what they are to be proved for."""
    groups: dict[Statement, list[int]] = {}
    for index, one in enumerate(requested):
        if one.proof is not None:
            groups.setdefault(one.proof, []).append(index)
    return groups
