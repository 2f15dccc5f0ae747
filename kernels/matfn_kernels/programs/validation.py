"""Validation of calls: a call that kernels may trust, or a rejection that says what to change.

`outline_call` reads names, shapes, dtypes and parameters and allocates nothing; `parse_call` also broadcasts the
inputs; `screening.screen` reads the matrices. The server's admission and the in-process client share them, so that the
two refuse the same things in the same words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.contract.functions import ENTRIES, FUNCTIONS, Function, Input, Value, options_of, unknown
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.programs.attention_shapes import check_heads
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
_MAX_DIMENSION: Final = 2**31
"""BLAS and LAPACK count rows and columns in 32-bit integers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that a call may not exceed.

    Attributes:
        max_order: each dimension of a matrix.
        max_items: product of the leading dimensions.
        max_elements: numbers in all inputs after broadcasting, and in all outputs.
    """

    max_order: int = 8192
    max_items: int = 65536
    max_elements: int = 1 << 28


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a call, which all functions have in common."""

    method: str = "auto"
    certify: str = "estimate"
    tol: float | None = None
    precision: str = "auto"
    deadline: float | None = None
    priority: int = 0
    on_failure: str = "raise"


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose names, shapes, dtypes and parameters are right.

    Attributes:
        function: a name of the catalogue.
        inputs: tensors of shape (items, ...), leading dimensions broadcast and flattened.
        lead: the leading dimensions, to be restored on the outputs.
        parameters: every parameter of the function, defaults filled in, but those of which each matrix has its own:
            they are inputs (items,) by their names.
        options: the options of the call.
        rejected: matrices without an answer, by their index; their content has been replaced.
    """

    function: str
    inputs: Mapping[str, Tensor]
    lead: tuple[int, ...]
    parameters: Mapping[str, Value]
    options: Options
    rejected: Mapping[int, Rejection]

    @property
    def items(self) -> int:
        """Number of matrices."""
        return math.prod(self.lead)

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of the parameters of which each matrix has its own."""
        return tuple(entry.name for entry in ENTRIES[self.function].varying if entry.name in self.inputs)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype all inputs share."""
        return next(iter(self.inputs.values())).dtype


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


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape and dtype of an input."""

    shape: tuple[int, ...]
    dtype: torch.dtype


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
    _check_shapes(spec, inputs, limits)
    parameters, options = _with_method(spec, given.given, chosen.given)
    values = parse_parameters(f"{function}()", _shared(spec, inputs, parameters), parameters)
    check_heads(spec, {name: layout.shape for name, layout in inputs.items()}, values)
    _check_offsets(spec, inputs, values)
    lead = _leading(spec, inputs, limits)
    _check_elements(spec, inputs, values, math.prod(lead), limits)
    settled = _options(parse_parameters("options", options_of(spec), options), next(iter(inputs.values())).dtype)
    _check_together(function, values, inputs, settled.method)
    stand_ins = {
        entry.name: _stand_in((math.prod(lead), *_trailing(inputs[entry.name], entry)), inputs[entry.name].dtype)
        for entry in _tensors(spec)
        if entry.name in inputs
    }
    return Call(function, stand_ins, lead, values, settled, {})


def _tensors(spec: Function) -> tuple[Input, ...]:
    """All that may be a tensor: the inputs, then the parameters of which each matrix may have its own."""
    return (*spec.inputs, *spec.varying)


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


def refilled(call: Call, inputs: Mapping[str, Tensor]) -> Call:
    """A call with its inputs replaced by others of the layouts that it was parsed from.

    Args:
        call: an outline, or what `parse_call` returned; the numbers of its inputs are not read.
        inputs: by name, as they were sent; other dtypes are promoted.
    """
    flat = {
        name: _spread(inputs[name].to(former.dtype), call.lead, tuple(former.shape))
        for name, former in call.inputs.items()
    }
    return Call(call.function, flat, call.lead, call.parameters, call.options, {})


