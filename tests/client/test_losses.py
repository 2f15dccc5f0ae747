"""Arrays that would lose something on their way: refused by every client before anything is sent."""

from __future__ import annotations

import asyncio
import sys
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse
import torch

import matfn
from matfn.arrays import layout_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from matfn.http1 import Request, Response


class _Labelled(torch.Tensor):
    """A tensor class of the caller's."""


class _Metres(np.ndarray[Any, Any]):
    """An array class of the caller's, with a unit."""


def nested() -> Any:
    """Rows of different lengths in one tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls them a prototype
        return torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])


def rows() -> Any:
    """The identity as compressed sparse rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls them a beta state
        return torch.eye(2).to_sparse_csr()


LOSSES: dict[str, tuple[Callable[[], Any], str]] = {
    "gradient": (lambda: torch.eye(2, requires_grad=True), r"requires grad.*\(pass .detach\(\).*matfn\.torch"),
    "parameter": (lambda: torch.nn.Parameter(torch.eye(2)), r"requires grad.*\(pass .detach\(\)"),
    "computed gradient": (lambda: 2 * torch.eye(2, requires_grad=True), r"requires grad.*\(pass .detach\(\)"),
    "meta": (lambda: torch.eye(2, device="meta"), "meta tensor.*no numbers"),
    "sparse": (lambda: torch.eye(2).to_sparse(), r"sparse.*\(pass .to_dense"),
    "sparse rows": (rows, r"sparse.*\(pass .to_dense"),
    "opaque": (lambda: torch.eye(2).to_mkldnn(), r"opaque.*\(pass .to_dense"),
    "nested": (nested, "nested tensor.*pad its rows"),
    "tensor class": (lambda: torch.eye(2).as_subclass(_Labelled), r"_Labelled.*as_subclass\(torch.Tensor\)"),
    "mask": (lambda: np.ma.masked_array(np.eye(2), np.eye(2) > 0), r"masked array.*\.filled"),
    "mask in a list": (lambda: [np.ma.masked_array([1.0, 2.0], [True, False])], r"masked array.*\.filled"),
    "bfloat16 in a list": (lambda: [torch.ones(2, dtype=torch.bfloat16)] * 2, r"bfloat16 tensor in it.*torch\.stack"),
    "gradient in a list": (lambda: [[torch.ones((), requires_grad=True)]], "requires grad"),
    "matrix": (lambda: np.matrix([[1.0]]), r"numpy\.\S*matrix.*numpy.asarray"),
    "unit": (lambda: np.eye(2).view(_Metres), r"_Metres.*numpy.asarray"),
    "sparse of scipy": (lambda: scipy.sparse.eye_array(2), r"scipy.*sparse.*\.toarray"),
}


class _NoServer:
    """A transport that must not be used, but for the question for limits."""

    def send(self, request: Request, timeout: float | None) -> Response:
        del timeout
        assert request.method == "GET"
        raise matfn.TransportError("nobody here")

    def close(self) -> None:
        """Nothing to close."""


class _NoAsyncServer(_NoServer):
    """The same for coroutines."""

    async def send(self, request: Request, timeout: float | None) -> Response:  # type: ignore[override]  # noqa: ASYNC109
        return super().send(request, timeout)

    async def close(self) -> None:  # type: ignore[override]
        """Nothing to close."""


def sent(call: Any) -> Any:
    """What a Client answers."""
    return matfn.Client(transport=_NoServer()).ask(call)


def sent_async(call: Any) -> Any:
    """What an AsyncClient answers."""
    return asyncio.run(matfn.AsyncClient(transport=_NoAsyncServer()).ask(call))


def computed(call: Any) -> Any:
    """What a LocalClient answers."""
    return matfn.LocalClient(device="cpu").ask(call)


# torch's own forward mode uses what torch has deprecated
SCRIPTING = pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
ASKING = pytest.mark.parametrize("ask", [sent, sent_async, computed])


@ASKING
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_refused(ask: Callable[[Any], Any], loss: str) -> None:
    """Every client names the input, what is wrong with it, and what to pass instead; nothing is sent."""
    make, words = LOSSES[loss]

    with pytest.raises(matfn.UnsupportedArray, match=f"^the input m is a .*{words}") as caught:
        ask(matfn.call.msign(make()))

    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.hint


