"""Validation of calls: a call that kernels may trust, or a rejection that says what to change.

`outline_call` reads names, shapes, dtypes and parameters and allocates nothing; `parse_call` also broadcasts the
inputs; `screening.screen` reads the matrices. The server's admission and the in-process client share them, so that the
two refuse the same things in the same words.
"""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.contract.functions import ENTRIES, FUNCTIONS, Function, Value, options_of, unknown
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.programs.attention_shapes import check_heads
from matfn_kernels.programs.call import Call, Layout, Limits, Options, refilled
from matfn_kernels.programs.call_shapes import (
    check_elements,
    check_offsets,
    check_shapes,
    leading,
    tensors,
    trailing,
)
from matfn_kernels.programs.parameters import parse_parameters

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from torch import Tensor

    from matfn_kernels.contract.schema import Parameter

__all__ = ["Call", "Layout", "Limits", "Options", "Rejection", "outline_call", "parse_call", "refilled"]

_DTYPE_NAMES: Final = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
    torch.complex64: "complex64",
    torch.complex128: "complex128",
}


def parse_call(
    function: str,
    inputs: Mapping[str, Tensor],
    parameters: Mapping[str, object],
    options: Mapping[str, object],
    limits: Limits,
) -> Call:
    """Returns the call that the arguments describe, without reading a matrix.

    A parameter that may vary from matrix to matrix may be a tensor, among the parameters or the inputs.

    Raises:
        Rejection: for an unknown name, a wrong shape, dtype or parameter, or a size over the limits.
    """
    arrays = {name: value for name, value in parameters.items() if isinstance(value, torch.Tensor)}
    inputs = {**inputs, **arrays}
    rest = {name: value for name, value in parameters.items() if name not in arrays}
    layouts = {name: Layout(tuple(tensor.shape), tensor.dtype) for name, tensor in inputs.items()}
    return refilled(outline_call(function, layouts, rest, options, limits), inputs)


def outline_call(
    function: str,
    inputs: Mapping[str, Layout],
    parameters: Mapping[str, object],
    options: Mapping[str, object],
    limits: Limits,
) -> Call:
    """The call that the arguments describe, before any of its inputs is broadcast; `refilled` gives it its inputs.

    Its inputs are stand-ins with the shapes (items, ...) and dtypes of the real ones, a single number in memory each.

    Raises:
        Rejection: as `parse_call` does.
    """
    return _outlined(function, tuple(inputs.items()), _Arguments(parameters), _Arguments(options), limits)


class _Arguments:
    """Arguments by name; those are equal that are written alike, so that 1, 1.0 and True differ, and 0.0 and -0.0."""

    __slots__ = ("_text", "given")

    def __init__(self, given: Mapping[str, object]) -> None:
        self.given = given
        self._text = repr(given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Arguments) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@lru_cache(maxsize=1024)
def _outlined(
    function: str,
    layouts: tuple[tuple[str, Layout], ...],
    given: _Arguments,
    chosen: _Arguments,
    limits: Limits,
) -> Call:
    """The outline that names, layouts, parameters and options describe."""
    spec = ENTRIES.get(function)
    if spec is None:
        raise Rejection("unknown_function", *unknown(function))
    inputs = dict(layouts)
    _check_names(spec, inputs)
    _check_dtypes(spec, inputs)
    inputs = _promoted(spec, inputs)
    spec = spec.packed(given.given)
    check_shapes(spec, inputs, limits)
    parameters, options = _with_method(spec, given.given, chosen.given)
    values = parse_parameters(f"{function}()", _shared(spec, inputs, parameters), parameters)
    check_heads(spec, {name: layout.shape for name, layout in inputs.items()}, values)
    check_offsets(spec, inputs, values)
    lead = leading(spec, inputs, limits)
    check_elements(spec, inputs, values, math.prod(lead), limits)
    settled = _options(parse_parameters("options", options_of(spec), options), next(iter(inputs.values())).dtype)
    _check_together(function, values, inputs, settled.method)
    stand_ins = {
        entry.name: _stand_in((math.prod(lead), *trailing(inputs[entry.name], entry)), inputs[entry.name].dtype)
        for entry in tensors(spec)
        if entry.name in inputs
    }
    return Call(function, stand_ins, lead, values, settled, {})


def _shared(spec: Function, inputs: Mapping[str, Layout], parameters: Mapping[str, object]) -> tuple[Parameter, ...]:
    """The parameters that all matrices share: those that are no tensors.

    Raises:
        Rejection: if one is given in both ways.
    """
    for name in parameters:
        if name in inputs:
            raise Rejection("invalid_parameter", f"{spec.name}(): {name} is given twice, as a number and as an array")
    return tuple(entry for entry in spec.parameters if entry.name not in inputs)


