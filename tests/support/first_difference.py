"""Names the first operation of torch whose result for a matrix depends on what is in its batch."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from matfn_kernels.programs.profile_loading import load_profile
from matfn_kernels.running.evaluation import evaluate
from same_answers import bits, with_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from same_answers import Combination, Difference

__all__ = ["first_difference"]

_NO_RESULT = tuple(
    f"aten.{name}"
    for name in (
        "empty",
        "new_empty",
        "slice",
        "select",
        "view",
        "expand",
        "permute",
        "transpose",
        "unsqueeze",
        "squeeze",
        "diagonal",
        "lift_fresh",
        "detach",
        "alias",
    )
)
"""Memory that is not written yet, and views."""


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]

    @property
    def key(self) -> tuple[object, ...]:
        """Name and shapes but for the number of matrices."""
        return self.name, *(tuple(x.shape[1:]) for x in (*self.inputs, *self.outputs))


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps copies of every operation's inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
    return bits(one) == bits(part)


def first_difference(combination: Combination, found: Sequence[Difference]) -> str:
    """The first operation of each kind of comparison that differs though its inputs do not."""
    causes = dict.fromkeys(
        _cause(combination, difference)
        for difference in {
            (difference.layout, difference.threads): difference for difference in reversed(found)
        }.values()
        if difference.layout != "none"
    )
    return "; ".join(causes)


def _cause(combination: Combination, difference: Difference) -> str:
    alone = _recorded(combination, [difference.item], "")
    with with_threads(difference.threads):
        together = _recorded(combination, difference.kinds, difference.layout)
    tried = difference.layout or difference.check
    return f"{tried}: {_compared(alone, together, difference.place, len(difference.kinds))}"


def _recorded(combination: Combination, kinds: Sequence[str], layout: str) -> list[_Step]:
    batch = combination.batch(kinds, layout)
    with _Recorder() as recorder:
        evaluate(combination.program, batch, load_profile().backends)
    return [step for step in recorder.steps if step.outputs and not step.name.startswith(_NO_RESULT)]


def _compared(alone: list[_Step], together: list[_Step], place: int, items: int) -> str:
    """The first operation with other results, among those that both evaluations have."""
    matcher = SequenceMatcher(None, [step.key for step in alone], [step.key for step in together], autojunk=False)
    for start, other, size in matcher.get_matching_blocks():
        for one, many in zip(alone[start : start + size], together[other : other + size], strict=True):
            pairs = zip(one.outputs, many.outputs, strict=False)
            if any(_same(x, y, place, items) is False for x, y in pairs):
                shapes = ", ".join("x".join(map(str, x.shape)) for x in many.inputs)
                given = zip(one.inputs, many.inputs, strict=False)
                before = any(_same(x, y, place, items) is False for x, y in given)
                return f"{one.name}({shapes}) {one.outputs[0].dtype}" + (" of other input" if before else "")
    return "not in torch"
