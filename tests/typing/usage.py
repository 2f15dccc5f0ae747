"""The interface as users write it; it only has to type-check."""

from __future__ import annotations

from concurrent.futures import Future
from typing import assert_type

import numpy as np
import numpy.typing as npt
import torch

import matfn
import matfn.optim

Matrix = npt.NDArray[np.float32]


def synchronous(a: Matrix, m: torch.Tensor) -> None:
    """The kind of array that goes in comes out."""
    with matfn.Client("http://127.0.0.1:8000", api_key="k", timeout=None, max_retries=0) as client:
        assert_type(client.inv_root(a, 4), Matrix)
        assert_type(client.inv_root(a, r=4, s=3, g=a, damping="range", tol=1e-3, priority=9), Matrix)
        assert_type(client.msign(m, coefficients=[(3.4, -4.8, 2.0)], method="gram"), torch.Tensor)
        assert_type(client.sqrt_pair(a, on_failure="nan"), tuple[Matrix, Matrix])
        assert_type(client.power(a, [0.5, 1]), Matrix)
        assert_type(client.power(m, np.arange(3), shift=torch.ones(3)), torch.Tensor)
        assert_type(client.delta_rule(m, m, m, cu_seqlens=torch.arange(3)), tuple[torch.Tensor, torch.Tensor])
        assert_type(client.with_info.mclip(m, hi=None), matfn.Answer[torch.Tensor])
        assert_type(client.with_info.tri_inv(a).certificates[0].outcome, matfn.Outcome)
        assert_type(client.map([matfn.call.inv_root(a, r=4), matfn.call.msign(a)]), list[Matrix])
        assert_type(
            client.map([matfn.call.msign(m)], progress=True, on_error="return"), list[torch.Tensor | matfn.MatfnError]
        )
        assert_type(client.with_info.map([matfn.call.msign(m)]), list[matfn.Answer[torch.Tensor]])
        assert_type(
            client.with_info.map([matfn.call.msign(m)], on_error="return"),
            list[matfn.Answer[torch.Tensor] | matfn.MatfnError],
        )
        assert_type(client.submit(matfn.call.msign(m)), Future[torch.Tensor])
        assert_type(client.with_info.submit(matfn.call.msign(m)), Future[matfn.Answer[torch.Tensor]])
        assert_type(next(client.as_completed([matfn.call.msign(m)])), tuple[int, torch.Tensor])
        assert_type(
            next(client.as_completed([matfn.call.msign(m)], on_error="return")),
            tuple[int, torch.Tensor | matfn.MatfnError],
        )
        assert_type(client.with_options(timeout=None, headers={"traceparent": "00"}), matfn.Client)
        assert_type(client.with_info.msign(m).errors, npt.NDArray[np.float64])
        assert_type(client.ask(matfn.call.sqrt_pair(m)), matfn.Answer[tuple[torch.Tensor, torch.Tensor]])


async def asynchronous(a: Matrix) -> None:
    """The same with await."""
    async with matfn.AsyncClient(on_response=lambda told: told.seconds) as client:
        assert_type(client.with_options(max_retries=0), matfn.AsyncClient)
        assert_type(await client.inv_root(a, 4), Matrix)
        assert_type(await client.with_info.sqrt_pair(a), matfn.Answer[tuple[Matrix, Matrix]])
        assert_type(await client.map([matfn.call.msign(a)]), list[Matrix])
        assert_type(await client.with_info.map([matfn.call.msign(a)]), list[matfn.Answer[Matrix]])


def local(a: Matrix) -> None:
    """The same without a server."""
    client = matfn.LocalClient(device="cpu")
    assert_type(client.dplr_solve(a, a, a, a, transpose=True), Matrix)
    assert_type(client.map([matfn.call.msign(a)], on_error="return"), list[Matrix | matfn.MatfnError])
    assert_type(client.with_info.map([matfn.call.msign(a)]), list[matfn.Answer[Matrix]])


def optimizers(weight: torch.nn.Parameter, client: matfn.Client) -> None:
    """Optimizers take any client, and a step has the type of its closure."""
    soap = matfn.optim.SOAP([weight], lr=3e-3, client=client, refresh_every=10, oversize="identity")
    shampoo = matfn.optim.Shampoo([{"params": [weight], "lr": 1e-3}], client=matfn.LocalClient())
    assert_type(soap.step(lambda: 1.0), float)
    assert_type(soap.last_refresh, matfn.optim.Refreshed | None)
    soap.step()
    shampoo.step()


def errors(client: matfn.Client, a: Matrix) -> str:
    """Every error is typed with what it knows."""
    try:
        client.inv_root(a, 2)
    except matfn.NotPositive as error:
        assert_type(error.index, int | None)
        return f"{error.code} {error.status} {error.hint} {error.request_id}"
    except matfn.Busy as error:
        assert_type(error.retry_after_ms, float | None)
    except matfn.TransportError:
        pass
    return ""
