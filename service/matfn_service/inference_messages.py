"""The messages of the Open Inference Protocol over gRPC.

The numbers of fields are those that the protocol publishes (kserve/open-inference-protocol, open_inference_grpc.proto)
and Triton adds to it (grpc_service.proto, model_config.proto). They are facts; none of those files is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matfn import wire
from matfn_service.inference import (
    CERTIFICATES,
    MODEL_VERSION,
    MOST_TENSORS,
    Request,
    call_of,
    dimensions,
    distinct,
    dtype_of,
    model,
    outputs_of,
    remarks,
    tensor_of,
    texts_of,
)
from matfn_service.protobuf import entries, fields, flag, head_of, octets, real, signed, text, varints, written
from matfn_service.protobuf import number as unsigned
from matfn_service.shared_memory import lent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "config_message",
    "index_message",
    "metadata_message",
    "named_model",
    "read_request",
    "reply_message",
    "server_message",
]

_PARAMETERS: Final = {1: flag, 2: signed, 3: text, 4: real, 5: unsigned}
_CONTENTS: Final = {"float32": 6, "float64": 7}
_DATA_TYPES: Final = {"TYPE_FP32": 11, "TYPE_STRING": 13}
_TEXTS: Final = {1: ("name", "model_name"), 2: ("version", "model_version"), 3: ("id", "id")}
_MOST_FIELDS: Final = 8 * MOST_TENSORS
_SHOWN: Final = 64


# Requests.


@dataclass(slots=True)
class _Input:
    """An input as it was sent: all but raw contents."""

    name: str = ""
    datatype: str = ""
    shape: list[int] = field(default_factory=list)
    contents: Mapping[int, list[memoryview]] = field(default_factory=dict)


@dataclass(slots=True)
class _Sent:
    """The fields of a request."""

    name: str = ""
    version: str = ""
    id: str = ""
    parameters: dict[str, object] = field(default_factory=dict)
    inputs: list[_Input] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    raw: list[memoryview] = field(default_factory=list)


def read_request(content: memoryview, seconds: float | None = None) -> Request:
    """The request in a message; its numbers lie in memory of their own.

    Args:
        content: the message.
        seconds: until its caller gives it up, if it does.

    Raises:
        DecodeError: if it cannot be read.
        Refusal: if there is no such model, or a parameter is out of its domain.
    """
    sent = _sent(content)
    function = model(sent.name, sent.version)
    distinct((one.name for one in sent.inputs), "input")
    distinct(sent.outputs, "output")
    tensors = {one.name: _tensor(one, given) for one, given in zip(sent.inputs, _given(sent), strict=True)}
    for tensor in tensors.values():
        if isinstance(tensor, wire.DecodeError):
            raise tensor
    inputs = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, wire.Tensor)}
    says_certificates = sent.parameters.pop(CERTIFICATES, True)
    if not isinstance(says_certificates, bool):
        raise wire.DecodeError(f"{CERTIFICATES} is neither true nor false")
    call = call_of(function, inputs, sent.parameters, seconds)
    return Request(call, sent.id, dict.fromkeys(sent.outputs, True) or None, True, says_certificates)  # noqa: FBT003


def _sent(content: memoryview) -> _Sent:
    sent = _Sent()
    for number, value in fields(content, _MOST_FIELDS):
        if number in _TEXTS:
            attribute, called = _TEXTS[number]
            setattr(sent, attribute, text(value, called))
        elif number == 4:  # noqa: PLR2004 - as below, the published number
            name, parameter = entries(value, "parameters")
            sent.parameters[name] = _parameter(parameter, name)
        elif number == 5:  # noqa: PLR2004
            sent.inputs.append(_input(octets(value, "inputs")))
        elif number == 6:  # noqa: PLR2004
            sent.outputs.append(_output(octets(value, "outputs")))
        elif number == 7:  # noqa: PLR2004
            sent.raw.append(octets(value, "raw_input_contents"))
    return sent


def _parameter(content: memoryview, name: str) -> object:
    value: object = None
    for number, part in fields(content):
        if number in _PARAMETERS:
            value = _PARAMETERS[number](part, f"the parameter {name[:_SHOWN]!r}")
    return value


def _input(content: memoryview) -> _Input:
    found = _Input()
    for number, value in fields(content):
        match number:
            case 1:
                found.name = text(value, "the name of an input")
            case 2:
                found.datatype = text(value, "the datatype of an input")
            case 3:
                found.shape += varints(value, "the shape of an input")
            case 4:
                raise wire.DecodeError(f"inputs take no parameter {entries(value, 'a parameter')[0][:_SHOWN]!r}")
            case 5:
                found.contents = _contents(octets(value, "contents"))
    return found


def _contents(content: memoryview) -> dict[int, list[memoryview]]:
    """Numbers by the field that they are in; those of other types than floats are not read."""
    found: dict[int, list[memoryview]] = {}
    for number, value in fields(content):
        found.setdefault(number, []).append(value if isinstance(value, memoryview) else memoryview(b""))
    return found


def _output(content: memoryview) -> str:
    name = ""
    for number, value in fields(content):
        if number == 1:
            name = text(value, "the name of an output")
        elif number == 2:  # noqa: PLR2004 - its parameters
            raise wire.DecodeError(f"outputs take no parameter {entries(value, 'a parameter')[0][:_SHOWN]!r}")
    return name


def _given(sent: _Sent) -> Sequence[memoryview | None]:
    """The raw contents of each input, or None for each where they come in fields of their type."""
    if not sent.raw:
        return [None] * len(sent.inputs)
    if len(sent.raw) != len(sent.inputs) or any(one.contents for one in sent.inputs):
        detail = f"there are {len(sent.raw)} raw contents for {len(sent.inputs)} inputs"
        raise wire.DecodeError(f"{detail}; either all inputs have them, in order, or none has")
    return sent.raw


def _tensor(sent: _Input, raw: memoryview | None) -> wire.Tensor | wire.DecodeError:
    shape, dtype = dimensions(sent.shape, sent.name), dtype_of(sent.datatype, sent.name)
    if isinstance(dtype, wire.DecodeError):
        return dtype
    numbers = _owned([raw] if raw is not None else _typed(sent, dtype))
    return tensor_of(sent.name, dtype, shape, numbers)


def _typed(sent: _Input, dtype: str) -> Sequence[memoryview]:
    """The numbers of an input in the field of its type."""
    other = sorted(set(sent.contents) - {_CONTENTS.get(dtype)})
    if other:
        hint = "FP32 belongs in fp32_contents, FP64 in fp64_contents, FP16 and BF16 in raw_input_contents"
        raise wire.DecodeError(f"{sent.name[:_SHOWN]!r} has contents of another type", hint=hint)
    return sent.contents.get(_CONTENTS.get(dtype, 0), [])


def _owned(pieces: Sequence[memoryview]) -> memoryview:
    """Pieces one after the other in memory of their own, which workers see where it is large."""
    memory, end = lent(sum(map(len, pieces))), 0
    whole = np.frombuffer(memory, np.uint8)
    for piece in pieces:
        whole[end : end + len(piece)] = np.frombuffer(piece, np.uint8)  # which others may run beside
        end += len(piece)
    return memory


def named_model(content: memoryview) -> tuple[str, str]:
    """Name and version in a message about one model."""
    found = {1: "", 2: ""}
    for number, value in fields(content):
        if number in found:
            found[number] = text(value, "the name or the version of a model")
    return found[1], found[2]


# Answers.


def reply_message(request: Request, answer: wire.EncodedAnswer) -> bytes:
    """The message that answers a request."""
    texts = texts_of(answer)
    outputs = list(outputs_of(request, answer, texts))
    said = [written((1, name), (2, _said(value))) for name, value in remarks(request, answer, texts).items()]
    described = [written((1, one.name), (2, one.datatype), (3, one.shape)) for one in outputs]
    opening = written(
        (1, request.call.function),
        (2, MODEL_VERSION),
        (3, request.id),
        (4, said),
        (5, described),
    )
    parts: list[wire.Buffer] = [opening]
    for one in outputs:
        parts += [head_of(6, sum(map(len, one.pieces))), *one.pieces]
    return b"".join(parts)


def _said(value: str | float) -> bytes:
    """A parameter of an answer."""
    number = 3 if isinstance(value, str) else 2 if isinstance(value, int) else 4
    return written((number, value))


def server_message(known: Mapping[str, Any]) -> bytes:
    """Metadata of the server."""
    return written((1, known["name"]), (2, known["version"]), (3, known["extensions"]))


def metadata_message(known: Mapping[str, Any]) -> bytes:
    """Metadata of a model."""
    return written(
        (1, known["name"]),
        (2, known["versions"]),
        (3, known["platform"]),
        (4, _tensors(known["inputs"])),
        (5, _tensors(known["outputs"])),
    )


def _tensors(known: Iterable[Mapping[str, Any]]) -> list[bytes]:
    return [written((1, one["name"]), (2, one["datatype"]), (3, tuple(one["shape"]))) for one in known]


def config_message(known: Mapping[str, Any]) -> bytes:
    """The configuration of a model."""
    inputs = [
        written((1, one["name"]), (2, _DATA_TYPES[one["data_type"]]), (4, tuple(one["dims"])), (8, one["optional"]))
        for one in known["input"]
    ]
    outputs = [
        written((1, one["name"]), (2, _DATA_TYPES[one["data_type"]]), (3, tuple(one["dims"])))
        for one in known["output"]
    ]
    config = written((1, known["name"]), (2, known["platform"]), (5, inputs), (6, outputs), (17, known["backend"]))
    return written((1, config))


def index_message(known: Iterable[Mapping[str, str]]) -> bytes:
    """Every model with its state."""
    return written((1, [written((1, one["name"]), (2, one["version"]), (3, one["state"])) for one in known]))
