"""Names the first operation of torch whose result for a matrix depends on what is in its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from matfn_kernels.evaluation import evaluate
from same_answers import parsed_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from same_answers import Combination

__all__ = ["first_difference"]

_LARGEST = 7


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class _Recorder(TorchDispatchMode):
    """Keeps copies of every operation's inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[_Step] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Computes and keeps."""
        del types
        inputs = [x.detach().clone() for x in _tensors((args, kwargs or {}))]
        result = func(*args, **(kwargs or {}))
        self.steps.append(_Step(str(func), inputs, [x.detach().clone() for x in _tensors(result)]))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _tensors(entry)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _same(one: Tensor, many: Tensor, place: int, items: int) -> bool | None:
    """Whether a matrix's part of a tensor is its tensor alone; None where that cannot be told."""
    if one.dim() != many.dim() or one.dim() == 0 or one.dtype != many.dtype:
        return None
    if len(many) != items * len(one) or one.shape[1:] != many.shape[1:]:
        return None
    part = many[place * len(one) : (place + 1) * len(one)]
    return _bytes(one) == _bytes(part)


def _bytes(x: Tensor) -> bytes:
    x = x.resolve_conj().contiguous().reshape(-1)
    return bytes(x.view(torch.uint8).numpy().tobytes())


def _recorded(combination: Combination, batch: Any) -> list[_Step]:
    with _Recorder() as recorder:
        evaluate(combination.program, batch)
    return recorder.steps


def first_difference(combination: Combination) -> str:
    """The operations that differ though their inputs do not, over all matrices of a batch of seven."""
    found: dict[str, int] = {}
    batch, singles = parsed_batches(combination, _LARGEST)
    together = _recorded(combination, batch)
    for place, single in enumerate(singles):
        steps = _recorded(combination, single)
        cause = _compared(steps, together, place, len(singles))
        if cause:
            found[cause] = found.get(cause, 0) + 1
    return "; ".join(f"{cause} ({count} of {len(singles)})" for cause, count in found.items()) or "not in torch's batch"


def _compared(alone: list[_Step], together: list[_Step], place: int, items: int) -> str:
    for one, many in zip(alone, together, strict=False):
        if one.name != many.name:
            return f"other path at {one.name} / {many.name}"
        pairs = zip(one.outputs, many.outputs, strict=False)
        if any(_same(x, y, place, items) is False for x, y in pairs):
            shapes = ", ".join("x".join(map(str, x.shape)) for x in one.inputs)
            given = zip(one.inputs, many.inputs, strict=False)
            before = all(_same(x, y, place, items) is not False for x, y in given)
            return f"{one.name}({shapes}) {one.outputs[0].dtype}" + ("" if before else " (its input already)")
    return ""
