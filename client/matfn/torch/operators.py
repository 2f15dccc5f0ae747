"""Operators of torch, `torch.ops.matfn.<function>`: each asks a client, and knows its shapes, gradient and vmap.

An operator takes the inputs of its function, its other arguments as JSON and the client's handle, so that torch.compile
treats it like any operator of torch's own. `<function>_vjp` is its gradient, which has none itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Final, NoReturn

import torch
from torch.library import custom_op

from matfn.catalogue import FUNCTIONS
from matfn.differentiable import ONCE, as_json, gradient_arguments, own_shapes
from matfn.errors import UnsupportedArray
from matfn.handles import client_of, require_handled
from matfn.shared_client import shared_client
from matfn.vectors import columns_of, require_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor
    from torch._library.custom_ops import CustomOpDef

    from matfn.catalogue import Function

__all__ = ["applied"]


def applied(function: str, inputs: Mapping[str, Tensor | None], arguments: Mapping[str, Any], client: Any) -> Any:
    """The value of a function at tensors, differentiable in them.

    Args:
        function: its name.
        inputs: its inputs in the catalogue's order, None where one is left out.
        arguments: its parameters and options.
        client: what computes it; None for a LocalClient that all share.

    Raises:
        TypeError: an input is no tensor, or the client is neither a Client nor a LocalClient.
        UnsupportedArray: a parameter has a gradient, which is not computed.
    """
    for name, item in inputs.items():
        if item is not None and not isinstance(item, torch.Tensor):
            raise TypeError(f"{name} is {type(item).__qualname__}; the functions of matfn.torch take tensors")
    _require_constants(arguments)
    apply = _FORWARD[function] if torch.compiler.is_compiling() else _DIFFERENTIABLE[function].apply
    given = {name: item for name, item in inputs.items() if item is not None}
    require_vectors(function, given)
    columns = columns_of(function, given)  # of right-hand sides that are vectors
    tensors = [item[..., None] if name in columns and item is not None else item for name, item in inputs.items()]
    value = apply(*tensors, as_json(arguments), 0 if client is None else require_handled(client).handle)
    return value[..., 0] if columns else value


def _require_constants(arguments: Mapping[str, Any]) -> None:
    """Refuses parameters that autograd would follow."""
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled():
            raise UnsupportedArray(f"{name} has a gradient, which is not computed", f"pass {name}.detach()")


# what torch.compiler.assume_constant_result sets, whose import of the compiler takes a second: json cannot be traced
as_json._dynamo_marked_constant = True  # type: ignore[attr-defined] # noqa: SLF001


def _client(handle: int) -> Any:
    return client_of(handle) if handle else shared_client()


@dataclass(frozen=True)
class _Operator:
    """The two operators of one function: arguments are the inputs, for the gradient the cotangents, and two others."""

    function: Function

    @cached_property
    def forward(self) -> CustomOpDef:
        """The operator of the values."""
        outputs = ", ".join(["Tensor"] * len(self.function.outputs))
        schema = f"({self._inputs}, {_OTHERS}) -> {outputs if len(self.function.outputs) == 1 else f'({outputs})'}"
        operator = custom_op(f"matfn::{self.function.name}", self._values, mutates_args=(), schema=schema)
        operator.register_fake(self._shapes)
        operator.register_autograd(_gradients_by(self.backward), setup_context=_keep)
        operator.register_vmap(self.mapped)
        return operator

    @cached_property
    def backward(self) -> CustomOpDef:
        """The operator of the gradients, one for each input that is given."""
        cotangents = ", ".join(f"Tensor cotangent_{name}" for name in self.function.outputs)
        schema = f"({self._inputs}, {cotangents}, {_OTHERS}) -> Tensor[]"
        operator = custom_op(f"matfn::{self.function.name}_vjp", self._vjp, mutates_args=(), schema=schema)
        operator.register_fake(self._gradient_shapes)
        operator.register_autograd(_refuse)
        operator.register_vmap(self.mapped_vjp)
        return operator

    def mapped(self, info: Any, in_dims: Sequence[int | None], *given: Any) -> tuple[Any, Any]:
        """The values over one more leading dimension."""
        values = self.forward(*self._stacked(info.batch_size, in_dims, given), *given[-2:])
        return values, 0 if len(self.function.outputs) == 1 else (0,) * len(self.function.outputs)

    def mapped_vjp(self, info: Any, in_dims: Sequence[int | None], *given: Any) -> tuple[Any, Any]:
        """The gradients over one more leading dimension."""
        gradients = self.backward(*self._stacked(info.batch_size, in_dims, given), *given[-2:])
        return gradients, [0] * len(gradients)

    @property
    def _inputs(self) -> str:
        return ", ".join(f"Tensor{'?' if item.optional else ''} {item.name}" for item in self.function.inputs)

    def _named(self, given: Sequence[Any]) -> dict[str, Tensor]:
        pairs = zip(self.function.inputs, given, strict=False)
        return {item.name: tensor.detach() for item, tensor in pairs if tensor is not None}

    def _values(self, *given: Any) -> Any:
        *inputs, arguments, handle = given
        method = getattr(_client(handle), self.function.name)
        return method(**self._named(inputs), **json.loads(arguments))

    def _vjp(self, *given: Any) -> list[Tensor]:
        *tensors, arguments, handle = given
        inputs, outputs = self._named(tensors), self.function.outputs
        cotangents = dict(zip(outputs, tensors[-len(outputs) :], strict=True))
        method = getattr(_client(handle).vjp, self.function.name)
        gradients = method(**cotangents, **inputs, **gradient_arguments(self.function, arguments))
        return [_like(getattr(gradients, name).sum_to_size(tensor.shape), tensor) for name, tensor in inputs.items()]

    def _shapes(self, *given: Any) -> Any:
        """Empty values of the right shapes, for tensors without numbers."""
        named = self._named(given[:-2])
        ranks = {item.name: len(item.shape) for item in self.function.inputs}
        leads = (tensor.shape[: tensor.dim() - ranks[name]] for name, tensor in named.items())
        own = own_shapes(self.function, given[-2])
        leading = torch.broadcast_shapes(*leads, *own)  # type: ignore[no-untyped-call]
        sizes = self.function.sizes({name: tensor.shape for name, tensor in named.items()})
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in named.values()))
        first = next(iter(named.values()))
        dtypes = (dtype.to_real() if name in self.function.real_outputs else dtype for name in self.function.outputs)
        values = tuple(
            first.new_empty((*leading, *shape), dtype=kind)
            for shape, kind in zip(self.function.output_dimensions(sizes), dtypes, strict=True)
        )
        return values[0] if len(values) == 1 else values

    def _gradient_shapes(self, *given: Any) -> list[Tensor]:
        return [tensor.new_empty(tensor.shape) for tensor in self._named(given).values()]

    def _stacked(self, count: int, in_dims: Sequence[int | None], given: Sequence[Any]) -> list[Tensor | None]:
        """All tensors with the mapped dimension first, and then as many leading dimensions in each."""
        firsts = [
            None if item is None else _first(count, dim, item)
            for dim, item in zip(in_dims[:-2], given[:-2], strict=True)
        ]
        shapes = [*(item.shape for item in self.function.inputs), *self.function.output_shapes]
        ranked = [(item, 1 + len(shape)) for item, shape in zip(firsts, shapes, strict=False)]
        leading = max(item.dim() - rank for item, rank in ranked if item is not None)
        leading = max(leading, *map(len, own_shapes(self.function, given[-2])), 0)
        return [None if item is None else _widened(item, leading + rank) for item, rank in ranked]


_OTHERS: Final = "str arguments, int client"


def _first(count: int, dim: int | None, tensor: Tensor) -> Tensor:
    """The tensor with its mapped dimension first; repeated where it has none."""
    return tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _like(gradient: Tensor, tensor: Tensor) -> Tensor:
    """A gradient as a copy in the dtype of its input; that of a real input beside complex ones is its real part."""
    part = gradient if tensor.is_complex() or not gradient.is_complex() else gradient.real
    return part.to(tensor.dtype, copy=True)


def _widened(tensor: Tensor, rank: int) -> Tensor:
    """The tensor with ones behind its first dimension, up to the rank."""
    return tensor.reshape(tensor.shape[0], *[1] * (rank - tensor.dim()), *tensor.shape[1:])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - torch names its arguments
    ctx.save_for_backward(*(item for item in inputs[:-2] if item is not None))
    ctx.given = [item is not None for item in inputs[:-2]]
    ctx.others = inputs[-2:]


def _gradients_by(vjp: Callable[..., Any]) -> Callable[..., Any]:
    """The backward pass: the gradients of all arguments of an operator."""

    def gradients(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        inputs = [next(saved) if is_given else None for is_given in ctx.given]
        found = iter(vjp(*inputs, *(item.contiguous() for item in cotangents), *ctx.others))
        return (*(next(found) if is_given else None for is_given in ctx.given), None, None)

    return gradients


def _refuse(ctx: Any, *cotangents: Any) -> NoReturn:
    raise NotImplementedError(ONCE)


def _wrapped(forward: Callable[..., Any], backward: Callable[..., Any], mapped: Callable[..., Any]) -> Any:
    """An operator as torch.func takes it, which does not know the gradients of operators."""
    parts = {"forward": torch.no_grad()(forward), "setup_context": _keep, "backward": backward, "vmap": mapped}
    return type(
        "Differentiable", (torch.autograd.Function,), {name: staticmethod(part) for name, part in parts.items()}
    )


def _function(operator: _Operator) -> Any:
    """The function for autograd and torch.func."""

    def vjp(*given: Any) -> tuple[Tensor, ...]:
        return tuple(operator.backward(*given))

    once = _wrapped(vjp, _refuse, operator.mapped_vjp)
    return _wrapped(operator.forward, _gradients_by(once.apply), operator.mapped)


_OPERATORS: Final = {name: _Operator(entry) for name, entry in FUNCTIONS.items() if entry.differentiable}
_FORWARD: Final = {name: operator.forward for name, operator in _OPERATORS.items()}
_DIFFERENTIABLE: Final = {name: _function(operator) for name, operator in _OPERATORS.items()}