@ASKING
def test_further_inputs_are_looked_at(ask: Callable[[Any], Any]) -> None:
    """An input that does not decide the answer's kind is refused alike."""
    with pytest.raises(matfn.UnsupportedArray, match=r"the input b is .* requires grad"):
        ask(matfn.call.tri_solve(np.eye(2), torch.eye(2, requires_grad=True)))


@pytest.mark.parametrize("value", [torch.ones(1, 3, requires_grad=True), [[1.0, np.ma.masked, 0.0]]])
def test_parameters_are_looked_at(value: Any) -> None:
    """A parameter given as an array loses nothing either."""
    with pytest.raises(matfn.UnsupportedArray, match=r"^coefficients is a"):
        sent(matfn.call.msign(np.eye(2), coefficients=value))


@pytest.mark.parametrize("silence", [torch.no_grad, torch.inference_mode])
def test_gradient_that_is_not_recorded_is_no_loss(silence: Callable[[], Any]) -> None:
    """Where torch itself records nothing a parameter is an array like any other."""
    parameter = torch.nn.Parameter(torch.eye(2))

    with silence():
        value = matfn.LocalClient(device="cpu").msign(parameter)

    assert torch.equal(value, torch.eye(2))
    assert not value.requires_grad


@SCRIPTING
def test_functional_transforms_are_refused() -> None:
    """Inside torch.func's transforms there is no array to send, or one whose derivative would be lost."""
    client = matfn.LocalClient(device="cpu")
    a = torch.eye(2).repeat(2, 1, 1)

    with pytest.raises(matfn.UnsupportedArray, match="requires grad"):
        torch.func.grad(lambda x: client.msign(x).sum())(a)
    with pytest.raises(matfn.UnsupportedArray, match=r"torch\.func"):
        torch.func.vmap(client.msign)(a)
    with pytest.raises(matfn.UnsupportedArray, match=r"torch\.func"):
        torch.func.jvp(client.msign, (a,), (a,))


@SCRIPTING
def test_tangent_is_refused() -> None:
    """Forward-mode derivatives are not lost either, and the primal alone is an array."""
    forward_ad: Any = torch.autograd.forward_ad
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.eye(2), torch.eye(2))

        with pytest.raises(matfn.UnsupportedArray, match="tangent would be lost"):
            plain(dual)
        assert layout_of(plain(forward_ad.unpack_dual(dual).primal)).shape == (2, 2)


def test_map_keeps_the_place_of_a_refused_array() -> None:
    """One array that cannot be sent costs the other calls nothing."""
    calls = [matfn.call.msign(torch.eye(2)), matfn.call.msign(torch.eye(2, requires_grad=True))]

    values = matfn.LocalClient(device="cpu").map(calls, on_error="return")

    assert [type(value) for value in values] == [torch.Tensor, matfn.UnsupportedArray]


def test_quantised_tensor_is_a_matter_of_dtype() -> None:
    """Its numbers are no floats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to replace them
        quantised = torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8)

    with pytest.raises(matfn.UnsupportedDtype, match="qint8"):
        layout_of(plain(quantised))


def test_memory_mapped_array_is_whole(tmp_path: Any) -> None:
    """Where numpy keeps an array is none of its meaning."""
    mapped = np.memmap(tmp_path / "a", "f8", "w+", shape=(2, 2))

    assert plain(mapped) is mapped


def test_tracer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for an array while JAX traces a function has no numbers."""

    class Tracer:
        """JAX's, as far as it is looked at."""

        dtype = np.dtype("f4")
        shape = (2, 2)

    monkeypatch.setitem(sys.modules, "jax.core", SimpleNamespace(Tracer=Tracer))

    with pytest.raises(matfn.UnsupportedArray, match=r"tracer.*pure_callback.*matfn\.jax"):
        sent(matfn.call.msign(Tracer()))


def test_tracer_of_jax_is_refused() -> None:
    """The same of JAX itself."""
    jax = pytest.importorskip("jax", reason="jax is not among the development dependencies")

    for transform in (jax.jit, jax.vmap, jax.grad):
        with pytest.raises(matfn.UnsupportedArray, match="tracer"):
            transform(lambda a: sent(matfn.call.msign(a)).value.sum())(jax.numpy.eye(2))
