"""Bytes that a call will take, by its shapes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from matfn import wire
from matfn_service.ledger import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn_kernels import Call, Plan

__all__ = ["Cost", "decoding_bytes"]

_Counts: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

_CALL_BYTES: Final = 8192  # call, plan, job, ticket and their parts
_MATRIX_BYTES: Final = 1024  # a certificate, encoded
_WIDEST: Final = 8
_COPIES_WITHIN: Final = {  # of a matrix, measured; gradients at order 700, a tenth added
    "root": 8,
    "inv_root": 8,
    "sqrt_pair": 8,
    "msign": 8,
    "geometric_mean": 115,
    "norm2": 94,
    "cond": 94,
    "eigh": 21,
    "verify/eigh": 21,
    "eigenbasis": 28,
    "vjp/root": 26,
    "vjp/inv_root": 26,
    "vjp/sqrt_pair": 44,
    "vjp/log": 38,
    "vjp/exp": 34,
    "vjp/power": 40,
    "vjp/msign": 78,
    "vjp/mclip": 98,
    "vjp/eig_clip": 18,
    "vjp/geometric_mean": 125,
    "vjp/frechet_distance": 66,
}
_OF_GENERAL_WITHIN: Final = {"log": 120, "exp": 125, "power": 120}  # measured at order 400, with the most steps
_MOST_COPIES_WITHIN: Final = 14
_OF_TEXT: Final = 3  # of a byte of JSON: as text, and as what its strings mean
_MARKS: Final = b",[{"
_OF_JSON: Final = np.array([64, 128, 256])  # of a number in lists and arrays, a list, a mapping
_AT_ONCE: Final = 1 << 18


def decoding_bytes(body: memoryview, media: wire.Media) -> int:
    """Bytes of the values that a body is decoded to; msgpack's numbers stay where they are."""
    return _OF_TEXT * len(body) + int(_OF_JSON @ _counted(body)) if media is wire.Media.JSON else 0


def _counted(body: memoryview) -> _Counts:
    """How many commas, lists and mappings a text has at most."""
    octets = np.frombuffer(body, np.uint8)
    counts = np.zeros(len(_MARKS), np.int64)
    for start in range(0, len(octets), _AT_ONCE):
        part = octets[start : start + _AT_ONCE]
        counts += [np.count_nonzero(part == mark) for mark in _MARKS]
    return counts


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes that a call takes besides its body.

    Attributes:
        copied: inputs that are broadcast, filled up from triangles, promoted to another dtype, read from text, or
            replaced where they have flaws.
        computed: outputs, on the worker and here.
        working: working memory of one matrix, beyond what every worker is allowed.
        answered: outputs, once.
        items: number of matrices.
    """

    copied: int
    computed: int
    working: int
    answered: int
    items: int

    @classmethod
    def of(cls, sent: wire.Call, call: Call, plan: Plan, allowed: int = 0) -> Cost:
        """The cost of a call that was sent so and outlined so, where every worker is allowed so many bytes."""
        whole = {name: tensor.nbytes for name, tensor in call.inputs.items()}
        copied = sum(size for name, size in whole.items() if _is_copied(sent.inputs[name], size))
        if call.options.on_failure != "raise":
            copied += sum(whole.values())
        answered = plan.answer_bytes * call.items
        computed = max(plan.bytes * call.items - sum(whole.values()), answered)
        return cls(copied, computed, max(0, _working_bytes(call) - allowed), answered, call.items)

    def charges(self, copies: int) -> Mapping[Kind, int]:
        """Bytes to charge an account where outputs are copied so often into the answer."""
        return {
            Kind.INPUTS: self.copied,
            Kind.OUTPUTS: self.computed,
            Kind.WORKING: self.working,
            Kind.ANSWERS: self.answered * copies,
            Kind.CALLS: _CALL_BYTES + self.items * _MATRIX_BYTES,
        }


def _working_bytes(call: Call) -> int:
    """Bytes that a worker needs for the largest matrix of a call beside inputs and outputs."""
    numbers = max((math.prod(tensor.shape[1:]) for tensor in call.inputs.values()), default=0) if call.items else 0
    copies = _COPIES_WITHIN.get(call.function, _MOST_COPIES_WITHIN)
    if call.parameters.get("structure") == "general":
        copies = _OF_GENERAL_WITHIN.get(call.function.removeprefix("verify/"), copies)
    return numbers * _WIDEST * copies


def _is_copied(tensor: wire.Tensor, size: int) -> bool:
    return tensor.nbytes != size or not isinstance(tensor.data, memoryview)
