"""Size limits, checked against dtypes and shapes alone: before any number is copied, and before a call is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING, Final

from matfn.catalogue import ENTRIES
from matfn.compatibility import require_common_wire, server_version
from matfn.errors import Problem, problem_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn.arrays import Layout
    from matfn.catalogue import Function
    from matfn.errors import ProblemError

__all__ = ["UNLIMITED", "Limits"]

_SIZES: Final = ("max_order", "max_items", "max_elements", "max_request_bytes")
_TENSOR_BYTES: Final = (1 << 32) - 1  # where a binary value of msgpack ends


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest dimension of a matrix, numbers of matrices and of entries, bytes of a body; None where not known.

    `server` is the version of the server that told them; empty if it told none.
    """

    max_order: int | None = None
    max_items: int | None = None
    max_elements: int | None = None
    max_request_bytes: int | None = None
    server: str | None = field(default=None, compare=False)

    @classmethod
    def of(cls, document: object) -> Limits:
        """The limits in the answer of GET /v1/functions; names that it does not know are passed over.

        Raises:
            ProtocolError: if the server speaks another version of the wire.
        """
        require_common_wire(document)
        limits = document.get("limits") if isinstance(document, dict) else None
        sizes = limits if isinstance(limits, dict) else {}
        order, items, elements, request_bytes = (_size(sizes.get(name)) for name in _SIZES)
        return cls(order, items, elements, request_bytes, server_version(document))

    def check(self, function: str, inputs: Mapping[str, Layout], params: Mapping[str, object] | None = None) -> None:
        """Raises TooLarge for a call with a matrix too large or with too many.

        Args:
            function: its name.
            inputs: their layouts.
            params: the parameters, which may change the shapes of inputs.
        """
        spec = ENTRIES[function].packed(params or {})
        ranks = {item.name: len(item.shape) for item in spec.inputs}
        leads: list[tuple[int, ...]] = []
        for name, layout in inputs.items():
            shape, split = layout.shape, max(len(layout.shape) - ranks.get(name, 0), 0)
            order, items = max(shape[split:], default=0), prod(shape[:split])
            if _exceeds(order, self.max_order):
                raise _too_large(f"{name} has shape {shape}: a dimension of {order}", self.max_order, "ORDER")
            if _exceeds(items, self.max_items):
                raise _too_large(f"{name} holds {items} matrices", self.max_items, "ITEMS")
            leads.append(shape[:split])
        self._check_elements(spec, leads, {name: layout.shape for name, layout in inputs.items()})

    def _check_elements(
        self, spec: Function, leads: list[tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Small inputs may become large together; leading dimensions that do not fit are the server's to refuse."""
        items = prod(leads[0]) if leads.count(leads[0]) == len(leads) else _broadcast_items(leads)
        if items is None:
            return
        entries = sum(items * prod(shape[len(lead) :]) for lead, shape in zip(leads, shapes.values(), strict=True))
        if _exceeds(entries, self.max_elements):
            raise _too_large(f"the inputs have {entries} entries after broadcasting", self.max_elements, "ELEMENTS")
        entries = items * _output_entries(spec, shapes)
        if _exceeds(entries, self.max_elements):
            raise _too_large(f"the outputs have {entries} entries", self.max_elements, "ELEMENTS")

    def check_bytes(self, inputs: Mapping[str, Layout]) -> None:
        """Raises TooLarge for inputs that no body within the limits could hold."""
        for name, layout in inputs.items():
            if layout.nbytes > _TENSOR_BYTES:
                given = f"{name} has shape {layout.shape} of {layout.dtype}, {layout.nbytes} bytes"
                raise problem_error(Problem.of("too_large", f"{given}; a message holds at most {_TENSOR_BYTES}"))
        self.check_body(sum(layout.nbytes for layout in inputs.values()))

    def check_body(self, size: int) -> None:
        """Raises TooLarge for a body with too many bytes."""
        if _exceeds(size, self.max_request_bytes):
            raise _too_large(f"the body has {size} bytes", self.max_request_bytes, "REQUEST_BYTES")


UNLIMITED = Limits()


def _size(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _output_entries(spec: Function, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Entries in the outputs of one matrix; 0 where inputs lack dimensions, which the server refuses."""
    sizes = dict[str, int]()
    for entry in spec.inputs:
        rank = len(entry.shape)
        if len(shapes.get(entry.name, entry.shape)) < rank:
            return 0
        if entry.name in shapes:
            sizes.update(zip(entry.shape, shapes[entry.name][len(shapes[entry.name]) - rank :], strict=True))
    return sum(spec.output_elements(sizes, {}))


def _exceeds(size: int, limit: int | None) -> bool:
    return limit is not None and size > limit


def _too_large(given: str, limit: int | None, setting: str) -> ProblemError:
    return problem_error(Problem.of("too_large", f"{given}; the limit is {limit} (MATFN_MAX_{setting})"))


def _broadcast_items(leads: list[tuple[int, ...]]) -> int | None:
    """Matrices in the shape that all of these broadcast to, of any number of dimensions; None if there is none."""
    columns = zip_longest(*(reversed(lead) for lead in leads), fillvalue=1)
    sizes = [set(column) - {1} or {1} for column in columns]
    return prod(size for (size,) in sizes) if all(len(one) == 1 for one in sizes) else None
