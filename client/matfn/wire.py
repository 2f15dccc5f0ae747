"""The wire format: calls, answers and problems to bytes and back, as msgpack or JSON.

    Call --encode_call--> buffers ~~~> body --decode_call--> Call
    Answer | Problem <--decode_answers-- body <~~~ buffers <--encode_answers--

Rules of this file:
- Encoding copies no tensor in msgpack: the buffers are the caller's memory, to be sent in order.
- Decoding raises DecodeError and nothing else, whatever the bytes, and allocates a small multiple of them.
- Tensors decoded from msgpack are views of the body, which must outlive them.
- A request is read strictly (an unknown key is a misspelt one); an answer leniently, for servers newer than we are.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from matfn import _json, _msgpack
from matfn._fields import (
    integer,
    items,
    mapping,
    number,
    only,
    optional_integer,
    optional_number,
    optional_text,
    shown,
    text,
)
from matfn._messages import (
    ITEM_BYTES,
    OTHER_ITEM_BYTES,
    Answer,
    Call,
    Certificate,
    DecodeError,
    EncodedAnswer,
    Media,
    Outcome,
    Residual,
    Rows,
    Tensor,
    Timing,
    TooManyValues,
    Uplo,
    Value,
    require_bytes,
)
from matfn._msgpack import MAX_DEPTH, Buffer, Packed, Pieces
from matfn.catalogue import ENTRIES, unknown
from matfn.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

__all__ = [
    "ITEM_BYTES",
    "MOST_VALUES",
    "Answer",
    "Buffer",
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
    "certificate_json",
    "decode_answer",
    "decode_answers",
    "decode_call",
    "decode_calls",
    "decode_problem",
    "encode_answer",
    "encode_answers",
    "encode_call",
    "encode_calls",
    "encode_certificate",
    "encode_problem",
    "nested",
    "offset_of",
    "request_tree",
]

_DIMENSION_LIMIT: Final = 1 << 31
_TRIANGLES: Final[Mapping[str, Uplo]] = {"L": "L", "U": "U"}
_OUTCOMES: Final[Mapping[str, Outcome]] = {str(outcome): outcome for outcome in Outcome}
MOST_VALUES: Final = 5 << 20
"""Numbers, strings, lists and maps in a request: enough for one matrix of order 2048, written out in JSON."""
_MOST_RANK: Final = 64
_MOST_INPUTS: Final = 64
_MOST_VALUES: Final = 4096
"""Values in the params or options of a call; coefficients of a polynomial are a few dozen."""
_LONGEST_VALUE: Final = 1024
_DECODED_TOGETHER: Final = 1 << 18
"""Characters of base64, a multiple of 4, that are decoded in a few tenths of a millisecond, holding the interpreter."""
_FREED_TOGETHER: Final = 1 << 10
_COPIED_TOGETHER: Final = 1 << 14
_NOTHING: Final[Mapping[str, str]] = {}
_PLAIN: Final = frozenset({"certificates"})  # no tensors in them, and as many parts as there are matrices

# Encoding: dataclass -> tree -> buffers. A tuple in a tree holds no tensor (see _msgpack).


def encode_call(call: Call, media: Media) -> list[Buffer]:
    """Buffers of the body of POST /v1/{function}; the function's name is in the route, not here."""
    return _dump(_call_tree(call), media)


def encode_calls(calls: Sequence[Call], media: Media) -> list[Buffer]:
    """Buffers of the body of POST /v1/calls."""
    return _dump({"calls": [{"function": call.function, **_call_tree(call)} for call in calls]}, media)


def encode_answer(answer: Answer | EncodedAnswer, media: Media) -> list[Buffer]:
    """Buffers of the body that answers one call."""
    return _dump(_answer_tree(answer), media)


def encode_answers(answers: Sequence[Answer | EncodedAnswer | Problem], media: Media) -> list[Buffer]:
    """Buffers of the body that answers POST /v1/calls, answers and problems in the calls' order."""
    trees = [_problem_tree(item) if isinstance(item, Problem) else _answer_tree(item) for item in answers]
    return _dump({"answers": trees}, media)


