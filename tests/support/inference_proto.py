"""The messages of the Open Inference Protocol as Google's own library reads and writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from inference_calls import DATATYPES, octets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference_calls import Example

__all__ = ["MESSAGES", "ROOT", "request_of", "set_parameter"]

ROOT: Final = "/inference.GRPCInferenceService/"
_KINDS: Final = {
    "bool": 8,
    "int64": 3,
    "string": 9,
    "double": 1,
    "uint64": 4,
    "float": 2,
    "bytes": 12,
    "int32": 5,
    "enum": 5,
}
_ONE, _MANY = 1, 3

# name of a message: its fields, each a name, a number, a kind or the name of a message, and whether it is repeated
_FIELDS: Final[Mapping[str, list[tuple[str, int, str, bool]]]] = {
    "ServerLiveResponse": [("live", 1, "bool", False)],
    "ServerReadyResponse": [("ready", 1, "bool", False)],
    "ModelReadyResponse": [("ready", 1, "bool", False)],
    "ServerMetadataResponse": [
        ("name", 1, "string", False),
        ("version", 2, "string", False),
        ("extensions", 3, "string", True),
    ],
    "ModelRequest": [("name", 1, "string", False), ("version", 2, "string", False)],
    "TensorMetadata": [("name", 1, "string", False), ("datatype", 2, "string", False), ("shape", 3, "int64", True)],
    "ModelMetadataResponse": [
        ("name", 1, "string", False),
        ("versions", 2, "string", True),
        ("platform", 3, "string", False),
        ("inputs", 4, "TensorMetadata", True),
        ("outputs", 5, "TensorMetadata", True),
    ],
    "ModelInput": [
        ("name", 1, "string", False),
        ("data_type", 2, "enum", False),
        ("dims", 4, "int64", True),
        ("optional", 8, "bool", False),
    ],
    "ModelOutput": [("name", 1, "string", False), ("data_type", 2, "enum", False), ("dims", 3, "int64", True)],
    "ModelConfig": [
        ("name", 1, "string", False),
        ("platform", 2, "string", False),
        ("input", 5, "ModelInput", True),
        ("output", 6, "ModelOutput", True),
        ("backend", 17, "string", False),
    ],
    "ModelConfigResponse": [("config", 1, "ModelConfig", False)],
    "ModelIndex": [("name", 1, "string", False), ("version", 2, "string", False), ("state", 3, "string", False)],
    "RepositoryIndexResponse": [("models", 1, "ModelIndex", True)],
    "HealthCheckResponse": [("status", 1, "enum", False)],
    "InferParameter": [
        ("bool_param", 1, "bool", False),
        ("int64_param", 2, "int64", False),
        ("string_param", 3, "string", False),
        ("double_param", 4, "double", False),
        ("uint64_param", 5, "uint64", False),
    ],
    "InferTensorContents": [
        ("int64_contents", 3, "int64", True),
        ("fp32_contents", 6, "float", True),
        ("fp64_contents", 7, "double", True),
        ("bytes_contents", 8, "bytes", True),
    ],
    "ParametersEntry": [("key", 1, "string", False), ("value", 2, "InferParameter", False)],
    "InferInputTensor": [
        ("name", 1, "string", False),
        ("datatype", 2, "string", False),
        ("shape", 3, "int64", True),
        ("parameters", 4, "ParametersEntry", True),
        ("contents", 5, "InferTensorContents", False),
    ],
    "InferRequestedOutputTensor": [("name", 1, "string", False), ("parameters", 2, "ParametersEntry", True)],
    "ModelInferRequest": [
        ("model_name", 1, "string", False),
        ("model_version", 2, "string", False),
        ("id", 3, "string", False),
        ("parameters", 4, "ParametersEntry", True),
        ("inputs", 5, "InferInputTensor", True),
        ("outputs", 6, "InferRequestedOutputTensor", True),
        ("raw_input_contents", 7, "bytes", True),
    ],
    "ModelInferResponse": [
        ("model_name", 1, "string", False),
        ("model_version", 2, "string", False),
        ("id", 3, "string", False),
        ("parameters", 4, "ParametersEntry", True),
        ("outputs", 5, "InferInputTensor", True),
        ("raw_output_contents", 6, "bytes", True),
    ],
}


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="inference_of_tests.proto", package="tested", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, many in fields:
            added = message.field.add(name=field, number=number, label=_MANY if many else _ONE)
            added.type = _KINDS.get(kind, 11)
            if kind not in _KINDS:
                added.type_name = f".tested.{kind}"
    parameter = next(one for one in file.message_type if one.name == "InferParameter")
    parameter.oneof_decl.add(name="parameter_choice")
    for field in parameter.field:
        field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tested.{name}")) for name in _FIELDS}


MESSAGES: Final = _messages()


def set_parameter(request: Any, name: str, value: object) -> None:
    """Adds a parameter to a request."""
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    request.parameters.add(key=name, value=MESSAGES["InferParameter"](**{kinds[type(value)]: value}))


def request_of(example: Example, *, is_raw: bool = True) -> Any:
    """The request of a call; coefficients are JSON text."""
    request = MESSAGES["ModelInferRequest"](model_name=example.function)
    for name, value in example.keywords.items():
        set_parameter(request, name, value)
    for name, x in example.inputs.items():
        tensor = request.inputs.add(name=name, datatype=DATATYPES[example.dtype], shape=list(x.shape))
        if is_raw:
            request.raw_input_contents.append(octets(x))
        else:
            contents = tensor.contents.fp32_contents if example.dtype == "float32" else tensor.contents.fp64_contents
            contents.extend(x.flatten().tolist())
    return request
