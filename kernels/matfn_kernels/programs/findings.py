"""Findings of a method on a batch, from which certificates are made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["ROUNDINGS", "Findings", "merged", "replaced"]

ROUNDINGS: Final = 4
"""Error of an output where some dimension is zero, in units of eps: zero, or a copy rounded at most twice."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Values of one method on a batch and what was measured beside them, each (batch,) and float64.

    Attributes:
        outputs: the values, each (batch, ...), in the arithmetic's dtype and, with `exponents`, scaled.
        exponents: per output the powers of two still to be multiplied, integer (batch,), or None; () for none at all.
        residual_name: the equation whose residual was measured.
        residual: relative residual.
        error: estimated relative error; infinite where the method's assumptions do not hold, NaN if unknown.
        condition: estimated condition number.
        steps: iterations, of the batch or of each matrix, 0 for a direct method.
        rank: numerical rank, where the method knows it.
        damping: relative shift.
        shift: the number added to the diagonal.
        escalated: number of the program's fallback that computed each matrix, from 1, or 0 for none; or None.
        share: size of the value relative to that which errors are relative to, (batch,) or one an output,
            (batch, outputs), or None where errors are relative to the value; its rounding to the dtype counts by this
            share.
        finite: mask of matrices whose outputs are known to be finite in the output's dtype, or None where none is.
        failures: masks of matrices without an answer, by reason (see `running.hints`), of which the first counts.
        remarks: masks of matrices whose answer is approximate for another reason than its error, by reason.
    """

    outputs: tuple[Tensor, ...]
    residual_name: str
    residual: Tensor
    error: Tensor
    condition: Tensor
    steps: int | Tensor = 0
    exponents: tuple[Tensor | None, ...] = ()
    rank: Tensor | None = None
    damping: Tensor | None = None
    shift: Tensor | None = None
    escalated: Tensor | None = None
    share: Tensor | None = None
    finite: Tensor | None = None
    failures: Mapping[str, Tensor] = field(default_factory=dict)
    remarks: Mapping[str, Tensor] = field(default_factory=dict)


def merged(mask: Tensor, first: Findings, second: Findings) -> Findings:
    """The first findings where the mask (batch,) holds and the second elsewhere, both of one batch; None is zero."""

    def rows(one: Tensor, other: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (one.dim() - 1)), one, other)

    def rows_if_any(one: Tensor | None, other: Tensor | None) -> Tensor | None:
        if one is None or other is None:
            known = other if one is None else one
            zero = None if known is None else torch.zeros_like(known)
            one, other = (zero, other) if one is None else (one, zero)
        return None if one is None or other is None else rows(one, other)

    def masks(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key: rows(_flags(one.get(key), mask), _flags(other.get(key), mask)) for key in {**one, **other}}

    return Findings(
        outputs=tuple(map(rows, first.outputs, second.outputs)),
        residual_name=first.residual_name,
        residual=rows(first.residual, second.residual),
        error=rows(first.error, second.error),
        condition=rows(first.condition, second.condition),
        steps=rows(_each(first.steps, mask), _each(second.steps, mask)),
        exponents=tuple(map(rows_if_any, first.exponents, second.exponents)),
        rank=rows_if_any(first.rank, second.rank),
        damping=rows_if_any(first.damping, second.damping),
        shift=rows_if_any(first.shift, second.shift),
        escalated=rows(_flags(first.escalated, mask), _flags(second.escalated, mask)),
        share=_share(mask, first, second),
        failures=masks(first.failures, second.failures),
        remarks=masks(first.remarks, second.remarks),
    )


def replaced(whole: Findings, mask: Tensor, some: Findings) -> Findings:
    """The findings of a batch with those of some matrices, of which the mask (batch,) is true, in their places."""
    places = mask.nonzero()[:, 0]
    columns: dict[str, Any] = {name: _placed(column, places, len(mask)) for name, column in _columns(some).items()}
    all_of_them = replace(
        some,
        outputs=tuple(_placed(output, places, len(mask)) for output in some.outputs),
        exponents=tuple(None if one is None else _placed(one, places, len(mask)) for one in some.exponents),
        **columns,
        failures={reason: _placed(flags, places, len(mask)) for reason, flags in some.failures.items()},
        remarks={reason: _placed(flags, places, len(mask)) for reason, flags in some.remarks.items()},
    )
    return merged(~mask, whole, all_of_them)


def _columns(found: Findings) -> dict[str, Tensor]:
    """The numbers of each matrix by their names."""
    named = {name: getattr(found, name) for name in _COLUMNS}
    return {name: column for name, column in named.items() if isinstance(column, torch.Tensor)}


def _placed(rows: Tensor, places: Tensor, items: int) -> Tensor:
    """Rows at their places among zeros, (items, ...)."""
    return rows.new_zeros(items, *rows.shape[1:]).index_copy(0, places, rows)


_COLUMNS: Final = (
    "residual",
    "error",
    "condition",
    "steps",
    "rank",
    "damping",
    "shift",
    "escalated",
    "share",
    "finite",
)


def _share(mask: Tensor, first: Findings, second: Findings) -> Tensor | None:
    """The shares of merged findings: 1 where errors are relative to the value."""
    if first.share is None and second.share is None:
        return None
    one, other = (torch.ones_like(f.error) if f.share is None else f.share for f in (first, second))
    return torch.where(mask[:, None], one.reshape(len(mask), -1), other.reshape(len(mask), -1))


def _flags(flags: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if flags is None else flags


def _each(steps: int | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(steps, device=like.device).expand_as(like)
