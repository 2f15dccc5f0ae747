"""The Open Inference Protocol version 2, whatever carries it: models, tensors, parameters, and answers.

A model is an entry of the catalogue, under its one version. Its parameters and options are the request's parameters.

Source: the protocol's specification (kserve/open-inference-protocol) and Triton's extensions of it (binary tensor
data, parameters, schedule policy).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from matfn import wire
from matfn_kernels import ENTRIES, OPTIONS, options_of, unknown
from matfn_service.problems import Refusal
from matfn_service.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from matfn_kernels import Function, Parameter

__all__ = [
    "CERTIFICATES",
    "DATATYPES",
    "EXTENSIONS",
    "MODEL_VERSION",
    "MOST_TENSORS",
    "TEXTS",
    "Output",
    "Request",
    "call_of",
    "check_wanted",
    "config_of",
    "dimensions",
    "distinct",
    "dtype_of",
    "index",
    "is_model",
    "metadata_of",
    "model",
    "outputs_of",
    "remarks",
    "server_metadata",
    "tensor_of",
    "texts_of",
]

MODEL_VERSION: Final = "1"
PLATFORM: Final = "matfn"
TEXTS: Final = "BYTES"
"""The datatype of texts."""
CERTIFICATES: Final = "certificates"
"""The name of the output, and of the parameter of an answer, that has the certificates as JSON texts."""
DATATYPES: Final[Mapping[str, str]] = {
    "FP32": "float32",
    "FP64": "float64",
    "FP16": "float16",
    "BF16": "bfloat16",
}
EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "schedule_policy")
MOST_TENSORS: Final = 64
_NAMES: Final = {dtype: datatype for datatype, dtype in DATATYPES.items()}
_INTEGERS: Final = tuple(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_OTHERS: Final = frozenset({"BOOL", "BYTES", "COMPLEX64", "COMPLEX128", *_INTEGERS})
"""Datatypes that are known by name but never computed with."""
_OPTIONS: Final = frozenset(option.name for option in OPTIONS)
_DIMENSION_LIMIT: Final = 1 << 31
_MOST_RANK: Final = 64
_MOST_PARAMETERS: Final = 64
_LONGEST_TEXT: Final = 1 << 16
"""Characters of a parameter that is JSON text: as many coefficients as there may be take a quarter of it."""
_LENGTH_BYTES: Final = 4  # before each element of texts in the binary form
_MICROSECONDS: Final = 1e6
_LOWEST_PRIORITY: Final = 9  # the protocol's 1 goes first; the call option's 9 does


@dataclass(frozen=True, slots=True)
class Request:
    """A request to infer.

    Attributes:
        call: what is to be computed.
        id: the caller's name for it, which the answer repeats; empty for none.
        wanted: names of the outputs that it asks for, and whether each is to be binary; None for all outputs.
        is_binary: whether outputs are to be binary where it does not say so one by one.
        says_certificates: whether the answer has them as a parameter.
    """

    call: wire.Call
    id: str = ""
    wanted: Mapping[str, bool] | None = None
    is_binary: bool = False
    says_certificates: bool = True


def model(name: str, version: str = "") -> Function:
    """The catalogue's entry of a model.

    Raises:
        Refusal: `unknown_function` if there is no such model, or no such version of it.
    """
    if name not in ENTRIES:
        raise Refusal("unknown_function", *unknown(name))
    if not is_model(name, version):
        detail = f"the model {name} has no version {version[:_MOST_RANK]!r}"
        raise Refusal("unknown_function", detail, f"its only version is {MODEL_VERSION}; a request may leave it out")
    return ENTRIES[name]


def is_model(name: str, version: str = "") -> bool:
    """Whether there is such a model, in this version."""
    return name in ENTRIES and version in {"", MODEL_VERSION}


# Reports.


def server_metadata() -> dict[str, Any]:
    """Metadata of the server."""
    return {"name": "matfn", "version": VERSION, "extensions": list(EXTENSIONS)}


def metadata_of(function: Function) -> dict[str, Any]:
    """Metadata of a model; shapes have a dimension of -1 for each that a single matrix has."""
    outputs = [*zip(function.outputs, function.output_shapes, strict=True)]
    outputs += [(entry.name, entry.shape) for entry in function.on_request]
    return {
        "name": function.name,
        "versions": [MODEL_VERSION],
        "platform": PLATFORM,
        "inputs": [_described(entry.name, len(entry.shape)) for entry in function.inputs],
        "outputs": [
            *(_described(name, len(shape)) for name, shape in outputs),
            {"name": CERTIFICATES, "datatype": TEXTS, "shape": [-1]},
        ],
    }


def _described(name: str, rank: int) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": [-1] * rank}


def config_of(function: Function) -> dict[str, Any]:
    """A model's configuration as Triton gives it."""
    known = metadata_of(function)
    optional = {entry.name for entry in function.inputs if entry.optional}
    return {
        "name": function.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": 0,
        "input": [
            {
                "name": entry["name"],
                "data_type": "TYPE_FP32",
                "dims": entry["shape"],
                "optional": entry["name"] in optional,
            }
            for entry in known["inputs"]
        ],
        "output": [
            {
                "name": entry["name"],
                "data_type": "TYPE_STRING" if entry["datatype"] == TEXTS else "TYPE_FP32",
                "dims": entry["shape"],
            }
            for entry in known["outputs"]
        ],
    }


