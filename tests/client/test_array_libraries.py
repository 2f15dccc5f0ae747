"""Arrays of other libraries: by the array API standard, and by DLPack from devices that numpy cannot read."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import matfn
from matfn.arrays import copied, kind_of, plain
from matfn.exchange import prepare

torch = pytest.importorskip("torch")

T = np.array([[2.0, 0.0], [1.0, 4.0]])
B = np.array([2.0, 5.0])


def returned(array: Any) -> Any:
    """The array after its way to a tensor and back."""
    return kind_of(array).array(copied(kind_of(plain(array)).tensor(plain(array))))


@pytest.fixture
def local() -> matfn.LocalClient:
    """A client in this process, on the CPU."""
    return matfn.LocalClient(device="cpu")


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_strict_library_gets_its_own_back(device: str, dtype: str) -> None:
    """Arrays of the standard's strict implementation come back with their dtype, on the device that they came from."""
    xp: Any = pytest.importorskip("array_api_strict", reason="the extra test has it")
    array = xp.asarray(T, dtype=getattr(xp, dtype), device=xp.Device(device))

    result = returned(array)

    assert type(result) is type(array)
    assert (result.dtype, result.device) == (array.dtype, array.device)
    np.testing.assert_array_equal(np.from_dlpack(result), T)


class _Device:
    """A GPU by its number, made current by `with`, as in CuPy."""

    current = 0

    def __init__(self, number: int) -> None:
        self._number = number
        self._previous: list[int] = []

    def __enter__(self) -> None:
        self._previous.append(_Device.current)
        _Device.current = self._number

    def __exit__(self, *error: object) -> None:
        _Device.current = self._previous.pop()


class _GpuArray:
    """An array on a GPU of a library like CuPy: numpy cannot read it, and DLPack brings it where it is asked to."""

    __module__ = "gpulike.core"

    def __init__(self, numbers: Any) -> None:
        self._numbers = np.asarray(numbers)
        self.number = _Device.current

    dtype = property(lambda self: self._numbers.dtype)
    shape = property(lambda self: self._numbers.shape)
    device = property(lambda self: _Device(self.number))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __dlpack__(self, *, dl_device: Any = None, **arguments: Any) -> Any:
        assert dl_device == (1, 0)
        return self._numbers.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.number

    @property
    def numbers(self) -> Any:
        """What lies on the device."""
        return self._numbers


@pytest.fixture
def gpulike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library of that array, without the array API standard."""
    module: Any = ModuleType("gpulike")
    module.asarray = module.from_dlpack = _GpuArray
    monkeypatch.setitem(sys.modules, "gpulike", module)


@pytest.mark.usefixtures("gpulike")
@pytest.mark.parametrize("number", [0, 1])
def test_gpu_library_is_read_by_dlpack(number: int, local: matfn.LocalClient) -> None:
    """An array that numpy cannot read comes by DLPack, and its answer goes back to its library and device."""
    with _Device(number):
        t = _GpuArray(T)

    answer = local.tri_solve(t, _GpuArray(B))

    assert isinstance(answer, _GpuArray)
    assert answer.number == number
    np.testing.assert_allclose(T @ answer.numbers, B)


class _Old(_GpuArray):
    """An array whose DLPack cannot copy to another device."""

    __module__ = "oldlike"

    def __dlpack__(self, *, stream: Any = None) -> Any:  # type: ignore[override]
        del stream


def test_what_cannot_come_to_the_host_is_named() -> None:
    """The message says which input has no way into this process's memory."""
    with pytest.raises(matfn.UnsupportedArray, match=r"the input is a oldlike\S*, which cannot be read .* memory"):
        returned(_Old(T))


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float32", "float64"), "float64"),
        (("float16", "float32"), "float32"),
        (("float32", "complex128"), "complex128"),
        (("float64", "complex64"), "complex128"),
        ((ml_dtypes.bfloat16, "float32"), "float32"),
        ((ml_dtypes.bfloat16, "float16"), "float32"),
        (("float32", "float32"), "float32"),
    ],
)
def test_inputs_are_promoted(dtypes: tuple[Any, Any], expected: str, local: matfn.LocalClient) -> None:
    """Inputs of different dtypes are sent as they are, and answered in the one to which numpy promotes them."""
    given = [np.eye(2).astype(dtype) for dtype in dtypes]

    sent = prepare(matfn.call.geometric_mean(*given)).call.inputs
    answer = local.geometric_mean(*given)

    assert [tensor.dtype for tensor in sent.values()] == [np.dtype(dtype).name for dtype in dtypes]
    assert str(answer.dtype) == expected
    np.testing.assert_allclose(answer.astype("complex128"), np.eye(2), atol=1e-6)


def test_promotion_crosses_libraries(local: matfn.LocalClient) -> None:
    """A torch tensor beside numpy and lists: the answer is torch's, in the wider dtype."""
    answer = local.frechet_distance(torch.zeros(2), np.eye(2), [3, 4], torch.eye(2, dtype=torch.bfloat16))

    assert torch.equal(answer, torch.tensor(25.0, dtype=torch.float64))


@pytest.mark.parametrize("made", [np.array, torch.tensor, list], ids=["numpy", "torch", "list"])
def test_distance_is_a_number_of_its_kind(made: Any, local: matfn.LocalClient) -> None:
    """A single distance has no dimension and prints and counts as a number."""
    eye = made([[1.0, 0.0], [0.0, 1.0]])

    distance: Any = local.frechet_distance(made([0.0, 0.0]), eye, made([3.0, 4.0]), eye)

    assert distance.shape == ()
    assert float(distance) == 25
    assert f"{distance:.1f}" == "25.0"
    assert isinstance(distance, np.ndarray if made is list else type(eye))
