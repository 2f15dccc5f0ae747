"""Arrays of every kind to tensors and back."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from matfn.arrays import copied, kind_of, layout_of, plain
from matfn.errors import UnsupportedArray, UnsupportedDtype

torch = pytest.importorskip("torch")

SHAPES = pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 3), (2, 2, 3)])


def returned(array: Any) -> Any:
    """The array after its way to a tensor and back."""
    kind = kind_of(array)
    return kind.array(copied(kind.tensor(array)))


def counted(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Different entries of a dtype."""
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


@SHAPES
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16", ">f4", ">c16", ml_dtypes.bfloat16])
def test_numpy_returns_as_numpy(dtype: Any, shape: tuple[int, ...]) -> None:
    """Values, shape and dtype survive; the result is new, writable and in native byte order."""
    array = counted(shape, dtype)

    result = returned(array)

    np.testing.assert_array_equal(result, array)
    assert result.dtype == array.dtype.newbyteorder("=")
    assert result.flags.writeable


@SHAPES
@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"])
def test_torch_returns_as_torch(name: str, shape: tuple[int, ...]) -> None:
    """Values, shape, dtype and device survive."""
    tensor = torch.from_numpy(counted(shape, "f8")).to(getattr(torch, name))

    result = returned(tensor)

    assert torch.equal(result, tensor)
    assert (result.dtype, result.device) == (tensor.dtype, tensor.device)


@pytest.mark.parametrize("view", [np.s_[::2], np.s_[:, ::-1], np.s_[..., 1:], np.s_[None]])
def test_any_strides_are_read(view: Any) -> None:
    """Slices, reversals and new axes are sent as what they show."""
    array = counted((4, 6), "f8")[view]

    np.testing.assert_array_equal(returned(array), array)
    np.testing.assert_array_equal(returned(array.T), array.T)


def test_lazy_torch_views_are_read() -> None:
    """Transposes, conjugates and negations that torch only notes down are carried out."""
    tensor = torch.tensor([[1 + 2j, 3 - 1j]])

    assert torch.equal(returned(tensor.mH), tensor.mH.resolve_conj())
    assert torch.equal(returned(tensor.conj().imag), tensor.conj().imag.resolve_neg())


def test_callers_array_is_never_written() -> None:
    """A read-only array is accepted, and writing to the result leaves the original alone."""
    array = counted((3, 3), "f8")
    array.flags.writeable = False

    result = returned(array)
    result[:] = -1

    assert array[2, 2] == 8


def test_contiguous_array_is_not_copied() -> None:
    """What lies in order is sent from where it lies."""
    array = counted((8, 8), "f4")

    tensor = kind_of(array).tensor(array)

    assert np.shares_memory(np.frombuffer(tensor.data, np.uint8), array)


class _Exporter:
    """An array of a library that only knows DLPack."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **arguments: Any) -> Any:
        return self._array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


class _Converter:
    """An object that turns into numpy."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        del copy
        return np.ones((2, 2), dtype or "f4")


@pytest.mark.parametrize("thing", [_Exporter(np.ones((2, 2), "f4")), _Converter(), [[1.0, 1.0], [1.0, 1.0]]])
def test_anything_that_becomes_numpy_returns_as_numpy(thing: Any) -> None:
    """DLPack, __array__ and nested lists are accepted."""
    result = returned(thing)

    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, np.ones((2, 2)))


class _Namespace:
    """A library of the array API."""

    @staticmethod
    def asarray(array: Any) -> _Foreign:
        return _Foreign(array)


class _Foreign(_Converter):
    """Its array."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        del copy
        return np.asarray(self.array, dtype)

    def __array_namespace__(self) -> type[_Namespace]:
        return _Namespace


def test_array_api_library_gets_its_own_back() -> None:
    """The result is made by the namespace that the array names."""
    result = returned(_Foreign(np.ones(3)))

    assert isinstance(result, _Foreign)
    np.testing.assert_array_equal(result.array, np.ones(3))


def test_jax_returns_as_jax() -> None:
    """JAX arrays come back as JAX arrays on their device, bfloat16 too."""
    jnp = pytest.importorskip("jax.numpy", reason="jax is not among the development dependencies")
    array = jnp.arange(6, dtype="bfloat16").reshape(2, 3)

    result = returned(array)

    assert type(result) is type(array)
    assert (result.dtype, result.devices()) == (array.dtype, array.devices())
    assert (result == array).all()


@pytest.mark.parametrize("dtype", ["i4", "u1", "?", "O", "U3", "M8[s]", "g"])
def test_other_numpy_dtypes_are_unsupported(dtype: str) -> None:
    """Integers are not silently cast."""
    with pytest.raises(UnsupportedDtype, match="float64"):
        returned(np.zeros((2, 2), dtype))


@pytest.mark.parametrize("name", ["int64", "uint8", "bool"])
def test_other_torch_dtypes_are_unsupported(name: str) -> None:
    """Integers are not silently cast."""
    with pytest.raises(UnsupportedDtype):
        returned(torch.zeros(2, 2, dtype=getattr(torch, name)))


def test_lists_of_integers_are_float64() -> None:
    """Python's integers have no dtype to keep; they are float64, as in JSON, and booleans are no numbers."""
    for numbers in ([[2, 1], [1, 2]], ((2, 1), (1, 2)), [[2, 1.0], [1, 2]], 2):
        assert layout_of(plain(numbers)).dtype == "float64"
    np.testing.assert_array_equal(returned([[2, 1], [1, 2]]), [[2.0, 1.0], [1.0, 2.0]])
    with pytest.raises(UnsupportedDtype, match="bool"):
        layout_of(plain([[True, False]]))


class _Unreadable:
    """An array in another device's memory."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("implicit conversion is not allowed")


@pytest.mark.parametrize(
    ("thing", "error", "words"),
    [
        ([[1.0], [1.0, 2.0]], UnsupportedArray, "the input is a list and no array: its rows differ in length"),
        (_Unreadable(), UnsupportedArray, r"the input is a \S*_Unreadable, which cannot be read as an array"),
        ({}, UnsupportedDtype, "the input is object"),
        ("words", UnsupportedDtype, "the input is <U5"),
        (np.array([[{}]]), UnsupportedDtype, "the input is object"),
    ],
)
def test_what_is_no_array_is_named(thing: Any, error: type[Exception], words: str) -> None:
    """The message says what was given."""
    with pytest.raises(error, match=words):
        layout_of(plain(thing))


@pytest.mark.parametrize("array", [np.ones((2, 3), ">f4"), torch.ones(2, 3), [[1.0] * 3] * 2, _Converter()])
def test_layout_is_known_without_the_numbers(array: Any) -> None:
    """Dtype, shape and bytes are those of the tensor that would be sent."""
    tensor = kind_of(array).tensor(array)

    layout = layout_of(plain(array))

    assert (layout.dtype, layout.shape, layout.nbytes) == (tensor.dtype, tensor.shape, tensor.nbytes)
