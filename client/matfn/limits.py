"""The server's size limits, checked before a call is sent."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from matfn.catalogue import FUNCTIONS
from matfn.errors import Problem, problem_error

if TYPE_CHECKING:
    from matfn.errors import ProblemError
    from matfn.wire import Call

__all__ = ["UNLIMITED", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest dimension of a matrix, number of matrices and bytes of a body; None where the server does not say."""

    max_order: int | None = None
    max_items: int | None = None
    max_request_bytes: int | None = None

    @classmethod
    def of(cls, document: object) -> Limits:
        """The limits in the answer of GET /v1/functions."""
        limits = document.get("limits") if isinstance(document, dict) else None
        if not isinstance(limits, dict):
            return UNLIMITED
        return cls(*(_size(limits.get(name)) for name in ("max_order", "max_items", "max_request_bytes")))

    def check(self, call: Call) -> None:
        """Raises TooLarge for a call with a matrix too large or with too many."""
        trailing = {item.name: len(item.shape) for item in FUNCTIONS[call.function].inputs}
        for name, tensor in call.inputs.items():
            lead = max(len(tensor.shape) - trailing.get(name, 0), 0)
            order, items = max(tensor.shape[lead:], default=0), prod(tensor.shape[:lead])
            if self.max_order is not None and order > self.max_order:
                raise _too_large(f"{name} has shape {tensor.shape}", f"dimensions up to {self.max_order}", "ORDER")
            if self.max_items is not None and items > self.max_items:
                raise _too_large(f"{name} holds {items} matrices", f"up to {self.max_items} in one call", "ITEMS")

    def check_body(self, size: int) -> None:
        """Raises TooLarge for a body with too many bytes."""
        if self.max_request_bytes is not None and size > self.max_request_bytes:
            raise _too_large(f"the body has {size} bytes", f"up to {self.max_request_bytes}", "REQUEST_BYTES")


UNLIMITED = Limits()


def _size(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _too_large(given: str, taken: str, setting: str) -> ProblemError:
    return problem_error(Problem.of("too_large", f"{given}; the server takes {taken} (MATFN_MAX_{setting})"))