def encode_certificate(certificate: Certificate) -> bytes:
    """A certificate as an EncodedAnswer holds it."""
    return _msgpack.packed(_certificate_tree(certificate))


def encode_problem(problem: Problem, media: Media, extras: Mapping[str, str] = _NOTHING) -> bytes:
    """The RFC 9457 document with these members besides its own; its media type is `media.problem`."""
    return b"".join(_dump({**_problem_tree(problem), **extras}, media))


def certificate_json(octets: bytes) -> bytes:
    """The JSON text of a certificate that an EncodedAnswer holds."""
    return bytes(_json.dump(Packed(octets)))


def offset_of(buffers: Sequence[Buffer]) -> int:
    """Where in a body the first tensor of some size begins; 0 if there is none."""
    return len(buffers[0]) if len(buffers) > 1 else 0


def _dump(tree: object, media: Media) -> list[Buffer]:
    return _msgpack.pack(tree) if media is Media.MSGPACK else [_json.dump(tree)]


def _call_tree(call: Call) -> dict[str, object]:
    names = ENTRIES[call.function].cotangents if call.function in ENTRIES else ()
    arrays = {name: call.inputs[name] for name in _varying(call.function) if name in call.inputs}
    inputs = {name: tensor for name, tensor in call.inputs.items() if name not in (*names, *arrays)}
    params = {**call.params, **_tensor_trees(arrays)}
    tree = {"inputs": _tensor_trees(inputs), "params": params, "options": call.options}
    cotangents = {name: call.inputs[name] for name in names if name in call.inputs}
    return tree | ({"cotangents": _tensor_trees(cotangents)} if names else {})


def _varying(function: str) -> tuple[str, ...]:
    """The parameters of a function that may be tensors, which are inputs here and params in a body."""
    return tuple(entry.name for entry in ENTRIES[function].varying) if function in ENTRIES else ()


def _tensor_trees(tensors: Mapping[str, Tensor | Rows]) -> dict[str, object]:
    return {name: _tensor_tree(tensor) for name, tensor in tensors.items()}


def _tensor_tree(tensor: Tensor | Rows) -> dict[str, object]:
    part = {} if tensor.uplo is None else {"uplo": tensor.uplo}
    data = Pieces(tensor.pieces) if isinstance(tensor, Rows) else _octets(tensor.data)
    return {"dtype": tensor.dtype, "shape": tensor.shape, **part, "data": data}


def _octets(data: Buffer) -> memoryview:
    view = memoryview(data)
    # a view with a zero in its shape cannot be cast
    return view.cast("B") if view.nbytes else memoryview(b"")


def _answer_tree(answer: Answer | EncodedAnswer) -> dict[str, object]:
    timing, found = answer.timing, answer.certificates
    encoded = [entry if isinstance(entry, bytes) else encode_certificate(entry) for entry in found]
    return {  # outputs last: what is small leaves before them in one write, and nothing has to follow
        "certificates": Packed.array(encoded),
        "timing": {name: getattr(timing, name) for name in Timing.__slots__},
        "device": answer.device,
        "request_id": answer.request_id,
        "outputs": _tensor_trees(answer.outputs),
        **({"gradients": _tensor_trees(answer.gradients)} if answer.gradients else {}),
    }


def _certificate_tree(certificate: Certificate) -> dict[str, object]:
    tree = {name: getattr(certificate, name) for name in Certificate.__slots__}
    tree["outcome"] = str(certificate.outcome)
    if certificate.residual:
        tree["residual"] = {"name": certificate.residual.name, "value": certificate.residual.value}
    return tree


def _problem_tree(problem: Problem) -> dict[str, object]:
    tree: dict[str, object] = {"type": f"urn:matfn:problem:{problem.code}"}
    tree |= {name: getattr(problem, name) for name in ("title", "status", "detail", "code", "hint", "request_id")}
    extras = {"index": problem.index, "retry_after_ms": problem.retry_after_ms}
    return tree | {name: value for name, value in extras.items() if value is not None}


