"""The OpenAPI document: FastAPI's own routes, and the bare ones as the catalogue describes them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeAlias

from fastapi.openapi.utils import get_openapi

from matfn import wire
from matfn.errors import TABLE
from matfn_kernels import DTYPES, ENTRIES, FUNCTIONS, OPTIONS, Function, Input, Parameter, options_of
from matfn_service.inference_openapi import inference_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastapi import FastAPI

__all__ = ["openapi_document"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_ANY_CALL: Final = (
    "unauthorized",
    "too_large",
    "unsupported_media_type",
    "malformed",
    "busy",
    "draining",
    "out_of_memory",
    "deadline_exceeded",
    "internal",
    "worker_lost",
)
_ANY_PLAN: Final = (
    *("unauthorized", "too_large", "unsupported_media_type", "malformed", "busy", "draining", "internal"),
    *("unknown_function", "invalid_shape", "invalid_parameter", "unsupported_dtype"),
)
_ANY_REPORT: Final = ("unauthorized", "internal")
_OWN: Final = {"/readyz": ("draining",), "/v1/batches": (*_ANY_REPORT, "malformed")}
_UPLO: Final[dict[str, Json]] = {
    "type": ["string", "null"],
    "enum": ["L", "U", None],
    "description": "data is this triangle of real symmetric matrices, row by row; absent: all entries",
}
_NESTED: Final = {1: "Numbers", 2: "Rows", 3: "Stacks"}
"""Names of the schemas of nested lists, by the least number of levels."""
_EXAMPLES: Final[dict[int, Json]] = {0: 1, 1: [1, 1], 2: [[2, 0], [0, 2]], 3: [[[1, 0], [0, 1]], [[1, 0], [0, 1]]]}
"""Inputs of which every function has an answer, by their number of dimensions."""
_ORTHONORMAL: Final[Json] = [[1, 0], [0, 1]]
_NULL: Final[list[dict[str, Json]]] = [{"type": "null"}]


def openapi_document(app: FastAPI) -> dict[str, Json]:
    """The document of all routes of the application; made once, when it is created."""
    document: dict[str, Json] = get_openapi(
        title=app.title,
        version=app.version,
        summary="Matrix functions as a service: batched, with a certificate for every answer.",
        routes=app.routes,
    )
    paths = document["paths"]
    assert isinstance(paths, dict)
    for path, item in paths.items():
        _add_problems(item, _OWN.get(path, _ANY_REPORT))
    paths |= {f"/v1/{entry.name}": _function_path(entry) for entry in ENTRIES.values()}
    paths["/v1/calls"] = _calls_path()
    paths["/v1/plan/{function}"] = _plan_path()
    paths |= inference_paths(_problem_responses, _ANY_CALL)
    document["components"] = {"schemas": _schemas(), "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    document["security"] = [{}, {"key": []}]
    return document


def _add_problems(item: Json, codes: Iterable[str]) -> None:
    assert isinstance(item, dict)
    for operation in item.values():
        assert isinstance(operation, dict)
        responses = operation["responses"]
        assert isinstance(responses, dict)
        responses.pop("422", None)  # FastAPI's own, of what the edge answers with 400
        responses |= _problem_responses(codes)


def _function_path(function: Function) -> Json:
    operation: dict[str, Json] = {
        "operationId": function.name.replace("/", "_"),
        "tags": ["functions"],
        "summary": function.summary,
        "description": f"{function.formula}. Source: {function.source}.",
        "requestBody": _content(_call_schema(function), required=True, example=_example(function)),
        "responses": {
            "200": {"description": "The answer", **_content(_reference("Answer"))},
            **_problem_responses([*_ANY_CALL, *function.errors]),
        },
    }
    return {"post": operation}


def _example(function: Function) -> dict[str, Json]:
    """A small call in JSON that is answered."""
    names = function.cotangents
    inputs: dict[str, Json] = {
        entry.name: _ORTHONORMAL if entry.orthonormal else _EXAMPLES[len(entry.shape)]
        for entry in function.inputs
        if not entry.optional and entry.name not in names
    }
    cotangents: dict[str, Json] = {
        entry.name: _EXAMPLES[len(entry.shape)] for entry in function.inputs if entry.name in names
    }
    params: dict[str, Json] = {entry.name: 2 for entry in function.parameters if entry.required}
    return {"inputs": inputs, **({"cotangents": cotangents} if names else {}), "params": params}


def _calls_path() -> Json:
    calls: Json = {
        "type": "object",
        "properties": {
            "calls": {
                "type": "array",
                "items": _reference("Call"),
                "description": "each is read by itself: one that does not fit the schema has a problem in its place",
            }
        },
        "required": ["calls"],
        "additionalProperties": False,
    }
    example: Json = {"calls": [{"function": name, **_example(ENTRIES[name])} for name in ("inv_root", "msign")]}
    either: Json = {"anyOf": [_reference("Answer"), _reference("Problem")]}
    answers: Json = {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": either}},
        "required": ["answers"],
    }
    operation: dict[str, Json] = {
        "operationId": "calls",
        "tags": ["functions"],
        "summary": "Many calls of any functions and shapes; answers and problems come in the calls' order.",
        "requestBody": _content(calls, required=True, example=example),
        "responses": {
            "200": {"description": "One answer or problem a call", **_content(answers)},
            **_problem_responses(_ANY_CALL),
        },
    }
    return {"post": operation}


def _plan_path() -> Json:
    name: Json = {
        "name": "function",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": [*FUNCTIONS]},
    }
    body: Json = {
        "type": "object",
        "properties": {
            "inputs": {"type": "object", "additionalProperties": _reference("Tensor")},
            "params": {"type": "object"},
            "options": _parameters(OPTIONS),
        },
        "required": ["inputs"],
        "additionalProperties": False,
    }
    empty: Json = {"dtype": "float32", "shape": [0, 256, 256], "data": ""}
    answer: Json = {"application/json": {"schema": _reference("Plan")}}
    operation: dict[str, Json] = {
        "operationId": "plan",
        "tags": ["reports"],
        "summary": "The plan of a call that is not computed: its method, and the prices of all that could answer it.",
        "description": "Methods are chosen by shapes, dtype, parameters and options, so that an empty stack will do.",
        "parameters": [name],
        "requestBody": _content(body, required=True, example={"inputs": {"a": empty}, "params": {"r": 4}}),
        "responses": {"200": {"description": "The plan", "content": answer}, **_problem_responses(_ANY_PLAN)},
    }
    return {"post": operation}


def _problem_responses(codes: Iterable[str]) -> dict[str, Json]:
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_status[TABLE[code].status].append(code)
    content: Json = {media.problem: {"schema": _reference("Problem")} for media in wire.Media}
    return {str(s): {"description": ", ".join(by_status[s]), "content": content} for s in sorted(by_status)}


def _content(schema: Json, *, required: bool | None = None, example: Json = None) -> dict[str, Json]:
    """A body in either format; the example is that of JSON, since nested lists are the same in both."""
    media: dict[str, Json] = {"schema": schema} if example is None else {"schema": schema, "example": example}
    content: dict[str, Json] = {"content": {one.value: media for one in wire.Media}}
    return content if required is None else content | {"required": required}


def _reference(name: str) -> dict[str, Json]:
    return {"$ref": f"#/components/schemas/{name}"}


def _call_schema(function: Function) -> Json:
    inputs = [entry for entry in function.inputs if entry.name not in function.cotangents]
    cotangents = [entry for entry in function.inputs if entry.name in function.cotangents]
    beside: dict[str, Json] = {"cotangents": _tensors(cotangents)} if cotangents else {}
    needed: list[Json] = ["params"] if any(entry.required for entry in function.parameters) else []
    return {
        "type": "object",
        "properties": {
            "inputs": _tensors(inputs),
            **beside,
            "params": _parameters(function.parameters),
            "options": _parameters(options_of(function)),
        },
        "required": ["inputs", *beside, *needed],
        "additionalProperties": False,
    }


def _tensors(inputs: Iterable[Input]) -> Json:
    inputs = tuple(inputs)
    return _closed({entry.name: _input(entry) for entry in inputs}, [e.name for e in inputs if not e.optional])


def _input(entry: Input) -> Json:
    return {"description": f"(*, {', '.join(entry.shape)}): {entry.summary}", **_reference(f"Tensor{len(entry.shape)}")}


def _parameters(parameters: Iterable[Parameter]) -> Json:
    parameters = tuple(parameters)
    return _closed({entry.name: _parameter(entry) for entry in parameters}, [e.name for e in parameters if e.required])


def _closed(properties: Mapping[str, Json], required: list[Json]) -> Json:
    return {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _parameter(entry: Parameter) -> Json:
    arrays = [_reference("Tensor")] if entry.varies else []
    schemas = [*_kinds(entry), *arrays, *(_NULL if entry.nullable else ())]
    schema: dict[str, Json] = {**schemas[0]} if len(schemas) == 1 else {"anyOf": [*schemas]}
    schema["description"] = entry.summary
    if not entry.required and not isinstance(entry.default, tuple):
        schema["default"] = entry.default
    return schema


def _kinds(entry: Parameter) -> list[dict[str, Json]]:
    bounds: dict[str, Json] = {"minimum": entry.minimum, "maximum": entry.maximum}
    bounds = {name: bound for name, bound in bounds.items() if bound is not None}
    words: dict[str, Json] = {"type": "string", "enum": list(entry.choices)}
    row: dict[str, Json] = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
    match entry.kind:
        case "coefficients":
            return [{"type": "array", "items": row, "minItems": 1, "maxItems": int(entry.maximum or 1)}]
        case "offsets":
            whole: dict[str, Json] = {"type": "integer", "minimum": 0}
            return [{"type": "array", "items": whole, "minItems": 2, "maxItems": int(entry.maximum or 2)}]
        case "damping":
            return [{"type": "number", **bounds}, words]
        case "string":
            return [words]
        case kind:
            return [{"type": kind, **bounds}]


def _schemas() -> Json:
    number: Json = {"type": ["number", "null"]}
    text: Json = {"type": ["string", "null"]}
    return {
        "Tensor": {"anyOf": [_tensor(), _reference(_NESTED[1])]},
        "Tensor0": {"anyOf": [_tensor(), {"type": "number"}, _reference(_NESTED[1])]},
        **{f"Tensor{rank}": {"anyOf": [_tensor(rank), _reference(name)]} for rank, name in _NESTED.items()},
        **{name: _nested(rank) for rank, name in _NESTED.items()},
        "Array": _tensor(),
        "Call": {
            "type": "object",
            "properties": {
                "function": {"type": "string", "enum": list(ENTRIES)},
                "inputs": {"type": "object", "additionalProperties": _reference("Tensor")},
                "cotangents": {"type": "object", "additionalProperties": _reference("Tensor")},
                "params": {"type": "object"},
                "options": _parameters(OPTIONS),
            },
            "required": ["function", "inputs"],
            "additionalProperties": False,
        },
        "Certificate": {
            "type": "object",
            "properties": {
                "outcome": {"type": "string", "enum": [outcome.value for outcome in wire.Outcome]},
                "residual": {
                    "type": ["object", "null"],
                    "properties": {"name": {"type": "string"}, "value": number},
                },
                "error_estimate": number,
                "error_bound": number,
                "condition": number,
                "method": {"type": "string"},
                "precision": {"type": "string"},
                "steps": {"type": "integer"},
                "rank": {"type": ["integer", "null"]},
                "damping": number,
                "shift": number,
                "fallback": text,
                "code": text,
                "hint": text,
            },
        },
        "Answer": _answer(number),
        "Plan": _plan(["number", "null"]),
        "Problem": _problem(text),
    }


def _nested(rank: int) -> Json:
    """Lists of numbers, null for NaN, of `rank` levels or more."""
    if rank > 1:
        return {"type": "array", "minItems": 1, "items": _reference(_NESTED[rank - 1])}
    number: Json = {"type": ["number", "null"]}
    return {
        "type": "array",
        "items": {"anyOf": [number, _reference(_NESTED[1])]},
        "description": "nested lists, float64; those of a level have equal lengths",
    }


def _tensor(rank: int = 0) -> Json:
    size: Json = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    return {
        "type": "object",
        "properties": {
            "dtype": {"type": "string", "enum": list(DTYPES)},
            "shape": {"type": "array", "items": size, "minItems": rank, "maxItems": 64},
            "data": {
                "type": "string",
                "contentEncoding": "base64",
                "description": "little-endian C order: bin in msgpack, base64 in JSON",
            },
            "uplo": _UPLO,
        },
        "required": ["dtype", "shape", "data"],
        "additionalProperties": False,
    }


def _answer(number: Json) -> Json:
    timing: Json = {
        "type": "object",
        "properties": {
            "queue_ms": number,
            "device_ms": number,
            "batch_size": {"type": "integer"},
            "fill": number,
            "profile": {"type": "string", "description": "name@hash of the profile that chose the methods"},
        },
    }
    return {
        "type": "object",
        "properties": {
            "outputs": {"type": "object", "additionalProperties": _reference("Array")},
            "gradients": {
                "type": "object",
                "additionalProperties": _reference("Array"),
                "description": "by input, of a vector-Jacobian product",
            },
            "certificates": {"type": "array", "items": _reference("Certificate")},
            "timing": timing,
            "device": {"type": "string"},
            "request_id": {"type": "string"},
        },
        "required": ["outputs", "certificates", "timing", "device", "request_id"],
    }


def _plan(number: Json) -> Json:
    method: dict[str, Json] = {
        "method": {"type": "string"},
        "precision": {"type": "string"},
        "seconds": {"type": number, "description": "of one matrix on one worker; null for what this device has not"},
    }
    rivals: Json = {"type": "object", "properties": method, "required": [*method]}
    properties: dict[str, Json] = {
        "function": {"type": "string"},
        **method,
        "bytes": {"type": "integer", "description": "of inputs and outputs, of one matrix"},
        "considered": {"type": "array", "items": rivals, "description": "the other methods, cheapest first"},
        "profile": {"type": "string", "description": "name@hash of the profile whose prices these are"},
    }
    return {"type": "object", "properties": properties, "required": [*properties]}


def _problem(text: Json) -> Json:
    return {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": list(TABLE)},
            "hint": text,
            "index": {"type": "integer"},
            "request_id": {"type": "string"},
            "retry_after_ms": {"type": "number"},
        },
        "required": ["type", "title", "status", "detail", "code", "request_id"],
    }
