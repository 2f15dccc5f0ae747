"""The routes of the Open Inference Protocol in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from matfn_kernels import FUNCTIONS
from matfn_service.inference import CERTIFICATES, DATATYPES, MODEL_VERSION, MOST_TENSORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["inference_paths"]

_REPORT: Final = ("unauthorized", "internal")
_OF_MODEL: Final = (*_REPORT, "unknown_function")
_READY: Final = ("busy", "draining", "internal")
_NUMBER: Final = {"type": ["number", "null"]}
_EXAMPLE: Final = {
    "inputs": [{"name": "m", "shape": [2, 2], "datatype": "FP32", "data": [2, 0, 0, 1]}],
    "outputs": [{"name": "x"}, {"name": CERTIFICATES}],
}


def inference_paths(
    problems: Callable[[Iterable[str]], Mapping[str, Any]], of_any_call: Iterable[str]
) -> dict[str, Any]:
    """The paths below /v2.

    Args:
        problems: the responses that are problems, from their codes.
        of_any_call: the codes of the problems that every call can have.
    """
    codes = {code for function in FUNCTIONS.values() for code in function.errors}
    of_call = dict.fromkeys((*of_any_call, "unknown_function", *sorted(codes)))
    model = "/v2/models/{model}"
    version = f"{model}/versions/{{version}}"
    paths: dict[str, Any] = {
        "/v2": _read("v2", "The server and its extensions", problems(_REPORT)),
        "/v2/health/live": _read("v2_live", "Whether the process answers", problems(["internal"])),
        "/v2/health/ready": _read("v2_ready", "Whether calls are taken now", problems(_READY)),
        "/v2/repository/index": {
            "post": _operation("v2_index", "Every model with its state", problems(_REPORT), _array())
        },
    }
    for place, suffix in ((model, ""), (version, "_version")):
        paths |= {
            place: _read(f"v2_model{suffix}", "Inputs and outputs of a function", problems(_OF_MODEL)),
            f"{place}/config": _read(f"v2_config{suffix}", "Triton's configuration of it", problems(_OF_MODEL)),
            f"{place}/ready": _read(
                f"v2_model_ready{suffix}", "Whether it is computed now", problems([*_OF_MODEL, *_READY])
            ),
            f"{place}/infer": {"post": _infer(f"v2_infer{suffix}", problems(of_call))},
        }
        for path in [path for path in paths if path.startswith(place)]:
            paths[path] = {**paths[path], "parameters": _parameters(path)}
    return paths


def _parameters(path: str) -> list[dict[str, Any]]:
    values = {"model": list(FUNCTIONS), "version": [MODEL_VERSION]}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": known}}
        for name, known in values.items()
        if f"{{{name}}}" in path
    ]


def _read(name: str, summary: str, problems: Mapping[str, Any]) -> dict[str, Any]:
    return {"get": _operation(name, summary, problems, {"type": "object"})}


def _array() -> dict[str, Any]:
    return {"type": "array", "items": {"type": "object"}}


def _operation(name: str, summary: str, problems: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": answer}}
    return {
        "operationId": name,
        "tags": ["Open Inference Protocol"],
        "summary": summary,
        "responses": {"200": {"description": "The answer", "content": content}, **problems},
    }


def _infer(name: str, problems: Mapping[str, Any]) -> dict[str, Any]:
    operation = _operation(name, "One call of a function", problems, _answer())
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    header = {
        "description": "bytes of JSON before the binary tensors, where there are any",
        "schema": {"type": "integer"},
    }
    answer = operation["responses"]["200"]
    answer["content"] |= binary
    answer["headers"] = {"Inference-Header-Content-Length": header}
    return operation | {
        "description": "Content-Type is ignored. With the header Inference-Header-Content-Length the JSON has so many "
        "bytes, and the tensors with a binary_data_size follow it in order, little-endian in C order.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _request(), "example": _EXAMPLE}},
        },
    }


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _request() -> dict[str, Any]:
    size = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    shape = {"type": "array", "items": size, "maxItems": 64}
    scalar: dict[str, Any] = {"type": ["number", "string", "boolean", "array", "null"]}
    data = {"type": "array", "description": "flat, or nested as the shape is; null for NaN"}
    tensor = _closed(
        ["name", "shape", "datatype"],
        name={"type": "string"},
        shape=shape,
        datatype={"type": "string", "enum": list(DATATYPES)},
        parameters=_closed([], binary_data_size={"type": "integer", "minimum": 0}),
        data=data,
    )
    output = _closed(["name"], name={"type": "string"}, parameters=_closed([], binary_data={"type": "boolean"}))
    return _closed(
        ["inputs"],
        id={"type": "string"},
        parameters={
            "type": "object",
            "properties": {
                "binary_data_output": {"type": "boolean"},
                CERTIFICATES: {"type": "boolean", "description": "whether the answer's parameters have them"},
                "timeout": {"type": "integer", "minimum": 0, "description": "microseconds"},
                "priority": {"type": "integer", "minimum": 0, "maximum": 9, "description": "1 goes first, 0: none"},
            },
            "additionalProperties": scalar,
        },
        inputs={"type": "array", "items": tensor, "maxItems": MOST_TENSORS},
        outputs={"type": "array", "items": output, "maxItems": MOST_TENSORS},
    )


def _answer() -> dict[str, Any]:
    elements = {"type": "array", "items": {"anyOf": [_NUMBER, {"type": "string"}]}}
    output = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": elements,
        },
        "required": ["name", "datatype", "shape"],
    }
    return {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object", "properties": {CERTIFICATES: {"type": "string"}}},
            "outputs": {"type": "array", "items": output},
        },
        "required": ["model_name", "model_version", "outputs"],
    }