# Decoding requests: body -> tree -> checked dataclass.


def decode_call(body: Buffer, media: Media, function: str, most: int = MOST_VALUES) -> Call:
    """The call of a body sent to POST /v1/{function}.

    Raises:
        TooManyValues: if it holds more than `most` values besides the octets of tensors.
        DecodeError: if it cannot be read.
    """
    tree = request_tree(body, media, most)
    try:
        return _call(tree, function, MAX_DEPTH)
    finally:
        if len(body) > _COPIED_TOGETHER:
            _empty(tree, MAX_DEPTH)


def decode_calls(body: Buffer, media: Media) -> list[Call | DecodeError]:
    """The calls of POST /v1/calls in order, each read or refused by itself; only a bad envelope raises."""
    tree = request_tree(body, media, MOST_VALUES)
    try:
        envelope = mapping(tree, "the body")
        only(envelope, {"calls"}, "the body")
        return [_call_or_error(call) for call in items(envelope.get("calls"), "calls")]
    finally:
        _empty(tree, MAX_DEPTH)


def _empty(tree: object, room: int) -> None:
    """Empties the lists of a tree; to free millions of numbers at once would hold the interpreter."""
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    if room:
        for entry in inner:
            if isinstance(entry, dict | list):
                _empty(entry, room - 1)
    while isinstance(tree, list) and tree:
        del tree[-_FREED_TOGETHER:]


def request_tree(body: Buffer, media: Media, most: int = MOST_VALUES) -> object:
    """The tree of a request.

    Raises:
        TooManyValues: if it holds more than `most` values besides the octets of tensors.
        DecodeError: if it cannot be read.
    """
    try:
        return _msgpack.unpack(body, most=most) if media is Media.MSGPACK else _json.load(body, most)
    except _msgpack.TooMany:
        raise TooManyValues(most) from None
    except ValueError as error:
        raise DecodeError(str(error)) from None


def _load(body: Buffer, media: Media, plain: Container[str] = ()) -> object:
    try:
        return _msgpack.unpack(body, plain) if media is Media.MSGPACK else _json.load(body)
    except ValueError as error:
        raise DecodeError(str(error)) from None


def _call_or_error(tree: object) -> Call | DecodeError:
    try:
        call = dict(mapping(tree, "the call"))
        return _call(call, text(call.pop("function", None), "function"), MAX_DEPTH - 2)
    except DecodeError as error:
        return error.with_traceback(None)  # whose frames would hold it, and what was sent, until a whole collection


def _call(tree: object, function: str, room: int) -> Call:
    call = mapping(tree, "the call")
    if function not in ENTRIES:
        detail, hint = unknown(function)
        raise DecodeError(detail, "unknown_function", hint)
    names = ENTRIES[function].cotangents
    only(call, {"inputs", "params", "options", *(("cotangents",) if names else ())}, "the call")
    inputs = mapping(call.get("inputs"), "inputs")
    _check_names(inputs, _MOST_INPUTS, "inputs")
    if misplaced := next((name for name in _varying(function) if name in inputs), None):
        raise DecodeError(f"{misplaced} is no input but a parameter: it belongs in params")
    read = {name: _tensor(value, name, room - 2) for name, value in inputs.items()}
    if names:
        read = _cotangents(call.get("cotangents"), names, read, room) | read
    params, arrays = _parameters(call.get("params", {}), function)
    read |= {name: _tensor(value, name, room - 2) for name, value in arrays.items()}
    options = _values(call.get("options", {}), "options")
    return Call(function, {name: _supported(tensor) for name, tensor in read.items()}, params, options)


