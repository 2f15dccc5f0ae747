"""Functions of JAX arrays: a client asked by `jax.pure_callback`, with a gradient by `jax.custom_vjp`.

An exception within a callback is undefined behaviour: a matrix without an answer is NaN, and its problem waits for
`check`.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from matfn.catalogue import FUNCTIONS
from matfn.differentiable import ONCE, as_json, gradient_arguments, own_shapes
from matfn.errors import MatfnError, Problem, problem_error
from matfn.handles import require_handled
from matfn.shared_client import shared_client
from matfn.vectors import columns_of, require_vectors
from matfn.wire import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jax import Array

    from matfn.catalogue import Function

__all__ = ["applied", "check"]


_KEPT: Final = 256  # calls that differ in arguments or client, each with a client that it keeps alive


class _Problems:
    """The first problem since the last check."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: MatfnError | None = None

    def note(self, error: MatfnError) -> None:
        with self._lock:
            self._first = self._first or error

    def taken(self) -> MatfnError | None:
        with self._lock:
            first, self._first = self._first, None
        return first


_problems: Final = _Problems()


def check() -> None:
    """Raises the first problem that a call of `matfn.jax` has met since the last check.

    Wait for the results first, as with `jax.block_until_ready`: JAX computes while the caller goes on.

    Raises:
        MatfnError: the problem, of the class that `Client` would have raised.
    """
    if (error := _problems.taken()) is not None:
        raise error


def applied(function: str, inputs: Mapping[str, Any], arguments: Mapping[str, Any], client: Any) -> Any:
    """The value of a function at arrays, differentiable in them.

    Args:
        function: its name.
        inputs: its inputs in the catalogue's order, None where one is left out.
        arguments: its parameters and options.
        client: what computes it; None for a LocalClient that all share.

    Raises:
        InvalidShape: an input has too few dimensions.
        TypeError: the client is neither a Client nor a LocalClient.
    """
    given = {name: jnp.asarray(array) for name, array in inputs.items() if array is not None}
    chosen = shared_client() if client is None else require_handled(client)
    asked = _Asked(function, tuple(given), as_json({**arguments, "on_failure": "nan"}), chosen)
    require_vectors(function, given)
    columns = columns_of(function, given)  # of right-hand sides that are vectors
    arrays = {name: array[..., None] if name in columns else array for name, array in given.items()}
    own = own_shapes(FUNCTIONS[function], asked.arguments)
    values = _differentiable(asked)(*_broadcast(FUNCTIONS[function], arrays, own))
    value = values[0] if len(values) == 1 else values
    return value[..., 0] if columns else value


def _broadcast(function: Function, given: Mapping[str, Array], own: Sequence[tuple[int, ...]]) -> list[Array]:
    """The inputs with the same leading dimensions, as vmap will add its own before them.

    Args:
        function: the function.
        given: the inputs.
        own: shapes of the parameters of which each matrix has its own.
    """
    ranks = {item.name: len(item.shape) for item in function.inputs}
    splits = {name: array.ndim - ranks[name] for name, array in given.items()}
    for name, split in splits.items():
        if split < 0:
            detail = f"{name} has shape {given[name].shape}; it needs {ranks[name]} dimensions at least"
            raise problem_error(Problem.of("invalid_shape", detail))
    leading = jnp.broadcast_shapes(*(array.shape[: splits[name]] for name, array in given.items()), *own)
    return [jnp.broadcast_to(array, (*leading, *array.shape[splits[name] :])) for name, array in given.items()]


