"""Arrays that would lose something on the wire, refused before a number is read.

A tensor of the wire has a dtype, a shape and numbers, and nothing else. An array whose meaning needs more, such as a
gradient, a mask or a unit, is refused with what to pass instead. Torch, JAX and numpy.ma are looked up in
`sys.modules`: an object of theirs proves that the caller imported them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from matfn.errors import UnsupportedArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["is_a", "named", "require_whole"]

_Objection: TypeAlias = tuple[str, str]
_Rule: TypeAlias = "tuple[Callable[[Any], bool], str, str]"

_NUMBERS: Final = frozenset({bool, int, float, complex})


def require_whole(array: Any, name: str) -> None:
    """Raises UnsupportedArray for an array that is more than its numbers, or has not got them all."""
    if type(array) is np.ndarray:
        return
    found = _objection(array)
    if found is not None:
        detail, hint = found
        raise UnsupportedArray(f"{name} {detail}", hint)


def is_a(array: Any, library: str, name: str) -> bool:
    """Whether it is an instance of a class of a library that the caller has imported."""
    kind = getattr(sys.modules.get(library), name, None)
    return isinstance(kind, type) and isinstance(array, kind)


def named(array: Any) -> str:
    """The type of an array in words, such as "a numpy.matrix"."""
    return f"a {type(array).__module__}.{type(array).__qualname__}".replace("a builtins.", "a ")


def _objection(array: Any) -> _Objection | None:
    """A fault of an array, and the remedy."""
    if isinstance(array, list | tuple):
        items = (item for item in array if type(item) not in _NUMBERS)
        return next((found for item in items if (found := _objection(item) or _first(_LISTED, item)) is not None), None)
    if is_a(array, "torch", "Tensor"):
        return _first(_TORCH, array)
    return _first(_OTHERS, array)


def _first(rules: Iterable[_Rule], array: Any) -> _Objection | None:
    return next(
        ((detail.format(named(array)), hint) for applies, detail, hint in rules if applies(array)),
        None,
    )


def _torch() -> Any:
    return sys.modules["torch"]


def _is_torch_subclass(tensor: Any) -> bool:
    return type(tensor) not in {_torch().Tensor, _torch().nn.Parameter}


def _is_recorded(tensor: Any) -> bool:
    """Whether autograd would follow this tensor; under torch.no_grad() the caller has said that it need not."""
    return bool(tensor.requires_grad) and bool(_torch().is_grad_enabled())


def _has_tangent(tensor: Any) -> bool:
    return _torch().autograd.forward_ad.unpack_dual(tensor).tangent is not None


def _has_no_memory(tensor: Any) -> bool:
    """Whether it only stands for other tensors, as the arguments of a function under torch.func do."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return True
    return False


# in this order: the later questions need a dense tensor
_TORCH: Final[tuple[_Rule, ...]] = (
    (
        lambda tensor: tensor.is_nested,
        "is a nested tensor; matfn takes dense tensors",
        "pad its rows, or send each tensor in a call of its own",
    ),
    (
        _is_torch_subclass,
        "is {}; the answer would be a plain tensor, without what that class adds",
        "pass .as_subclass(torch.Tensor) if its numbers alone are meant",
    ),
    (
        lambda tensor: str(tensor.layout) != "torch.strided",
        "is a tensor of a sparse or opaque layout; matfn takes dense tensors",
        "pass .to_dense()",
    ),
    (
        lambda tensor: tensor.device.type == "meta",
        "is a meta tensor, which has a shape but no numbers",
        "pass a tensor of a real device",
    ),
    (
        _is_recorded,
        "is a tensor that requires grad, and its gradient would be lost: a client's methods do not differentiate",
        "pass .detach(), or call under torch.no_grad(); the functions of matfn.torch have gradients",
    ),
    (
        _has_no_memory,
        "is a tensor that torch.func has put in place of others, and has no numbers of its own",
        "call a client's methods outside torch.func's grad, jvp and vmap; batches are leading dimensions",
    ),
    (
        _has_tangent,
        "is a dual tensor, and its tangent would be lost: a client's methods do not differentiate",
        "pass torch.autograd.forward_ad.unpack_dual(...).primal",
    ),
)

_LISTED: Final[tuple[_Rule, ...]] = (
    (
        lambda item: is_a(item, "torch", "Tensor") and item.dtype is _torch().bfloat16,
        "is a list with a bfloat16 tensor in it, and lists are read by numpy, which has no bfloat16",
        "pass torch.stack(...) of its tensors",
    ),
)

_OTHERS: Final[tuple[_Rule, ...]] = (
    (
        lambda array: is_a(array, "jax.core", "Tracer"),
        "is a JAX tracer, which has a shape but no numbers",
        "call outside jit, vmap and grad, or through jax.pure_callback; the functions of matfn.jax work under them",
    ),
    (
        lambda array: is_a(array, "numpy.ma", "MaskedArray"),
        "is a masked array, which has entries without a value",
        "fill them first, with .filled(...)",
    ),
    (
        lambda array: isinstance(array, np.ndarray) and type(array) not in {np.ndarray, np.memmap},
        "is {}; the answer would be a plain numpy array, without what that class adds",
        "pass numpy.asarray(...) if its numbers alone are meant",
    ),
    (
        lambda array: hasattr(array, "toarray") and not hasattr(array, "__array__"),
        "is {}, which is sparse; matfn takes dense arrays",
        "pass .toarray()",
    ),
)