def _parameters(tree: object, function: str) -> tuple[dict[str, Value], dict[str, object]]:
    """The parameters of a call, and the trees of those that are tensors."""
    given = mapping(tree, "params")
    arrays = {name: given[name] for name in _varying(function) if isinstance(given.get(name), list | dict)}
    return _values({name: value for name, value in given.items() if name not in arrays}, "params"), arrays


def _cotangents(
    tree: object, names: tuple[str, ...], inputs: Mapping[str, object], room: int
) -> dict[str, Tensor | DecodeError]:
    """The cotangents of a call, each named after its output."""
    cotangents = mapping(tree, "cotangents")
    only(cotangents, set(names), "cotangents")
    if misplaced := next((name for name in names if name in inputs), None):
        raise DecodeError(f"{misplaced} is no input but an output: its cotangent belongs in cotangents")
    return {name: _tensor(value, name, room - 2) for name, value in cotangents.items()}


def _supported(tensor: Tensor | DecodeError) -> Tensor:
    """The tensor; its dtype is refused only here, after the whole call has proved well-formed."""
    if isinstance(tensor, DecodeError):
        raise tensor
    return tensor


def _tensor(tree: object, name: str, room: int) -> Tensor | DecodeError:
    if isinstance(tree, list):
        return nested(tree, name, room)
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        return replace(nested([tree], name, room), shape=())
    fields = mapping(tree, f"input {shown(name)}")
    only(fields, {"dtype", "shape", "data", "uplo"}, f"input {shown(name)}")
    return _flat(fields, name, _uplo(fields.get("uplo"), name))


def _uplo(value: object, name: str) -> Uplo | None:
    given = optional_text(value, f"the uplo of {shown(name)}")
    if given is not None and given not in _TRIANGLES:
        hint = "leave uplo out to send whole matrices"
        raise DecodeError(f"{shown(name)} has the uplo {shown(given)}; known are 'L' and 'U'", hint=hint)
    return None if given is None else _TRIANGLES[given]


def _flat(fields: Mapping[str, object], name: str, uplo: Uplo | None = None) -> Tensor | DecodeError:
    dtype = text(fields.get("dtype"), f"the dtype of {shown(name)}")
    if dtype not in ITEM_BYTES and dtype not in OTHER_ITEM_BYTES:
        raise DecodeError(f"{shown(name)} has the unknown dtype {shown(dtype)}; known are {', '.join(ITEM_BYTES)}")
    sizes = items(fields.get("shape"), f"the shape of {shown(name)}")
    if len(sizes) > _MOST_RANK:
        raise DecodeError(f"the shape of {shown(name)} has {len(sizes)} dimensions, more than {_MOST_RANK}")
    shape = tuple(_dimension(size, name) for size in sizes)
    try:
        data = _data(fields.get("data"), name)
        if uplo is not None and (unfit := _without_triangle(dtype, shape, name)):
            return unfit
        require_bytes(dtype, shape, len(data), uplo)
    except ValueError as error:
        raise DecodeError(f"{shown(name)}: {error}") from None
    if dtype in OTHER_ITEM_BYTES:
        return DecodeError(f"{shown(name)} is {dtype}", "unsupported_dtype")
    return Tensor(dtype, shape, data, uplo)


def _without_triangle(dtype: str, shape: tuple[int, ...], name: str) -> DecodeError | None:
    """Why matrices of this shape and dtype cannot be sent as a triangle, if they cannot."""
    if len(shape) < 2 or shape[-2] != shape[-1]:  # noqa: PLR2004 - rows and columns
        detail = f"{shown(name)} has uplo and the shape {list(shape)}; only square matrices have a triangle"
        return DecodeError(detail, "invalid_shape", "give the shape (*, n, n), or leave uplo out and send all entries")
    if dtype.startswith("complex"):
        detail = f"{shown(name)} has uplo and is {dtype}; only real matrices may be sent as a triangle"
        return DecodeError(detail, "unsupported_dtype", "leave uplo out and send all entries")
    return None


def _dimension(size: object, name: str) -> int:
    if type(size) is not int or not 0 <= size < _DIMENSION_LIMIT:
        raise DecodeError(f"the shape of {shown(name)} has {shown(size)}, no size between 0 and 2^31")
    return size


