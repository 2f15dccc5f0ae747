"""The messages of the wire, as frozen dataclasses: calls, tensors, answers and their certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from matfn._codes import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matfn._msgpack import Buffer

__all__ = [
    "ITEM_BYTES",
    "OTHER_ITEM_BYTES",
    "Answer",
    "Call",
    "Certificate",
    "DecodeError",
    "EncodedAnswer",
    "Media",
    "Outcome",
    "Residual",
    "Rows",
    "Tensor",
    "Timing",
    "TooManyValues",
    "Uplo",
    "Value",
    "require_bytes",
]

Uplo: TypeAlias = Literal["L", "U"]
Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | None"

ITEM_BYTES: Final[Mapping[str, int]] = {
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}


OTHER_ITEM_BYTES: Final[Mapping[str, int]] = {
    "bool": 1,
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""numpy's other dtypes, which are known by name but never computed with."""


def require_bytes(dtype: str, shape: tuple[int, ...], given: int, uplo: Uplo | None = None) -> None:
    """Raises ValueError unless a shape of a dtype, or one triangle of its matrices, takes the given number of bytes."""
    entries = prod(shape) if uplo is None else prod(shape[:-2]) * shape[-1] * (shape[-1] + 1) // 2
    expected = entries * (ITEM_BYTES.get(dtype) or OTHER_ITEM_BYTES[dtype])
    if given != expected:
        part = "" if uplo is None else f" as the triangle {uplo}"
        raise ValueError(f"shape {list(shape)} of {dtype}{part} is {expected} bytes, data has {given}")


class Media(StrEnum):
    """The two media types of a body."""

    MSGPACK = "application/msgpack"
    JSON = "application/json"

    @property
    def problem(self) -> str:
        """The media type of a problem document in the same format."""
        return self.value.replace("/", "/problem+")


class Outcome(StrEnum):
    """How an answer came out; members equal their plain strings."""

    CONVERGED = "converged"
    APPROXIMATE = "approximate"
    FAILED = "failed"


class DecodeError(Exception):
    """A body, or one call of it, cannot be read: malformed, unsupported_dtype, unknown_function or too_large."""

    def __init__(self, detail: str, code: str = "malformed", hint: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint or TABLE[code].hint


class TooManyValues(DecodeError):  # noqa: N818 - named after what it says
    """A body holds more values than a request may, or than are to be read at once."""

    def __init__(self, most: int) -> None:
        hint = "send tensors as octets, in msgpack or as base64, and not as lists of numbers"
        super().__init__(f"the body holds more than {most} values", "too_large", hint)


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers in C order and little-endian, with their dtype's name and shape; the byte count is right.

    With `uplo` they are one triangle of symmetric matrices, row by row: the shape is still that of the matrices.
    """

    dtype: str
    shape: tuple[int, ...]
    data: Buffer
    uplo: Uplo | None = None

    def __post_init__(self) -> None:
        require_bytes(self.dtype, self.shape, self.nbytes, self.uplo)

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return self.data.nbytes if isinstance(self.data, memoryview) else len(self.data)


@dataclass(frozen=True, slots=True)
class Call:
    """One function applied to its inputs; names and values are not checked here, but by the kernels' validation.

    The inputs of a vector-Jacobian product have the cotangents among them, which a body has beside them.
    """

    function: str
    inputs: dict[str, Tensor]
    params: dict[str, Value]
    options: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went: waiting and computing, and in which batch.

    Attributes:
        queue_ms: from arrival to launch.
        device_ms: in which the device computed.
        batch_size: matrices in the batch.
        fill: the batch against the largest allowed, 0 if it has no matrices; above 1 if one matrix is larger.
        profile: name@hash of the profile that chose the methods; None from servers that do not say.
    """

    queue_ms: float
    device_ms: float
    batch_size: int
    fill: float
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Residual:
    """A measured defect of the answer, and the name of what was measured."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """Certificate of one matrix; errors are relative, in the Frobenius norm, for the damped matrix.

    `error_bound` is proved, where certify="proved" asked for a proof and there is one; else None.
    """

    outcome: Outcome
    residual: Residual | None
    error_estimate: float | None
    condition: float | None
    method: str
    precision: str
    steps: int
    rank: int | None
    damping: float
    shift: float
    fallback: str | None
    code: str | None
    hint: str | None
    error_bound: float | None = None

    def __repr__(self) -> str:
        """The fields that say something."""
        words = {name: getattr(self, name) for name in self.__slots__}
        words |= {"outcome": str(self.outcome), "damping": self.damping or None, "shift": self.shift or None}
        return f"Certificate({', '.join(f'{name}={_brief(one)}' for name, one in words.items() if one is not None)})"


def _brief(value: object) -> str:
    """Three digits of a number: a certificate is an estimate."""
    if isinstance(value, Residual):
        return f"{value.name} {value.value:.3g}"
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


@dataclass(frozen=True, slots=True)
class Answer:
    """The outputs of one call with one certificate a matrix, and the gradients of a vector-Jacobian product."""

    outputs: dict[str, Tensor]
    certificates: tuple[Certificate, ...]
    timing: Timing
    device: str
    request_id: str
    gradients: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """A tensor to be sent that lies in several pieces of memory, along its first dimension."""

    dtype: str
    shape: tuple[int, ...]
    pieces: Sequence[memoryview]
    uplo: Uplo | None = None


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """An answer to be sent whose certificates have been encoded where they were made."""

    outputs: dict[str, Rows]
    certificates: Sequence[bytes]
    timing: Timing
    device: str
    request_id: str
    gradients: dict[str, Rows] = field(default_factory=dict)