@dataclass(frozen=True)
class _Asked:
    """A function with everything but its arrays."""

    function: str
    names: tuple[str, ...]
    arguments: str
    client: Any

    @property
    def entry(self) -> Function:
        """The function's entry in the catalogue."""
        return FUNCTIONS[self.function]

    def outputs(self, arrays: Sequence[Any]) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and dtypes of the values."""
        shapes = {name: array.shape for name, array in zip(self.names, arrays, strict=True)}
        trailing = self.entry.output_dimensions(self.entry.sizes(shapes))
        leading = arrays[0].shape[: arrays[0].ndim - len(self.entry.inputs[0].shape)]
        dtype = jnp.result_type(*(array.dtype for array in arrays))
        real = np.zeros((), dtype).real.dtype
        return tuple(
            jax.ShapeDtypeStruct((*leading, *shape), real if name in self.entry.real_outputs else dtype)
            for name, shape in zip(self.entry.outputs, trailing, strict=True)
        )

    def values(self, *arrays: Any) -> tuple[Any, ...]:
        """Its values, computed by the client; NaN where there is none."""
        ask = getattr(self.client.with_info, self.function)
        named = dict(zip(self.names, map(np.asarray, arrays), strict=True))
        return _or_nan(lambda: _listed(ask(**named, **json.loads(self.arguments))), self.outputs(arrays))

    def gradients(self, *arrays: Any) -> tuple[Any, ...]:
        """Gradients in the arrays, the first of those given, from one cotangent for each value, the rest."""
        given, cotangents = arrays[: len(self.names)], arrays[len(self.names) :]
        ask = getattr(self.client.with_info.vjp, self.function)
        named = dict(zip(self.names, map(np.asarray, given), strict=True))
        shapes = tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in given)
        # JAX's cotangents are the conjugates of those of torch, which the service takes and gives
        conjugates = dict(zip(self.entry.outputs, map(np.conj, cotangents), strict=True))
        return _or_nan(
            lambda: self._ordered(ask(**conjugates, **named, **gradient_arguments(self.entry, self.arguments))), shapes
        )

    def _ordered(self, answer: Any) -> tuple[Any, ...]:
        gradients = _noted(answer)
        return tuple(np.conj(getattr(gradients, name)) for name in self.names)


def _listed(answer: Any) -> tuple[Any, ...]:
    """All values of an answer."""
    value = _noted(answer)
    return value if isinstance(value, tuple) else (value,)


def _noted(answer: Any) -> Any:
    """The value of an answer; the problem of its first matrix without one is noted."""
    for place, item in enumerate(answer.certificates):
        if item.outcome == Outcome.FAILED:
            detail = f"the matrix {place} of a call of matfn.jax has no answer"
            _problems.note(problem_error(Problem.of(item.code, detail, hint=item.hint, index=place)))
            break
    return answer.value


def _or_nan(compute: Callable[[], tuple[Any, ...]], shapes: Sequence[jax.ShapeDtypeStruct]) -> tuple[Any, ...]:
    """The computed values in the shapes that JAX was promised; NaN, and a problem noted, where that fails."""
    try:
        values = compute()
    except MatfnError as error:
        _problems.note(error)
        return tuple(np.full(shape.shape, np.nan, shape.dtype) for shape in shapes)
    return tuple(
        np.asarray(value if np.issubdtype(shape.dtype, np.complexfloating) else np.real(value), shape.dtype).reshape(
            shape.shape
        )
        for value, shape in zip(values, shapes, strict=True)
    )


@lru_cache(maxsize=_KEPT)
def _differentiable(asked: _Asked) -> Any:
    """The function of arrays alone, with its gradient."""

    def value(*arrays: Array) -> Any:
        return jax.pure_callback(asked.values, asked.outputs(arrays), *arrays, vmap_method="broadcast_all")

    def forward(*arrays: Array) -> tuple[Any, tuple[Array, ...]]:
        return differentiable(*arrays), arrays  # not `value`: who differentiates again is told by `_refuse`

    def backward(arrays: tuple[Array, ...], cotangents: tuple[Array, ...]) -> Any:
        return _gradient(asked)(*arrays, *cotangents)

    differentiable = jax.custom_vjp(value)
    differentiable.defvjp(forward, backward)
    return differentiable


@lru_cache(maxsize=_KEPT)
def _gradient(asked: _Asked) -> Any:
    """The gradient as a function of arrays alone, which refuses to be differentiated."""

    def gradients(*arrays: Array) -> Any:
        shapes = tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays[: len(asked.names)])
        return jax.pure_callback(asked.gradients, shapes, *arrays, vmap_method="broadcast_all")

    once = jax.custom_jvp(gradients)
    once.defjvp(_refuse)
    return once


def _refuse(primals: Any, tangents: Any) -> NoReturn:
    raise NotImplementedError(ONCE)