def index(*, is_ready: bool) -> list[dict[str, Any]]:
    """Every model with its state."""
    state = "READY" if is_ready else "UNAVAILABLE"
    return [{"name": name, "version": MODEL_VERSION, "state": state, "reason": ""} for name in ENTRIES]


# Requests.


def distinct(names: Iterable[str], what: str) -> None:
    """Raises DecodeError if there are too many names, or one is there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise wire.DecodeError(f"there are two {what}s with the name {_shown(name)}")
        seen.add(name)
        if len(seen) > MOST_TENSORS:
            raise wire.DecodeError(f"there are more than {MOST_TENSORS} {what}s")


def _shown(name: str) -> str:
    return repr(name[:_MOST_RANK])


def dimensions(sizes: Sequence[object], name: str) -> tuple[int, ...]:
    """The shape of an input.

    Raises:
        DecodeError: if one of the sizes is none, or there are too many.
    """
    if len(sizes) > _MOST_RANK:
        raise wire.DecodeError(f"the shape of {_shown(name)} has {len(sizes)} dimensions, more than {_MOST_RANK}")
    return tuple(_dimension(size, name) for size in sizes)


def _dimension(size: object, name: str) -> int:
    if type(size) is not int or not 0 <= size < _DIMENSION_LIMIT:
        raise wire.DecodeError(f"the shape of {_shown(name)} has {_brief(size)}, no size between 0 and 2^31")
    return size


def _brief(value: object) -> str:
    return repr(value)[:_MOST_RANK] if isinstance(value, int | float | str) else f"a {type(value).__name__}"


def dtype_of(datatype: str, name: str) -> str | wire.DecodeError:
    """The dtype of an input, or why it is none that is computed with.

    Raises:
        DecodeError: if the protocol has no such datatype.
    """
    if datatype in DATATYPES:
        return DATATYPES[datatype]
    known = ", ".join(DATATYPES)
    if datatype not in _OTHERS:
        raise wire.DecodeError(f"{_shown(name)} has the unknown datatype {_shown(datatype)}; known are {known}")
    hint = f"send it as one of {known}; complex matrices are computed by /v1"
    return wire.DecodeError(f"{_shown(name)} is {datatype}", "unsupported_dtype", hint)


def tensor_of(name: str, dtype: str, shape: tuple[int, ...], data: wire.Buffer) -> wire.Tensor:
    """An input.

    Raises:
        DecodeError: if its shape takes another number of bytes.
    """
    try:
        return wire.Tensor(dtype, shape, data)
    except ValueError as error:
        raise wire.DecodeError(f"{_shown(name)}: {error}") from None


def call_of(
    function: Function,
    inputs: Mapping[str, wire.Tensor],
    parameters: Mapping[str, object],
    seconds: float | None = None,
) -> wire.Call:
    """The call of a request.

    Args:
        function: the model.
        inputs: by name.
        parameters: of the request, without those of its form.
        seconds: until its caller gives it up, where that is known otherwise.

    Raises:
        DecodeError: if a parameter is not of a kind that any function takes.
        Refusal: `invalid_parameter` if one of the protocol's own parameters is out of its domain.
    """
    if len(parameters) > _MOST_PARAMETERS:
        raise wire.DecodeError(f"there are more than {_MOST_PARAMETERS} parameters")
    rules = {entry.name: entry for entry in (*function.parameters, *options_of(function))}
    values = {name: _value(value, name, rules.get(name)) for name, value in parameters.items()}
    given: dict[str, wire.Value] = {name: values.pop(name) for name in ("timeout", "priority") if name in values}
    options = {name: values.pop(name) for name in tuple(values) if name in _OPTIONS}
    options |= _scheduled(given, options)
    if seconds is not None:
        options["deadline"] = _sooner(options.get("deadline"), seconds)
    return wire.Call(function.name, dict(inputs), values, options)


def _sooner(deadline: wire.Value, seconds: float) -> wire.Value:
    """The sooner of a deadline and the caller's own; one that is no time stays, and is refused as such."""
    if deadline is None:
        return seconds
    is_time = isinstance(deadline, int | float) and not isinstance(deadline, bool) and math.isfinite(deadline)
    return min(seconds, deadline) if is_time else deadline


