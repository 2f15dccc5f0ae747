"""Size limits, checked against dtypes and shapes alone: before any number is copied, and before a call is sent."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from matfn.catalogue import ENTRIES
from matfn.errors import Problem, problem_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn.arrays import Layout
    from matfn.errors import ProblemError

__all__ = ["UNLIMITED", "Limits"]

_TENSOR_BYTES: Final = (1 << 32) - 1  # where a binary value of msgpack ends


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest dimension of a matrix, numbers of matrices and of entries, bytes of a body; None where not known."""

    max_order: int | None = None
    max_items: int | None = None
    max_elements: int | None = None
    max_request_bytes: int | None = None

    @classmethod
    def of(cls, document: object) -> Limits:
        """The limits in the answer of GET /v1/functions."""
        limits = document.get("limits") if isinstance(document, dict) else None
        if not isinstance(limits, dict):
            return UNLIMITED
        return cls(*(_size(limits.get(name)) for name in cls.__slots__))

    def check(self, function: str, inputs: Mapping[str, Layout]) -> None:
        """Raises TooLarge for a call with a matrix too large or with too many."""
        ranks = {item.name: len(item.shape) for item in ENTRIES[function].inputs}
        leads: list[tuple[int, ...]] = []
        for name, layout in inputs.items():
            shape, split = layout.shape, max(len(layout.shape) - ranks.get(name, 0), 0)
            order, items = max(shape[split:], default=0), prod(shape[:split])
            _require(f"{name} has shape {shape}: a dimension of {order}", order, self.max_order, "ORDER")
            _require(f"{name} holds {items} matrices", items, self.max_items, "ITEMS")
            leads.append(shape[:split])
        self._check_elements(leads, [layout.shape for layout in inputs.values()])

    def _check_elements(self, leads: list[tuple[int, ...]], shapes: list[tuple[int, ...]]) -> None:
        """Small inputs may become large together; leading dimensions that do not fit are the server's to refuse."""
        try:
            items = prod(np.broadcast_shapes(*leads))
        except ValueError:
            return
        entries = sum(items * prod(shape[len(lead) :]) for lead, shape in zip(leads, shapes, strict=True))
        _require(f"the inputs have {entries} entries after broadcasting", entries, self.max_elements, "ELEMENTS")

    def check_bytes(self, inputs: Mapping[str, Layout]) -> None:
        """Raises TooLarge for inputs that no body within the limits could hold."""
        for name, layout in inputs.items():
            if layout.nbytes > _TENSOR_BYTES:
                given = f"{name} has shape {layout.shape} of {layout.dtype}, {layout.nbytes} bytes"
                raise _too_large(f"{given}; a message holds at most {_TENSOR_BYTES}")
        self.check_body(sum(layout.nbytes for layout in inputs.values()))

    def check_body(self, size: int) -> None:
        """Raises TooLarge for a body with too many bytes."""
        _require(f"the body has {size} bytes", size, self.max_request_bytes, "REQUEST_BYTES")


UNLIMITED = Limits()


def _size(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _require(given: str, size: int, limit: int | None, setting: str) -> None:
    if limit is not None and size > limit:
        raise _too_large(f"{given}; the limit is {limit} (MATFN_MAX_{setting})")


def _too_large(detail: str) -> ProblemError:
    return problem_error(Problem.of("too_large", detail))