def _stand_in(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty((), dtype=dtype).expand(shape)


def _check_names(spec: Function, inputs: Mapping[str, Layout]) -> None:
    known = [entry.name for entry in spec.inputs]
    varying = {entry.name for entry in spec.varying}
    for name in inputs:
        if name in {entry.name for entry in spec.parameters} - varying:
            hint = f"arrays may be: {', '.join(sorted(varying)) or 'none'}"
            raise Rejection(
                "invalid_parameter", f"{spec.name}(): {name} is an array, of which all matrices share one", hint
            )
        if name not in known and name not in varying:
            raise Rejection("invalid_parameter", f"{spec.name}() has no input {name!r}", f"inputs: {', '.join(known)}")
    for entry in spec.inputs:
        if entry.excludes in inputs and entry.name in inputs:
            raise Rejection(
                "invalid_parameter", f"{spec.name}(): {entry.excludes} and {entry.name} are both given", "give one"
            )
        if not entry.optional and entry.name not in inputs:
            raise Rejection(
                "invalid_parameter", f"{spec.name}() needs the input {entry.name!r}", f"inputs: {', '.join(known)}"
            )
    if spec.cotangents and not any(name in inputs for name in spec.cotangents):
        raise Rejection(
            "invalid_parameter", f"{spec.name}() needs a cotangent", f"cotangents: {', '.join(spec.cotangents)}"
        )


def _check_dtypes(spec: Function, inputs: Mapping[str, Layout]) -> None:
    for name, tensor in inputs.items():
        dtype = tensor.dtype
        if dtype not in _DTYPE_NAMES:
            known = ", ".join(_DTYPE_NAMES.values())
            raise Rejection("unsupported_dtype", f"{name} has {dtype}, which is not supported", f"send one of {known}")
        if dtype.is_complex and name in {entry.name for entry in spec.varying}:
            raise Rejection("unsupported_dtype", f"{name} has {_DTYPE_NAMES[dtype]}; it is an array of real numbers")
        if dtype.is_complex and not spec.complex_ok:
            detail = f"{spec.name}() is real; {name} has {_DTYPE_NAMES[dtype]}"
            raise Rejection("unsupported_dtype", detail, _for_complex())


def _promoted(spec: Function, inputs: Mapping[str, Layout]) -> dict[str, Layout]:
    """The inputs in the one dtype that holds the numbers of all, as numpy promotes them, and parameters in float64."""
    varying = {entry.name for entry in spec.varying}
    dtype = reduce(torch.promote_types, (layout.dtype for name, layout in inputs.items() if name not in varying))
    return {name: Layout(layout.shape, torch.float64 if name in varying else dtype) for name, layout in inputs.items()}


def _for_complex() -> str:
    """Hint for complex inputs of a real function."""
    refusing = ", ".join(function.name for function in FUNCTIONS.values() if not function.complex_ok)
    return f"complex inputs are taken by all functions but {refusing}"


def _with_method(
    spec: Function, parameters: Mapping[str, object], options: Mapping[str, object]
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """The parameters and options of a call, where msign's method may stand among its parameters too.

    Raises:
        Rejection: if two methods are named.
    """
    if spec.subject != "msign" or "method" not in parameters:
        return parameters, options
    named = parameters["method"]
    if options.get("method", named) != named:
        raise Rejection("invalid_parameter", "msign(): params and options name two methods", "name it in options")
    rest = {name: value for name, value in parameters.items() if name != "method"}
    return rest, {**options, "method": named}


def _check_together(function: str, values: Mapping[str, Value], arrays: Container[str], method: str) -> None:
    """Checks the rules that tie two arguments, of which some are arrays."""
    lo, hi = values.get("lo"), values.get("hi")
    if isinstance(lo, float) and isinstance(hi, float) and lo > hi:
        raise Rejection("invalid_parameter", f"{function}(): lo={lo:g} is above hi={hi:g}", "lo <= hi")
    given = [name for name in ("damping", "shift") if name in arrays or values.get(name) is not None]
    if len(given) > 1:
        named = " and ".join(name if name in arrays else f"{name}={values[name]!r}" for name in given)
        raise Rejection(
            "invalid_parameter",
            f"{function}(): {named} are both given",
            "give one: damping is relative to the largest eigenvalue, shift is the number itself",
        )
    forced = [name for name in ("steps", "coefficients") if values.get(name) is not None]
    if forced and method not in {"auto", "newton_schulz"}:
        raise Rejection(
            "invalid_parameter",
            f"{function}(): {forced[0]} belongs to newton_schulz, but method={method!r}",
            "leave method out, or leave steps and coefficients out",
        )


def _options(values: Mapping[str, Value], dtype: torch.dtype) -> Options:
    tol, deadline, priority = values["tol"], values["deadline"], values["priority"]
    assert tol is None or isinstance(tol, float)
    assert deadline is None or isinstance(deadline, float)
    assert isinstance(priority, int)
    eps = torch.finfo(dtype).eps
    if tol is not None and tol < eps:
        raise Rejection(
            "invalid_parameter",
            f"tol={tol:g} is below the spacing {eps:.2g} of {_DTYPE_NAMES[dtype]}",
            "send float64" if eps > torch.finfo(torch.float64).eps else f"ask for at least {eps:.2g}",
        )
    method = str(values["method"] or "auto")
    return Options(
        method,
        str(values["certify"]),
        tol,
        str(values["precision"]),
        deadline,
        priority,
        str(values["on_failure"]),
    )
