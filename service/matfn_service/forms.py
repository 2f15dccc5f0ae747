"""Bodies of one form: what a body says beside its numbers, read once and known again by its bytes.

Callers send the same call over and over with other numbers. All bytes outside of the numbers being equal, the reading
of a body gives the same function, shapes, parameters and options, hence the same plan; a dictionary and a comparison
then do the work of a thousand steps of reading and checking. The numbers themselves are looked at as ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from matfn import wire
from matfn._aligned import address_of
from matfn_kernels import refilled
from matfn_service.tensors import from_wire

if TYPE_CHECKING:
    from matfn_kernels import Call, Plan

__all__ = ["Form", "Forms"]

_MOST: Final = 1024
_MOST_BYTES: Final = 4096  # of one form; what is longer is rare, and read again
_MARK: Final = 48  # bytes by which forms are told apart before they are compared: names and dtypes come first

_Mark: TypeAlias = "tuple[str, int, bytes]"


@dataclass(frozen=True, slots=True)
class _Field:
    """A tensor of a body, and where its numbers lie."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    uplo: wire.Uplo | None
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Form:
    """Everything that bodies of one form have in common.

    Attributes:
        call: what they ask for, without inputs.
        shapes: of the inputs that the call gets, batch first.
        plan: how it is done.
    """

    call: Call
    shapes: dict[str, tuple[int, ...]]
    plan: Plan
    _fields: tuple[_Field, ...]
    _words: tuple[tuple[int, int, bytes], ...]

    def fits(self, body: memoryview) -> bool:
        """Whether a body of the same length has the same bytes outside of its numbers."""
        return all(body[start:stop] == words for start, stop, words in self._words)

    def filled(self, body: memoryview) -> Call:
        """The call of a body that fits."""
        inputs = {
            field.name: from_wire(wire.Tensor(field.dtype, field.shape, body[field.start : field.stop], field.uplo))
            for field in self._fields
        }
        return refilled(self.call, inputs, self.shapes)


class Forms:
    """The forms of recent bodies, by what is quickly told of a body."""

    def __init__(self) -> None:
        self._kept: dict[_Mark, Form] = {}

    def find(self, function: str, body: memoryview) -> Form | None:
        """The form of a body; None if it has to be read."""
        form = self._kept.get(_mark(function, body))
        return form if form is not None and form.fits(body) else None

    def keep(self, body: memoryview, sent: wire.Call, call: Call, plan: Plan) -> None:
        """Remembers the form of a body that was read as `sent` and understood as `call`; the oldest gives way."""
        fields = _fields(body, sent)
        if fields is None:
            return
        words = _words(body, fields)
        if sum(len(word) for _, _, word in words) > _MOST_BYTES:
            return
        if len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        shapes = {name: tuple(tensor.shape) for name, tensor in call.inputs.items()}
        self._kept[_mark(sent.function, body)] = Form(replace(call, inputs={}), shapes, plan, fields, words)


def _mark(function: str, body: memoryview) -> _Mark:
    return function, len(body), bytes(body[:_MARK])


def _fields(body: memoryview, sent: wire.Call) -> tuple[_Field, ...] | None:
    """Where the numbers of a call lie in its body, in order; None if some have been copied, or there are none."""
    fields = []
    for name, tensor in sent.inputs.items():
        if not isinstance(tensor.data, memoryview) or not tensor.nbytes:
            return None
        start = address_of(tensor.data) - address_of(body)
        fields.append(_Field(name, tensor.dtype, tensor.shape, tensor.uplo, start, start + tensor.nbytes))
    return tuple(fields)


def _words(body: memoryview, fields: tuple[_Field, ...]) -> tuple[tuple[int, int, bytes], ...]:
    """What lies between the numbers."""
    spans = sorted((field.start, field.stop) for field in fields)
    starts, stops = [0, *(stop for _, stop in spans)], [*(start for start, _ in spans), len(body)]
    return tuple((start, stop, bytes(body[start:stop])) for start, stop in zip(starts, stops, strict=True))