def _value(value: object, name: str, rule: Parameter | None) -> wire.Value:
    """A parameter's value; text for one that is no text is JSON, since the protocol's parameters are scalars."""
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            raise wire.DecodeError(f"the parameter {_shown(name)} is a string of {len(value)} characters")
        if rule is None or rule.kind == "string" or value in rule.choices:
            return value
        return _rows(_parsed(value), name)
    return _rows(value, name)


def _parsed(text: str) -> object:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _rows(value: object, name: str, room: int = 2) -> wire.Value:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list) and room:
        return tuple(_rows(entry, name, room - 1) for entry in value)
    raise wire.DecodeError(f"the parameter {_shown(name)} is neither a scalar nor rows of them")


def _scheduled(given: Mapping[str, wire.Value], options: Mapping[str, wire.Value]) -> dict[str, wire.Value]:
    """The options that the protocol's `timeout` and `priority` mean; in it 1 goes first, and 0 says nothing."""
    scheduled: dict[str, wire.Value] = {}
    if timeout := _whole(given, "timeout", "microseconds", 1 << 63):
        if "deadline" in options:
            raise Refusal("invalid_parameter", "timeout and deadline are both given", "give one of them")
        scheduled["deadline"] = timeout / _MICROSECONDS
    if priority := _whole(given, "priority", "0 to 9", _LOWEST_PRIORITY):
        scheduled["priority"] = _LOWEST_PRIORITY + 1 - priority
    return scheduled


def _whole(given: Mapping[str, wire.Value], name: str, what: str, most: int) -> int:
    value = given.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise Refusal("invalid_parameter", f"{name} is {_brief(value)}; it is a whole number: {what}")
    return value


def check_wanted(request: Request) -> None:
    """Refuses outputs that the call does not have.

    Raises:
        Refusal: `invalid_parameter`.
    """
    call = request.call
    known = (*ENTRIES[call.function].outputs_of(call.inputs, call.params), CERTIFICATES)
    for name in request.wanted or ():
        if name not in known:
            detail = f"this call of {call.function} has no output {_shown(name)}"
            raise Refusal("invalid_parameter", detail, f"its outputs are {', '.join(known)}")


# Answers.


@dataclass(frozen=True, slots=True)
class Output:
    """An output of an answer.

    Attributes:
        name: of the output.
        datatype: of its elements.
        shape: with the leading dimensions of the call.
        pieces: its elements in the binary form, in order.
        is_binary: whether it is asked for in that form.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    pieces: Sequence[memoryview]
    is_binary: bool


def outputs_of(request: Request, answer: wire.EncodedAnswer, texts: Sequence[bytes]) -> Iterator[Output]:
    """The outputs asked for, in their order; the certificates' texts are an output where they are named."""
    has = {**answer.outputs, **answer.gradients}
    wanted = dict.fromkeys(has, request.is_binary) if request.wanted is None else request.wanted
    for name, is_binary in wanted.items():
        if name == CERTIFICATES:
            octets = b"".join(len(one).to_bytes(_LENGTH_BYTES, "little") + one for one in texts)
            yield Output(name, TEXTS, (len(texts),), [memoryview(octets)], is_binary)
        else:
            rows = has[name]
            yield Output(name, _NAMES[rows.dtype], tuple(rows.shape), rows.pieces, is_binary)


def texts_of(answer: wire.EncodedAnswer) -> list[bytes]:
    """The certificates, one a matrix, as JSON texts."""
    return [wire.certificate_json(octets) for octets in answer.certificates]


def remarks(request: Request, answer: wire.EncodedAnswer, texts: Sequence[bytes]) -> dict[str, str | float]:
    """The parameters of an answer: its certificates, unless they are not asked for, and where the time went."""
    timing = answer.timing
    certificates = {CERTIFICATES: f"[{b','.join(texts).decode()}]"} if request.says_certificates else {}
    return {
        **certificates,
        "queue_ms": timing.queue_ms,
        "device_ms": timing.device_ms,
        "batch_size": timing.batch_size,
        "fill": timing.fill,
        "profile": timing.profile or "",
        "device": answer.device,
        "request_id": answer.request_id,
    }
