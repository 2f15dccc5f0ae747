"""A cache of parsed bodies, by their bytes outside of the numbers.

Callers send the same call again and again with other numbers. Bodies whose bytes outside of the numbers are equal have
the same function, shapes, parameters and options, hence the same plan: a dictionary look-up and a comparison of bytes
then replace parsing and validation. The numbers themselves are always checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from matfn import wire
from matfn._aligned import address_of
from matfn_service.arena import numbers_at
from matfn_service.tensors import from_wire

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from matfn_kernels import Call, Plan
    from matfn_service.cost import Cost

__all__ = ["ParseCache", "Template"]

_MOST: Final = 1024
_MOST_BYTES: Final = 4096  # outside of the numbers; longer bodies are rare and parsed each time
_PREFIX: Final = 48  # bytes of a body in its key: names and dtypes come first

_Key: TypeAlias = "tuple[str, int, bytes]"


@dataclass(frozen=True, slots=True)
class _Field:
    """A tensor of a body and the span of its numbers.

    Attributes:
        name: of the input.
        dtype: of its numbers.
        shape: as it was sent, or as the call has it where that has as many numbers.
        uplo: the triangle that was sent, if one was.
        start: its first byte.
        stop: the end.
        kind: its dtype in torch, where its numbers may be read as they lie.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    uplo: wire.Uplo | None
    start: int
    stop: int
    kind: torch.dtype | None

    def tensor(self, body: memoryview) -> Tensor:
        """The tensor in a body."""
        if self.kind is not None and not body.readonly:
            return numbers_at(body, self.kind, self.shape, self.start)
        return from_wire(wire.Tensor(self.dtype, self.shape, body[self.start : self.stop], self.uplo))


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed body without its numbers.

    Attributes:
        call: the call's outline.
        plan: its plan.
        cost: bytes that it takes.
    """

    call: Call
    plan: Plan
    cost: Cost
    _fields: tuple[_Field, ...]
    _words: tuple[tuple[int, int, bytes], ...]

    def fits(self, body: memoryview) -> bool:
        """Whether a body of this length has the same bytes outside of its numbers."""
        return all(body[start:stop] == words for start, stop, words in self._words)

    def inputs(self, body: memoryview) -> dict[str, Tensor]:
        """The inputs in a body that fits, as they were sent."""
        return {field.name: field.tensor(body) for field in self._fields}


class ParseCache:
    """Templates of recent bodies, by function, length and first bytes."""

    def __init__(self) -> None:
        self._kept: dict[_Key, Template] = {}

    def find(self, function: str, body: memoryview) -> Template | None:
        """The template of a body; None if it has to be parsed."""
        template = self._kept.get(_key(function, body))
        return template if template is not None and template.fits(body) else None

    def keep(self, body: memoryview, sent: wire.Call, call: Call, plan: Plan, cost: Cost) -> None:
        """Keeps the template of a body that was parsed as `sent` and outlined as `call`, in place of the oldest."""
        fields = _fields(body, sent, call)
        if fields is None:
            return
        words = _words(body, fields)
        if sum(len(word) for _, _, word in words) > _MOST_BYTES:
            return
        if len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[_key(sent.function, body)] = Template(call, plan, cost, fields, words)


def _key(function: str, body: memoryview) -> _Key:
    return function, len(body), bytes(body[:_PREFIX])


def _fields(body: memoryview, sent: wire.Call, call: Call) -> tuple[_Field, ...] | None:
    """The spans of a call's numbers in its body, in order; None if some lie elsewhere, or there are none."""
    fields = []
    for name, tensor in sent.inputs.items():
        if not isinstance(tensor.data, memoryview) or not tensor.nbytes:
            return None
        start = address_of(tensor.data) - address_of(body)
        if not 0 <= start <= len(body) - tensor.nbytes:  # numbers of nested lists
            return None
        stand_in = call.inputs[name]
        is_whole = stand_in.nbytes == tensor.nbytes
        shape, kind = (tuple(stand_in.shape), stand_in.dtype) if is_whole else (tensor.shape, None)
        fields.append(_Field(name, tensor.dtype, shape, tensor.uplo, start, start + tensor.nbytes, kind))
    return tuple(fields)


def _words(body: memoryview, fields: tuple[_Field, ...]) -> tuple[tuple[int, int, bytes], ...]:
    """The bytes between the numbers."""
    spans = sorted((field.start, field.stop) for field in fields)
    starts, stops = [0, *(stop for _, stop in spans)], [*(start for start, _ in spans), len(body)]
    return tuple((start, stop, bytes(body[start:stop])) for start, stop in zip(starts, stops, strict=True))