def _spread(tensor: Tensor, lead: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    if tensor.shape == shape:
        return tensor
    if tensor.numel() == math.prod(shape):
        return tensor.reshape(shape)
    return tensor.expand(*lead, *shape[1:]).reshape(shape)


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


def _check_shapes(spec: Function, inputs: Mapping[str, Layout], limits: Limits) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for entry in sorted(_tensors(spec), key=lambda entry: entry.name in (*spec.claims, *spec.cotangents)):
        if entry.name not in inputs:
            continue
        shape = inputs[entry.name].shape
        _check_rank(entry, shape)
        _check_square(entry, shape)
        for labels, size in zip(entry.shape, _trailing(inputs[entry.name], entry), strict=True):
            label = next((label for label in labels.split("|") if label in sizes), labels)
            if label.isdigit():
                sizes.setdefault(label, (int(label), spec.packing.parameter if spec.packing else ""))
            expected, owner = sizes.setdefault(label, (size, entry.name))
            if size != expected:
                raise Rejection(
                    "invalid_shape",
                    f"{entry.name} has shape {shape}: {label} is {size}, but {owner} makes it {expected}",
                    f"{entry.name} must be (*, {', '.join(entry.shape)})",
                )
            if size > limits.max_order:
                raise Rejection(
                    "invalid_shape",
                    f"{entry.name} has shape {shape}; each matrix dimension may be at most {limits.max_order}",
                    "split the matrix, or ask the operator to raise MATFN_MAX_ORDER",
                )


def _check_square(entry: Input, shape: tuple[int, ...]) -> None:
    if len(set(entry.shape)) < len(entry.shape) and shape[-1] != shape[-2]:
        raise Rejection(
            "invalid_shape",
            f"{entry.name} has shape {shape}; its last two sizes must be equal, since its matrices are square",
            f"{entry.name} must be (*, {', '.join(entry.shape)}): {entry.summary}",
        )


def _check_rank(entry: Input, shape: tuple[int, ...]) -> None:
    if len(shape) < len(entry.shape):
        is_column = len(shape) == 1 and len(entry.shape) == 2 and len(set(entry.shape)) == 2  # noqa: PLR2004
        column = f"; a vector is one column, {(*shape, 1)}" if is_column else ""
        raise Rejection(
            "invalid_shape",
            f"{entry.name} has shape {shape}",
            f"{entry.name} must be (*, {', '.join(entry.shape)}): {entry.summary}{column}",
        )
    if max(shape, default=0) >= _MAX_DIMENSION:
        raise Rejection("invalid_shape", f"{entry.name} has shape {shape}; each dimension must be below 2^31")


def _check_offsets(spec: Function, inputs: Mapping[str, Layout], values: Mapping[str, Value]) -> None:
    """Refuses offsets of packed sequences that do not end where the rows do."""
    offsets = None if spec.packing is None else values[spec.packing.parameter]
    if spec.packing is None or not isinstance(offsets, tuple):
        return
    length = spec.sizes({name: layout.shape for name, layout in inputs.items()})[spec.packing.along]
    if offsets[-1] != length:
        raise Rejection(
            "invalid_shape",
            f"{spec.packing.parameter} ends with {offsets[-1]}, but {spec.packing.along} is {length}",
            "offsets go from 0 to the number of all rows",
        )


def _leading(spec: Function, inputs: Mapping[str, Layout], limits: Limits) -> tuple[int, ...]:
    leads = {
        entry.name: inputs[entry.name].shape[: len(inputs[entry.name].shape) - len(entry.shape)]
        for entry in _tensors(spec)
        if entry.name in inputs
    }
    lead = _broadcast(tuple(leads.values()))
    if lead is None:
        named = ", ".join(f"{name}: {shape}" for name, shape in leads.items())
        raise Rejection("invalid_shape", f"leading dimensions ({named}) do not broadcast")
    if math.prod(size for size in lead if size) > limits.max_items:
        raise Rejection(
            "invalid_shape",
            f"leading dimensions {lead} hold more than {limits.max_items} matrices",
            "split the call, or ask the operator to raise MATFN_MAX_ITEMS",
        )
    return lead


def _broadcast(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...] | None:
    """The shape that all of these broadcast to, of any number of dimensions; None if there is none."""
    columns = zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    sizes = [set(column) - {1} or {1} for column in columns]
    return tuple(size for (size,) in reversed(sizes)) if all(len(one) == 1 for one in sizes) else None


def _check_elements(
    spec: Function, inputs: Mapping[str, Layout], values: Mapping[str, Value], items: int, limits: Limits
) -> None:
    """Refuses small requests that would need a large allocation, by broadcasting or by outputs that are larger."""
    sizes = {
        label: size
        for entry in spec.inputs
        if entry.name in inputs
        for label, size in zip(entry.shape, _trailing(inputs[entry.name], entry), strict=True)
    }
    taken = sum(math.prod(sizes[label] for label in entry.shape) for entry in spec.inputs if entry.name in inputs)
    held = items * max(taken, sum(spec.output_elements(sizes, values)))
    if held > limits.max_elements:
        raise Rejection(
            "invalid_shape",
            f"{spec.name}() of {items} matrices would hold {held} numbers, allowed {limits.max_elements}",
            "split the call",
        )


def _trailing(layout: Layout, entry: Input) -> tuple[int, ...]:
    """The shape of one matrix of an input."""
    return layout.shape[len(layout.shape) - len(entry.shape) :]


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
