"""The caller's arrays to tensors and back: numpy, torch, JAX, the array API, DLPack and `__array__`.

Rules of this file:
- The caller's array is never written to, whatever its strides; a contiguous little-endian one is not even copied.
- What comes back shares its memory with nothing, is writable where its kind can be, and is of the kind, and on the
  device, of the array that was sent.
- Libraries such as torch and JAX are looked up in `sys.modules`: an object of theirs proves that the caller imported
  them.
- What shows itself to numpy is read so; what does not, such as an array on a GPU, comes to the host by DLPack.
- An array that would lose something is refused by `plain`, which every input passes first.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from matfn._aligned import address_of, aligned
from matfn.errors import Problem, UnsupportedArray, problem_error
from matfn.losses import is_a, named, require_whole
from matfn.wire import ITEM_BYTES, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Kind",
    "Layout",
    "copied",
    "from_torch",
    "kind_of",
    "layout_of",
    "layouts_of",
    "owned",
    "plain",
    "plain_inputs",
    "tensor_as_torch",
    "to_torch",
]

_CPU: Final = (1, 0)  # DLPack's kDLCPU
_MAKERS: Final = ("asarray", "from_dlpack", "array")  # of an array from numpy's, the standard's name first
_LARGE: Final = 1 << 20  # a copy of less takes no time beside its call

_NdArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape and dtype of an array, read before its numbers are copied; the dtype is one of the wire's."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size on the wire in bytes, whatever the strides."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


class Kind(Protocol):
    """Where an array came from, and so what its answer must be."""

    def tensor(self, array: Any) -> Tensor:
        """The array's numbers, little-endian in C order; a view of them where they lie so already."""

    def array(self, tensor: Tensor) -> Any:
        """An array of this kind over the tensor's memory, which must be aligned and have no other owner."""


def kind_of(array: Any) -> Kind:
    """The kind of an array; anything without an array library of its own is numpy's."""
    if type(array) is np.ndarray:
        return _Numpy(array)
    if is_a(array, "torch", "Tensor"):
        return _Torch(array)
    if is_a(array, "jax", "Array"):
        return _Jax(array)
    library = _library_of(array)
    return _Numpy(array) if library is None else _Foreign(array, library)


def _library_of(array: Any) -> Any:
    """The array library that an array belongs to; None for numpy, and for objects that belong to none."""
    if isinstance(array, np.ndarray | np.generic):
        return None
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    if not hasattr(array, "__dlpack__"):
        return None
    module, modules = type(array).__module__, []
    while module:
        modules.append(sys.modules.get(module))
        module = module.rpartition(".")[0]
    return next((found for found in modules if hasattr(found, "from_dlpack")), None)


def plain(array: Any, name: str = "the input") -> Any:
    """The array with its dtype and shape in sight: numpy's for anything that does not show them as numpy or torch does.

    Raises:
        UnsupportedArray: it is no dense array with numbers in it, or would lose what it has besides them.
    """
    require_whole(array, name)
    if type(array) is np.ndarray or is_a(array, "torch", "Tensor"):
        return array
    shown = isinstance(getattr(array, "dtype", None), np.dtype) and hasattr(array, "shape")
    return array if shown else _numpy_of(array, name)


def layout_of(array: Any, name: str = "the input") -> Layout:
    """Dtype and shape of a plain array; raises UnsupportedDtype where the wire has no such dtype."""
    dtype = _dtype_name(array.dtype)
    if dtype not in ITEM_BYTES:
        raise _unsupported(array.dtype, name)
    return Layout(dtype, tuple(map(int, array.shape)))


