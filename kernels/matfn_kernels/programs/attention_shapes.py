"""Checks of the shapes of `max_logit` and `qk_clip`, whose heads may share keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.contract.rejection import Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn_kernels.contract.schema import Function, Value

__all__ = ["check_heads", "group_size"]


def group_size(heads: int, key_heads: int) -> int:
    """Heads of q that share one head of k."""
    return heads // key_heads if key_heads else 1


def check_heads(function: Function, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, Value]) -> None:
    """Refuses heads that cannot be grouped and widths that cannot be multiplied.

    Raises:
        Rejection: for such shapes.
    """
    heads = function.heads
    if heads is None:
        return
    queries, keys = shapes[heads.queries], shapes[heads.keys]
    if heads.variant is None:
        _check_groups(function.name, queries[-3], keys[-3])
        return
    variant = str(values[heads.variant])
    _check_groups(function.name, queries[-3], keys[-3], alone=variant != "gqa", variant=variant)
    _check_widths(variant, queries[-2], keys[-2])


def _check_groups(function: str, heads: int, key_heads: int, *, alone: bool = False, variant: str = "") -> None:
    if alone and heads != key_heads:
        raise Rejection(
            "invalid_shape",
            f'{function}(): {heads} heads of queries and {key_heads} of keys, but variant="{variant}" pairs them',
            'use variant="gqa" for shared keys',
        )
    if heads != key_heads and (key_heads == 0 or heads % key_heads):
        raise Rejection(
            "invalid_shape",
            f"{function}(): {heads} heads of queries cannot share {key_heads} heads of keys",
            "the first must be a multiple of the second",
        )


def _check_widths(variant: str, dq: int, dk: int) -> None:
    if dq < dk or (dq > dk and variant != "mla"):
        raise Rejection(
            "invalid_shape",
            f'qk_clip(): query heads of width {dq} and key heads of width {dk} with variant="{variant}"',
            'the widths must be equal; with variant="mla" the rows of w_q beyond dk are the rope part',
        )
