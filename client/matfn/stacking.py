"""Small calls of one kind stacked into one, and its answer taken apart again.

    [Call, Call, ...] --likeness, stacked--> Call with one more leading dimension ~~~> Answer --apart--> [Answer, ...]

A stack is read, planned and answered once instead of once a call. Batches never change an answer, so that the answers
are those of the single calls. Only what is small is stacked, since every byte of it is copied; and a call with a
deadline goes by itself, because a whole stack may take longer than one call is allowed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Final

from matfn.catalogue import ENTRIES
from matfn.wire import Answer, Call, DecodeError, Tensor

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from matfn.limits import Limits

__all__ = ["SMALL_BYTES", "apart", "groups", "is_small", "likeness", "stacked"]

SMALL_BYTES: Final = 1 << 16  # of a call's inputs, four matrices of order 64 in float32
_STACK_BYTES: Final = 1 << 22
_STACK_ITEMS: Final = 4096


def is_small(call: Call) -> bool:
    """Whether the inputs are so few bytes that the rest of a call costs more than copying them."""
    return sum(tensor.nbytes for tensor in call.inputs.values()) <= SMALL_BYTES


def likeness(call: Call) -> Hashable | None:
    """Key of the calls that a call may be stacked with; None if it may not be stacked."""
    ranks = _ranks(call.function)
    leads = {len(tensor.shape) - ranks.get(name, 0) for name, tensor in call.inputs.items()}
    if len(leads) != 1 or call.options.get("deadline") is not None or not is_small(call):
        return None
    if any(tensor.nbytes == 0 for tensor in call.inputs.values()):
        return None
    forms = tuple((name, tensor.dtype, tensor.shape, tensor.uplo) for name, tensor in call.inputs.items())
    return call.function, forms, repr(call.params), repr(call.options)  # in which True is not 1


def groups(calls: Sequence[tuple[Call | None, Hashable | None]], limits: Limits) -> list[list[int]]:
    """The places of calls with their likenesses, those of one stack together, in the order of their first ones.

    Args:
        calls: each with its likeness; a call without one is not read.
        limits: the most matrices of one call.
    """
    found: list[list[int]] = []
    filling: dict[Hashable, tuple[list[int], int]] = {}
    for place, (call, like) in enumerate(calls):
        group, most = filling.get(like, ([], 0)) if like is not None else ([], 0)
        if len(group) >= most:
            group, most = [], 1 if call is None or like is None else _most(call, limits)
            filling[like] = group, most
            found.append(group)
        group.append(place)
    return found


def _most(call: Call, limits: Limits) -> int:
    """How many calls like this one a stack may hold."""
    items, size = _items(call), sum(tensor.nbytes for tensor in call.inputs.values())
    most = min(_STACK_BYTES // size, _STACK_ITEMS // items, (limits.max_items or _STACK_ITEMS) // items)
    return max(1, most)


def stacked(calls: Sequence[Call]) -> Call:
    """One call of calls that are alike."""
    if len(calls) == 1:
        return calls[0]
    first = calls[0]
    inputs = {
        name: Tensor(
            tensor.dtype,
            (len(calls), *tensor.shape),
            b"".join([call.inputs[name].data for call in calls]),
            tensor.uplo,
        )
        for name, tensor in first.inputs.items()
    }
    return replace(first, inputs=inputs)


def apart(answer: Answer, calls: Sequence[Call]) -> list[Answer]:
    """The answer of each call of a stack, over the memory of the whole one.

    Raises:
        DecodeError: if it is no answer to these calls.
    """
    if len(calls) == 1:
        return [answer]
    count, items = len(calls), _items(calls[0])
    if len(answer.certificates) != count * items:
        raise DecodeError(f"{len(answer.certificates)} certificates of {count * items} matrices")
    outputs, gradients = (
        {name: _rows(tensor, count, name) for name, tensor in tensors.items()}
        for tensors in (answer.outputs, answer.gradients)
    )
    return [
        Answer(
            {name: rows[place] for name, rows in outputs.items()},
            answer.certificates[place * items : (place + 1) * items],
            answer.timing,
            answer.device,
            answer.request_id,
            {name: rows[place] for name, rows in gradients.items()},
        )
        for place in range(count)
    ]


def _rows(tensor: Tensor, count: int, name: str) -> list[Tensor]:
    if tensor.shape[:1] != (count,):
        raise DecodeError(f"{name} has the shape {list(tensor.shape)}, not {count} parts")
    data, shape, size = memoryview(tensor.data), tensor.shape[1:], tensor.nbytes // count
    return [Tensor(tensor.dtype, shape, data[place * size : (place + 1) * size], tensor.uplo) for place in range(count)]


def _items(call: Call) -> int:
    """Number of matrices of a call whose inputs have equally many leading dimensions."""
    ranks = _ranks(call.function)
    leads = [tensor.shape[: len(tensor.shape) - ranks.get(name, 0)] for name, tensor in call.inputs.items()]
    return prod(max(sizes) for sizes in zip(*leads, strict=True))


@cache
def _ranks(function: str) -> Mapping[str, int]:
    return {item.name: len(item.shape) for item in ENTRIES[function].inputs}