def plain_inputs(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a call as `plain` makes them, each in its own dtype: the kernels promote them.

    Raises:
        UnsupportedArray: as `plain` does.
    """
    return {name: plain(array, f"the input {name}") for name, array in given.items()}


def layouts_of(arrays: Mapping[str, Any]) -> dict[str, Layout]:
    """Dtypes and shapes of a call's plain arrays.

    Raises:
        UnsupportedDtype: the wire has no such dtype; the message names the input.
    """
    return {name: layout_of(array, f"the input {name}") for name, array in arrays.items()}


@lru_cache(maxsize=64)  # numpy composes a dtype's name anew each time
def _dtype_name(dtype: Any) -> str:
    return str(dtype.name) if isinstance(dtype, np.dtype) else str(dtype).removeprefix("torch.")


def _unsupported(dtype: object, name: str = "the input") -> Exception:
    detail = f"{name} is {dtype}; matfn takes {', '.join(ITEM_BYTES)}"
    return problem_error(Problem.of("unsupported_dtype", detail))


def _numpy_of(array: Any, name: str = "the input") -> _NdArray:
    if type(array) is np.ndarray:
        return array
    if isinstance(array, list | tuple | int):
        return _float64_for_integers(_listed(array, name))
    try:
        return _read(array)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        detail = f"{name} is {named(array)}, which cannot be read as an array in this process's memory: {error}"
        raise UnsupportedArray(detail) from error


def _listed(rows: Any, name: str) -> _NdArray:
    try:
        return np.asarray(rows)
    except (TypeError, ValueError, RuntimeError) as error:
        detail = f"{name} is {named(rows)} and no array: its rows differ in length, or {error}"
        raise UnsupportedArray(detail) from error


def _read(array: Any) -> _NdArray:
    """The numbers of an object that converts itself, in this process's memory."""
    if not hasattr(array, "__dlpack__"):
        return np.asarray(array)
    if hasattr(array, "__array__"):
        with suppress(TypeError, ValueError, RuntimeError):  # it lies on another device
            return np.asarray(array)
    return np.from_dlpack(array if array.__dlpack_device__() == _CPU else _OnHost(array))


class _OnHost:
    """An exporter of DLPack that copies its array to the CPU's memory; numpy before 2.1 does not ask for that."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **arguments: Any) -> Any:
        return self._array.__dlpack__(**arguments | {"dl_device": _CPU})

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU


def _float64_for_integers(array: _NdArray) -> _NdArray:
    """Python's integers have no dtype to keep: they are float64, as in JSON and beside a float."""
    return array.astype(np.float64) if array.dtype.kind in "iu" else array


def _tensor_of(array: _NdArray) -> Tensor:
    layout = layout_of(array)
    ordered = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    # numpy exports no buffer of ml_dtypes' bfloat16, and of any dtype as bytes
    return Tensor(layout.dtype, array.shape, ordered.reshape(-1).view(np.uint8).data)


def owned(tensor: Tensor) -> Tensor:
    """The tensor where it may be handed out as it was received, else a copy.

    It may if it lies aligned and is at least half of its body, which lives as long as the array; a quarter is enough
    where a copy would take long.
    """
    view = memoryview(tensor.data)
    share = 2 if view.nbytes < _LARGE else 4
    if (
        view.readonly
        or share * view.nbytes < memoryview(view.obj).nbytes
        or address_of(view) % ITEM_BYTES[tensor.dtype]
    ):
        return copied(tensor)
    return tensor


def copied(tensor: Tensor) -> Tensor:
    """A copy in new memory."""
    memory = aligned(tensor.nbytes)
    memory[:] = tensor.data
    return Tensor(tensor.dtype, tensor.shape, memory)


def _octets(tensor: Tensor) -> _NdArray:
    return np.frombuffer(tensor.data, np.uint8)


class _Numpy:
    """numpy arrays, lists, numbers, and objects that convert themselves to numpy."""

    def __init__(self, array: Any) -> None:
        # numpy has no bfloat16 of its own: the answer takes the caller's
        dtype = getattr(array, "dtype", None)
        self._bfloat16 = dtype if isinstance(dtype, np.dtype) and _dtype_name(dtype) == "bfloat16" else None

    def tensor(self, array: Any) -> Tensor:
        return _tensor_of(_numpy_of(array))

    def array(self, tensor: Tensor) -> Any:
        if tensor.dtype != "bfloat16":
            return _octets(tensor).view(tensor.dtype).reshape(tensor.shape)
        if self._bfloat16 is None:
            raise _unsupported("bfloat16, which numpy has only through ml_dtypes")
        return _octets(tensor).view(self._bfloat16).reshape(tensor.shape)


class _Foreign:
    """Arrays of any other library: of the array API standard, or with a module that takes DLPack, such as CuPy's."""

    def __init__(self, array: Any, library: Any) -> None:
        self._library = library
        self._device = getattr(array, "device", None)
        self._numpy = _Numpy(array)

    def tensor(self, array: Any) -> Tensor:
        return self._numpy.tensor(array)

    def array(self, tensor: Tensor) -> Any:
        numbers = self._numpy.array(tensor)
        device: Any = self._device
        make = next(getattr(self._library, name) for name in _MAKERS if hasattr(self._library, name))
        with suppress(TypeError):
            return make(numbers, device=device)
        with device if hasattr(device, "__enter__") else nullcontext():  # as CuPy's devices are
            return make(numbers)


class _Jax:
    """JAX arrays, back on the device or sharding that they came from."""

    def __init__(self, array: Any) -> None:
        self._place = array.sharding
        self._numpy = _Numpy(array)

    def tensor(self, array: Any) -> Tensor:
        return self._numpy.tensor(array)

    def array(self, tensor: Tensor) -> Any:
        jax: Any = sys.modules["jax"]
        devices = sorted(self._place.device_set, key=lambda device: device.id)
        return jax.device_put(self._numpy.array(tensor), devices[0])


class _Torch:
    """torch tensors of any device."""

    def __init__(self, array: Any) -> None:
        self.device = array.device

    def tensor(self, array: Any) -> Tensor:
        torch: Any = sys.modules["torch"]
        layout = layout_of(array)
        flat = array.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return Tensor(layout.dtype, layout.shape, flat.view(torch.uint8).numpy().data)

    def array(self, tensor: Tensor) -> Any:
        torch: Any = sys.modules["torch"]
        numbers = torch.from_numpy(_octets(tensor)).view(getattr(torch, tensor.dtype))
        return numbers.reshape(tensor.shape).to(self.device)


def to_torch(array: Any, like: Any) -> Any:
    """The array as a torch tensor on the device of the tensor `like`; only a caller that has torch may ask."""
    kind = kind_of(array)
    if isinstance(kind, _Torch):
        return array.detach().to(like.device)
    return tensor_as_torch(kind.tensor(array), like)


def tensor_as_torch(tensor: Tensor, like: Any) -> Any:
    """The numbers as a torch tensor on the device of the tensor `like`: on a CPU in place, if they may be written."""
    return _Torch(like).array(copied(tensor) if memoryview(tensor.data).readonly else tensor)


def from_torch(output: Any, kind: Kind) -> Any:
    """A torch tensor as an array of the kind; torch to torch stays on its device or moves directly."""
    if isinstance(kind, _Torch):
        return output.to(kind.device)
    return kind.array(_Torch(output).tensor(output))
