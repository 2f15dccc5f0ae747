"""The Open Inference Protocol over HTTP: the routes below /v2, and bodies of JSON with binary tensors behind it.

    GET  /v2  /v2/health/live  /v2/health/ready  /v2/models/{f}[/versions/1][/ready|/config]
    POST /v2/repository/index  /v2/models/{f}[/versions/1]/infer

Names of models may have slashes, as those of verifications and vector-Jacobian products do. Checks run in the order of
/v1, without a media type to be checked: Inference-Header-Content-Length alone says where the JSON ends.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from matfn import wire
from matfn._fields import items, mapping, only, optional_text, text
from matfn_service.admission import INLINE_BYTES, decoding
from matfn_service.endpoints import Reply
from matfn_service.heads import require_identity
from matfn_service.inference import (
    CERTIFICATES,
    DATATYPES,
    MODEL_VERSION,
    TEXTS,
    Output,
    Request,
    call_of,
    check_wanted,
    config_of,
    dimensions,
    distinct,
    dtype_of,
    index,
    metadata_of,
    model,
    outputs_of,
    remarks,
    server_metadata,
    tensor_of,
    texts_of,
)
from matfn_service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from matfn_kernels import Function
    from matfn_service.admission import Admission, Prepared
    from matfn_service.endpoints import Computation
    from matfn_service.exchange import Exchange
    from matfn_service.heads import Head
    from matfn_service.ledger import Account
    from matfn_service.service import Service

__all__ = ["InferenceRoutes", "read_request"]

_Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_MODEL: Final = re.compile(
    r"/v2/models/(?P<name>.+?)(?:/versions/(?P<version>[^/]*))?(?P<what>/ready|/config|/infer|/stats|/trace/setting)?"
)
_SHORT: Final = INLINE_BYTES // 32  # of JSON: it is read in a tenth of a millisecond or two
_LENGTH_DIGITS: Final = 18
_ROOM: Final = 8  # levels of nested lists
_NUMBERS_TOGETHER: Final = 1 << 10  # are written in a tenth of a millisecond or two, holding the interpreter
_TEXT_BYTES: Final = 80  # of a number in JSON: as a number, in a list, as text, and in the transport
_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_LENGTH: Final = b"inference-header-content-length"


class InferenceRoutes:
    """The routes below /v2, as one bare ASGI application inside the edge."""

    def __init__(self, service: Service, computation: Computation) -> None:
        self._service = service
        self._computation = computation
        self._reports: Mapping[str, tuple[str, Callable[[], object]]] = {
            "/v2": ("GET", server_metadata),
            "/v2/health/live": ("GET", lambda: {"live": True}),
            "/v2/health/ready": ("GET", self._ready),
            "/v2/repository/index": ("POST", lambda: index(is_ready=service.is_ready)),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        del receive, send  # the exchange has both
        exchange: Exchange = scope["matfn.exchange"]
        path, method = scope["path"].rstrip("/"), scope["method"]
        if path in self._reports:
            exchange.entry.route = path
            wanted, report = self._reports[path]
            _require(method, wanted, path)
            await _tell(exchange, report())
            return
        found = _MODEL.fullmatch(path)
        if found is None:
            raise Refusal("not_found", f"there is no route {path[: _LENGTH_DIGITS * 4]!r}", _routes())
        function, what = model(found["name"], found["version"] or ""), found["what"]
        exchange.entry.function, exchange.entry.route = function.name, f"/v2/models/{{function}}{what or ''}"
        _require(method, "POST" if what == "/infer" else "GET", path)
        if what == "/infer":
            await self._computation.serve(exchange, _InferenceForm(function, exchange.head))
        else:
            await _tell(exchange, self._of_model(function, what))

    def _ready(self) -> dict[str, object]:
        self._service.require_ready()
        return {"ready": True}

    def _of_model(self, function: Function, what: str | None) -> object:
        match what:
            case None:
                return metadata_of(function)
            case "/config":
                return config_of(function)
            case "/ready":
                return {"name": function.name, **self._ready()}
            case _:
                raise Refusal("not_found", f"models have no {what}", _routes())


def _routes() -> str:
    return "read /openapi.json for the routes; statistics are at /metrics"


def _require(method: str, wanted: str, path: str) -> None:
    if method != wanted:
        allow = "POST, OPTIONS" if wanted == "POST" else "GET, HEAD, OPTIONS"
        raise Refusal("method_not_allowed", f"{path} takes {wanted}, not {method}", allow=allow)


async def _tell(exchange: Exchange, report: object) -> None:
    await exchange.answer(HTTPStatus.OK, _JSON, [json.dumps(report).encode()])


@dataclass(slots=True)
class _InferenceForm:
    """The form of POST /v2/models/{function}/infer."""

    function: Function
    head: Head
    request: Request | None = field(default=None, init=False)

    async def prepared(self, admission: Admission, content: memoryview, account: Account) -> Prepared:
        """The call in a body."""
        require_identity(self.head)
        end = _end_of_json(self.head.inference, len(content))
        is_short = end <= _SHORT
        read = partial(read_request, content, end, self.function)
        with decoding(account, content[:end], wire.Media.JSON):
            request = read() if is_short else await admission.in_thread(read)
        self.request = request
        check_wanted(request)
        is_small = is_short and content.nbytes <= INLINE_BYTES
        return await admission.sent(request.call, account, _copies(request), is_small=is_small)

    def reply(self, answer: wire.EncodedAnswer) -> Reply:
        """The answer, in JSON with binary outputs behind it."""
        assert self.request is not None
        return _reply(self.request, answer)


def _end_of_json(header: bytes, length: int) -> int:
    """Where the JSON of a body of this length ends."""
    if not header:
        return length
    end = int(header) if header.isdigit() and len(header) <= _LENGTH_DIGITS else -1
    if not 0 <= end <= length:
        shown = header[:_LENGTH_DIGITS].decode("latin-1")
        raise Refusal("malformed", f"Inference-Header-Content-Length is {shown!r}; the body has {length} bytes")
    return end


# Requests.


def read_request(body: memoryview, end: int, function: Function) -> Request:
    """The request in a body.

    Args:
        body: as it came.
        end: where its JSON ends, and the binary tensors begin.
        function: the model.

    Raises:
        DecodeError: if it cannot be read.
        Refusal: if a parameter is out of its domain.
    """
    tree = mapping(_tree(body, end), "the request")
    only(tree, {"id", "parameters", "inputs", "outputs"}, "the request")
    parameters = dict(mapping(tree.get("parameters", {}), "parameters"))
    is_binary = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
    wanted = _wanted(tree.get("outputs"), is_binary)
    says_certificates = _flag(parameters.pop(CERTIFICATES, True), CERTIFICATES)
    inputs = _inputs(items(tree.get("inputs"), "inputs"), body[end:])
    called = optional_text(tree.get("id"), "id") or ""
    return Request(call_of(function, inputs, parameters), called, wanted, is_binary, says_certificates)


def _tree(body: memoryview, end: int) -> object:
    """The tree of the JSON; where binary tensors follow it without the header, that is said."""
    try:
        return wire.request_tree(body[:end], wire.Media.JSON)
    except wire.DecodeError as error:
        is_headless = end == len(body) and re.search(b"binary_data_size", body[:_SHORT]) is not None
        if error.code != "malformed" or not is_headless:
            raise
        detail = "binary tensors follow the JSON, and the header Inference-Header-Content-Length does not say where"
        raise wire.DecodeError(f"{detail} ({error.detail})") from None


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise wire.DecodeError(f"{what} is neither true nor false")
    return value


def _wanted(tree: object, is_binary: bool) -> dict[str, bool] | None:
    """Names of the outputs asked for, and whether each is to be binary."""
    named = [] if tree is None else [_output(entry, is_binary) for entry in items(tree, "outputs")]
    distinct((name for name, _ in named), "output")
    return dict(named) or None


def _output(tree: object, is_binary: bool) -> tuple[str, bool]:
    fields = mapping(tree, "an output")
    only(fields, {"name", "parameters"}, "an output")
    parameters = mapping(fields.get("parameters", {}), "the parameters of an output")
    only(parameters, {"binary_data"}, "the parameters of an output")
    return text(fields.get("name"), "the name of an output"), _flag(
        parameters.get("binary_data", is_binary), "binary_data"
    )


def _inputs(trees: Sequence[object], binary: memoryview) -> dict[str, wire.Tensor]:
    """The inputs by name; datatypes that are not computed with are refused after all else has proved well-formed."""
    rest = _Rest(binary)
    fields = [mapping(tree, "an input") for tree in trees]
    names = [text(entry.get("name"), "the name of an input") for entry in fields]
    distinct(names, "input")
    read = {name: _input(entry, name, rest) for name, entry in zip(names, fields, strict=True)}
    rest.require_end()
    for tensor in read.values():
        if isinstance(tensor, wire.DecodeError):
            raise tensor
    return {name: tensor for name, tensor in read.items() if isinstance(tensor, wire.Tensor)}


class _Rest:
    """The binary part of a body, which inputs take slices of in order."""

    def __init__(self, binary: memoryview) -> None:
        self._binary = binary
        self._taken = 0

    def take(self, size: object, name: str) -> memoryview:
        """The next slice."""
        left = len(self._binary) - self._taken
        if type(size) is not int or not 0 <= size <= left:
            raise wire.DecodeError(f"{name!r:.64} has a binary_data_size of {size!r:.64}; {left} bytes are left")
        self._taken += size
        return self._binary[self._taken - size : self._taken]

    def require_end(self) -> None:
        """Raises DecodeError if no input has taken the last bytes."""
        left = len(self._binary) - self._taken
        if left:
            raise wire.DecodeError(f"{left} bytes follow the last binary input")


def _input(fields: Mapping[str, object], name: str, rest: _Rest) -> wire.Tensor | wire.DecodeError:
    only(fields, {"name", "shape", "datatype", "parameters", "data"}, f"the input {name!r:.64}")
    shape = dimensions(items(fields.get("shape"), "the shape of an input"), name)
    dtype = dtype_of(text(fields.get("datatype"), "the datatype of an input"), name)
    parameters = mapping(fields.get("parameters", {}), "the parameters of an input")
    only(parameters, {"binary_data_size"}, "the parameters of an input")
    if "binary_data_size" not in parameters:
        return _listed(fields.get("data"), name, shape, dtype)
    if "data" in fields:
        raise wire.DecodeError(f"the input {name!r:.64} has both data and a binary_data_size")
    octets = rest.take(parameters["binary_data_size"], name)
    return tensor_of(name, dtype, shape, octets) if isinstance(dtype, str) else dtype


def _listed(
    data: object, name: str, shape: tuple[int, ...], dtype: str | wire.DecodeError
) -> wire.Tensor | wire.DecodeError:
    """An input from a list of its numbers, flat or nested as its shape is."""
    rows = items(data, f"the data of {name!r:.64}")
    if isinstance(dtype, wire.DecodeError):
        return dtype
    found = wire.nested(rows, name, _ROOM)
    if len(found.shape) > 1 and found.shape != shape:
        raise wire.DecodeError(f"the data of {name!r:.64} are nested as {list(found.shape)}, not as its shape says")
    octets = _rounded(found.data, dtype, name)
    return tensor_of(name, dtype, shape, octets) if isinstance(octets, bytes) else octets


def _rounded(numbers: wire.Buffer, dtype: str, name: str) -> bytes | wire.DecodeError:
    """The octets of float64 numbers in another dtype; an infinite one was a number that the dtype cannot hold."""
    if not len(numbers):
        return b""
    exact = torch.frombuffer(numbers, dtype=torch.float64)
    rounded = exact.to(getattr(torch, dtype))
    if rounded.isinf().any():
        return _out_of_range(float(exact[rounded.isinf()][0]), dtype, name)
    return (rounded.view(torch.int16) if dtype == "bfloat16" else rounded).numpy().tobytes()


def _out_of_range(number: float, dtype: str, name: str) -> wire.DecodeError:
    datatype = next(known for known, other in DATATYPES.items() if other == dtype)
    most = torch.finfo(getattr(torch, dtype)).max
    shown = f"{number:g}" if math.isfinite(number) else "a number beyond that"
    detail = f"{name!r:.64} has {shown}, out of the range of {datatype}, which ends at {most:g}"
    return wire.DecodeError(detail, "not_finite", "scale the matrices, or send a wider datatype")


def _copies(request: Request) -> int:
    """How often outputs are copied into the answer, at most."""
    wanted = {None: request.is_binary} if request.wanted is None else request.wanted
    if all(wanted.values()):
        return 0
    widths = [wire.ITEM_BYTES[tensor.dtype] for tensor in request.call.inputs.values()]
    return math.ceil(_TEXT_BYTES / min(widths, default=1))


# Answers.


def _reply(request: Request, answer: wire.EncodedAnswer) -> Reply:
    texts = texts_of(answer)
    outputs = list(outputs_of(request, answer, texts))
    binary: list[wire.Buffer] = [piece for one in outputs if one.is_binary for piece in one.pieces]
    head = {
        "model_name": request.call.function,
        "model_version": MODEL_VERSION,
        **({"id": request.id} if request.id else {}),
        "parameters": {name: _plain(value) for name, value in remarks(request, answer, texts).items()},
    }
    listed = b",".join(_described(one, texts) for one in outputs)
    header = b'%b,"outputs":[%b]}' % (_dumped(head)[:-1], listed)
    if not any(one.is_binary for one in outputs):
        return Reply(_JSON, [header])
    return Reply(_BINARY, [header, *binary], [(_LENGTH, b"%d" % len(header))])


def _plain(value: str | float) -> str | float | None:
    """JSON has null for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _dumped(tree: object) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()


