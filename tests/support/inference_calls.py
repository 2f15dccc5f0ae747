"""Calls of every function, written as the Open Inference Protocol's bodies, and what its answers hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import torch

from bit_cases import cases
from matfn import wire
from matfn_kernels.contract.functions import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import httpx
    from torch import Tensor

    from bit_cases import Size

__all__ = [
    "DATATYPES",
    "Content",
    "Example",
    "answer_in",
    "body_of",
    "examples",
    "numbers_in",
    "octets",
    "written",
]

DATATYPES: Final = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bfloat16": "BF16"}
LENGTH: Final = "inference-header-content-length"
_OPTIONS: Final = {option.name for option in OPTIONS}


@dataclass(frozen=True)
class Example:
    """A call that has an answer.

    Attributes:
        function: its name.
        dtype: of the inputs.
        inputs: by name.
        keywords: parameters and options.
    """

    function: str
    dtype: str
    inputs: Mapping[str, Tensor]
    keywords: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For a test's id."""
        return f"{self.function}-{self.dtype}"

    @property
    def call(self) -> wire.Call:
        """The call in /v1."""
        inputs = {name: wire.Tensor(self.dtype, tuple(x.shape), octets(x)) for name, x in self.inputs.items()}
        params = {name: value for name, value in self.keywords.items() if name not in _OPTIONS}
        options = {name: value for name, value in self.keywords.items() if name in _OPTIONS}
        return wire.Call(self.function, inputs, params, options)

    def tensors(self, *, is_binary: bool = True) -> list[dict[str, Any]]:
        """The inputs as the protocol's JSON has them."""
        return [written(name, x, is_binary=is_binary) for name, x in self.inputs.items()]


@lru_cache
def examples() -> tuple[Example, ...]:
    """One of every function in every real dtype that the tests of bits have, of two matrices."""
    smallest: dict[tuple[str, str], Example] = {}
    for case in cases():
        if case.dtype in DATATYPES and (case.function, case.dtype) not in smallest and _is_small(case.size):
            inputs = case.inputs(("other", "other"))  # which has an answer in every function
            smallest[case.function, case.dtype] = Example(case.function, case.dtype, inputs, case.keywords)
    return tuple(smallest.values())


def _is_small(size: Size) -> bool:
    """More than a column or a row, and less than some milliseconds."""
    return min(size if isinstance(size, tuple) else (size,)) > 1


def octets(tensor: Tensor) -> bytes:
    """The numbers of a tensor, little-endian in C order."""
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return plain.contiguous().numpy().tobytes()


def written(name: str, tensor: Tensor, *, is_binary: bool = True) -> dict[str, Any]:
    """An input in JSON."""
    datatype = DATATYPES[str(tensor.dtype).removeprefix("torch.")]
    fields = {"name": name, "shape": list(tensor.shape), "datatype": datatype}
    if is_binary:
        return fields | {"parameters": {"binary_data_size": tensor.nbytes}}
    return fields | {"data": tensor.double().flatten().tolist()}


@dataclass(frozen=True)
class Content:
    """A body and its headers."""

    content: bytes
    headers: Mapping[str, str]


def body_of(tree: Mapping[str, Any], binary: Sequence[bytes] = ()) -> Content:
    """A request to infer."""
    head = json.dumps(tree).encode()
    headers = {LENGTH: str(len(head))} if binary else {}
    return Content(b"".join([head, *binary]), headers)


@dataclass(frozen=True)
class Answered:
    """An answer: its JSON, and the octets of its binary outputs."""

    tree: dict[str, Any]
    binary: dict[str, bytes]


def answer_in(response: httpx.Response) -> Answered:
    """An answer to a request to infer."""
    assert response.status_code == 200, response.text
    end = int(response.headers.get(LENGTH, len(response.content)))
    tree, rest = json.loads(response.content[:end]), response.content[end:]
    return Answered(tree, dict(_slices(tree, rest)))


def _slices(tree: dict[str, Any], rest: bytes) -> Iterator[tuple[str, bytes]]:
    for output in tree["outputs"]:
        if "binary_data_size" in output.get("parameters", {}):
            size = output["parameters"]["binary_data_size"]
            yield output["name"], rest[:size]
            rest = rest[size:]
    assert not rest


def numbers_in(output: Mapping[str, Any]) -> bytes:
    """The octets of an output whose numbers are in the JSON."""
    dtype = getattr(torch, {datatype: name for name, datatype in DATATYPES.items()}[output["datatype"]])
    values = [float("nan") if value is None else value for value in output["data"]]
    return octets(torch.tensor(values, dtype=torch.float64).to(dtype))
