"""Shapes of a call's inputs: their ranks and sizes, the leading dimensions they broadcast to, and their limits."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from matfn_kernels.contract.rejection import Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn_kernels.contract.functions import Function, Input, Value
    from matfn_kernels.programs.call import Layout, Limits

__all__ = ["check_elements", "check_offsets", "check_shapes", "leading", "tensors", "trailing"]

_MAX_DIMENSION: Final = 2**31
"""BLAS and LAPACK count rows and columns in 32-bit integers."""


def tensors(spec: Function) -> tuple[Input, ...]:
    """All that may be a tensor: the inputs, then the parameters of which each matrix may have its own."""
    return (*spec.inputs, *spec.varying)


def check_shapes(spec: Function, inputs: Mapping[str, Layout], limits: Limits) -> None:
    """Refuses matrices of a wrong rank, of sizes that disagree, or of an order over the limits."""
    sizes: dict[str, tuple[int, str]] = {}
    for entry in sorted(tensors(spec), key=lambda entry: entry.name in (*spec.claims, *spec.cotangents)):
        if entry.name not in inputs:
            continue
        shape = inputs[entry.name].shape
        _check_rank(entry, shape)
        _check_square(entry, shape)
        for labels, size in zip(entry.shape, trailing(inputs[entry.name], entry), strict=True):
            label = next((label for label in labels.split("|") if label in sizes), labels)
            if label.isdigit():
                sizes.setdefault(label, (int(label), spec.packing.parameter if spec.packing else ""))
            expected, owner = sizes.setdefault(label, (size, entry.name))
            if size != expected:
                raise Rejection(
                    "invalid_shape",
                    f"{entry.name} has shape {shape}: {label} is {size}, but {owner} makes it {expected}",
                    f"{entry.name} must be (*, {', '.join(entry.shape)})",
                )
            if size > limits.max_order:
                raise Rejection(
                    "invalid_shape",
                    f"{entry.name} has shape {shape}; each matrix dimension may be at most {limits.max_order}",
                    "split the matrix, or ask the operator to raise MATFN_MAX_ORDER",
                )


def _check_square(entry: Input, shape: tuple[int, ...]) -> None:
    if len(set(entry.shape)) < len(entry.shape) and shape[-1] != shape[-2]:
        raise Rejection(
            "invalid_shape",
            f"{entry.name} has shape {shape}; its last two sizes must be equal, since its matrices are square",
            f"{entry.name} must be (*, {', '.join(entry.shape)}): {entry.summary}",
        )


def _check_rank(entry: Input, shape: tuple[int, ...]) -> None:
    if len(shape) < len(entry.shape):
        is_column = len(shape) == 1 and len(entry.shape) == 2 and len(set(entry.shape)) == 2  # noqa: PLR2004
        column = f"; a vector is one column, {(*shape, 1)}" if is_column else ""
        raise Rejection(
            "invalid_shape",
            f"{entry.name} has shape {shape}",
            f"{entry.name} must be (*, {', '.join(entry.shape)}): {entry.summary}{column}",
        )
    if max(shape, default=0) >= _MAX_DIMENSION:
        raise Rejection("invalid_shape", f"{entry.name} has shape {shape}; each dimension must be below 2^31")


def check_offsets(spec: Function, inputs: Mapping[str, Layout], values: Mapping[str, Value]) -> None:
    """Refuses offsets of packed sequences that do not end where the rows do."""
    offsets = None if spec.packing is None else values[spec.packing.parameter]
    if spec.packing is None or not isinstance(offsets, tuple):
        return
    length = spec.sizes({name: layout.shape for name, layout in inputs.items()})[spec.packing.along]
    if offsets[-1] != length:
        raise Rejection(
            "invalid_shape",
            f"{spec.packing.parameter} ends with {offsets[-1]}, but {spec.packing.along} is {length}",
            "offsets go from 0 to the number of all rows",
        )


def leading(spec: Function, inputs: Mapping[str, Layout], limits: Limits) -> tuple[int, ...]:
    """The leading dimensions that those of all inputs broadcast to.

    Raises:
        Rejection: if they do not broadcast, or hold more matrices than the limits allow.
    """
    leads = {
        entry.name: inputs[entry.name].shape[: len(inputs[entry.name].shape) - len(entry.shape)]
        for entry in tensors(spec)
        if entry.name in inputs
    }
    lead = _broadcast(tuple(leads.values()))
    if lead is None:
        named = ", ".join(f"{name}: {shape}" for name, shape in leads.items())
        raise Rejection("invalid_shape", f"leading dimensions ({named}) do not broadcast")
    if math.prod(size for size in lead if size) > limits.max_items:
        raise Rejection(
            "invalid_shape",
            f"leading dimensions {lead} hold more than {limits.max_items} matrices",
            "split the call, or ask the operator to raise MATFN_MAX_ITEMS",
        )
    return lead


def _broadcast(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...] | None:
    """The shape that all of these broadcast to, of any number of dimensions; None if there is none."""
    columns = zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    sizes = [set(column) - {1} or {1} for column in columns]
    return tuple(size for (size,) in reversed(sizes)) if all(len(one) == 1 for one in sizes) else None


def check_elements(
    spec: Function, inputs: Mapping[str, Layout], values: Mapping[str, Value], items: int, limits: Limits
) -> None:
    """Refuses small requests that would need a large allocation, by broadcasting or by outputs that are larger."""
    sizes = {
        label: size
        for entry in spec.inputs
        if entry.name in inputs
        for label, size in zip(entry.shape, trailing(inputs[entry.name], entry), strict=True)
    }
    taken = sum(math.prod(sizes[label] for label in entry.shape) for entry in spec.inputs if entry.name in inputs)
    held = items * max(taken, sum(spec.output_elements(sizes, values)))
    if held > limits.max_elements:
        raise Rejection(
            "invalid_shape",
            f"{spec.name}() of {items} matrices would hold {held} numbers, allowed {limits.max_elements}",
            "split the call",
        )


def trailing(layout: Layout, entry: Input) -> tuple[int, ...]:
    """The shape of one matrix of an input."""
    return layout.shape[len(layout.shape) - len(entry.shape) :]