def _described(output: Output, texts: Sequence[bytes]) -> bytes:
    """An output in JSON, with its numbers or texts unless they are binary."""
    fields = {"name": output.name, "datatype": output.datatype, "shape": output.shape}
    if output.is_binary:
        return _dumped({**fields, "parameters": {"binary_data_size": sum(map(len, output.pieces))}})
    elements = (_dumped(one.decode()) for one in texts) if output.datatype == TEXTS else _numbers_of(output)
    return b'%b,"data":[%b]}' % (_dumped(fields)[:-1], b",".join(elements))


def _numbers_of(output: Output) -> Iterator[bytes]:
    """All numbers of an output, some in a text; null for those that are not finite."""
    for piece in output.pieces:
        yield from _texts(_numbers(piece, DATATYPES[output.datatype]))


def _numbers(piece: memoryview, dtype: str) -> _Numbers:
    if dtype != "bfloat16":
        return np.frombuffer(piece, dtype)
    return (np.frombuffer(piece, np.uint16).astype(np.uint32) << 16).view(np.float32)


def _texts(numbers: _Numbers) -> Iterator[bytes]:
    """The numbers as text, some at a time: between two pieces other threads get a turn."""
    for start in range(0, len(numbers), _NUMBERS_TOGETHER):
        piece = numbers[start : start + _NUMBERS_TOGETHER]
        values = piece.tolist()
        if not np.isfinite(piece).all():
            values = [value if math.isfinite(value) else None for value in values]
        yield json.dumps(values, separators=(",", ":")).encode()[1:-1]