def _data(data: object, name: str) -> Buffer:
    if isinstance(data, memoryview):
        return data
    encoded = data.text if isinstance(data, _json.Base64) else text(data, f"the data of {shown(name)}")
    if len(encoded) <= _DECODED_TOGETHER:
        return b64decode(encoded, validate=True)
    decoded, end = np.empty(len(encoded) // 4 * 3, np.uint8).data, 0
    for start in range(0, len(encoded), _DECODED_TOGETHER):
        if end != start // 4 * 3:
            raise ValueError("there is padding within the base64")
        piece = b64decode(encoded[start : start + _DECODED_TOGETHER], validate=True)
        decoded[end : end + len(piece)] = piece
        end += len(piece)
    return decoded[:end]


def nested(rows: list[object], name: str, room: int) -> Tensor:
    """Nested lists of numbers, null for NaN, as float64; level by level, so that a ragged one shows where."""
    shape = [len(rows)]
    while rows and any(isinstance(row, list) for row in rows):
        if len(shape) >= room:
            raise DecodeError(f"{shown(name)} nests the body deeper than {MAX_DEPTH} levels")
        level = [row for row in rows if isinstance(row, list)]
        if len(level) != len(rows) or len({len(row) for row in level}) > 1:
            raise DecodeError(f"{shown(name)} is ragged at level {len(shape)} of its lists")
        shape.append(len(level[0]))
        rows = _joined(level)
    if not {type(entry) for entry in rows} <= {int, float, type(None)}:
        raise DecodeError(f"{shown(name)} has an entry that is neither a number nor null")
    flat = np.empty(len(rows), dtype="<f8")
    try:
        for start in range(0, len(rows), _COPIED_TOGETHER):
            piece = np.array(rows[start : start + _COPIED_TOGETHER], dtype="<f8")
            flat[start : start + len(piece)] = piece
    except OverflowError:
        raise DecodeError(f"{shown(name)} has an integer beyond float64") from None
    _empty(rows, 0)
    return Tensor("float64", tuple(shape), _octets(flat.data))


def _joined(rows: list[list[object]]) -> list[object]:
    """The entries of all rows; no step holds the interpreter for long."""
    entries: list[object] = []
    for row in rows:
        for start in range(0, len(row), _COPIED_TOGETHER):
            entries += row[start : start + _COPIED_TOGETHER]
    return entries


def _values(tree: object, what: str) -> dict[str, Value]:
    given = mapping(tree, what)
    _check_names(given, _MOST_VALUES, what)
    if sum(_size(value) for value in given.values()) > _MOST_VALUES:
        raise DecodeError(f"{what} hold more than {_MOST_VALUES} values")
    return {name: _value(value, name, room=2) for name, value in given.items()}


def _check_names(given: Mapping[str, object], most: int, what: str) -> None:
    if len(given) > most:
        raise DecodeError(f"{what} hold more than {most} names")
    longest = max(map(len, given), default=0)
    if longest > _LONGEST_VALUE:
        raise DecodeError(f"{what} have a name of {longest} characters")


def _size(tree: object) -> int:
    """Number of values in lists of two levels; more than are allowed where there are more."""
    if not isinstance(tree, list):
        return 1
    if len(tree) > _MOST_VALUES:
        return len(tree)
    return 1 + sum(len(row) if isinstance(row, list) else 1 for row in tree)


def _value(tree: object, name: str, room: int) -> Value:
    if isinstance(tree, str) and len(tree) > _LONGEST_VALUE:
        raise DecodeError(f"{shown(name)} is a string of {len(tree)} characters")
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if isinstance(tree, list) and room:
        return tuple(_value(entry, name, room - 1) for entry in tree)
    raise DecodeError(f"{shown(name)} is neither a number, a string, a boolean, null nor rows of them")


# Decoding answers.


def decode_answer(body: Buffer, media: Media) -> Answer:
    """The answer to one call."""
    return _answer(mapping(_load(body, media, _PLAIN), "the answer"))


def decode_answers(body: Buffer, media: Media) -> list[Answer | Problem]:
    """The answers to POST /v1/calls in order; a failed call's is its problem."""
    envelope = mapping(_load(body, media, _PLAIN), "the body")
    trees = [mapping(tree, "the answer") for tree in items(envelope.get("answers"), "answers")]
    return [_problem(tree) if "code" in tree else _answer(tree) for tree in trees]


def decode_problem(body: Buffer, content_type: str) -> Problem:
    """The problem document of a non-2xx answer, in the format that its content type names."""
    kind = content_type.partition(";")[0].strip().lower()
    media = next((media for media in Media if media.problem == kind), None)
    if media is None:
        raise DecodeError(f"{shown(content_type)} is no problem document")
    return _problem(mapping(_load(body, media), "the problem"))


def _answer(tree: Mapping[str, object]) -> Answer:
    timing = mapping(tree.get("timing"), "timing")
    return Answer(
        outputs=_outputs(tree.get("outputs"), "outputs"),
        certificates=tuple(_certificate(entry) for entry in items(tree.get("certificates"), "certificates")),
        timing=Timing(
            number(timing.get("queue_ms"), "queue_ms"),
            number(timing.get("device_ms"), "device_ms"),
            integer(timing.get("batch_size"), "batch_size"),
            number(timing.get("fill"), "fill"),
            optional_text(timing.get("profile"), "profile"),
        ),
        device=text(tree.get("device"), "device"),
        request_id=text(tree.get("request_id"), "request_id"),
        gradients=_outputs(tree.get("gradients", {}), "gradients"),
    )


def _outputs(tree: object, what: str) -> dict[str, Tensor]:
    return {name: _output(mapping(value, name), name) for name, value in mapping(tree, what).items()}


def _output(fields: Mapping[str, object], name: str) -> Tensor:
    return _supported(_flat(fields, name, _uplo(fields.get("uplo"), name)))


def _certificate(entry: object) -> Certificate:
    tree = mapping(entry, "a certificate")
    outcome = text(tree.get("outcome"), "outcome")
    if outcome not in _OUTCOMES:
        raise DecodeError(f"{shown(outcome)} is no outcome of a certificate")
    return Certificate(
        outcome=_OUTCOMES[outcome],
        residual=_residual(tree.get("residual")),
        error_estimate=optional_number(tree.get("error_estimate"), "error_estimate"),
        condition=optional_number(tree.get("condition"), "condition"),
        method=text(tree.get("method"), "method"),
        precision=text(tree.get("precision"), "precision"),
        steps=integer(tree.get("steps"), "steps"),
        rank=optional_integer(tree.get("rank"), "rank"),
        damping=number(tree.get("damping"), "damping"),
        shift=number(tree.get("shift"), "shift"),
        fallback=optional_text(tree.get("fallback"), "fallback"),
        code=optional_text(tree.get("code"), "code"),
        hint=optional_text(tree.get("hint"), "hint"),
        error_bound=optional_number(tree.get("error_bound"), "error_bound"),
    )


def _residual(tree: object) -> Residual | None:
    if tree is None:
        return None
    residual = mapping(tree, "residual")
    return Residual(text(residual.get("name"), "residual name"), number(residual.get("value"), "residual value"))


def _problem(tree: Mapping[str, object]) -> Problem:
    return Problem(
        code=text(tree.get("code"), "code"),
        detail=text(tree.get("detail"), "detail"),
        status=integer(tree.get("status"), "status"),
        title=text(tree.get("title"), "title"),
        hint=optional_text(tree.get("hint"), "hint"),
        index=optional_integer(tree.get("index"), "index"),
        request_id=text(tree.get("request_id", ""), "request_id"),
        retry_after_ms=optional_number(tree.get("retry_after_ms"), "retry_after_ms"),
    )
