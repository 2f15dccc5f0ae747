"""Inverses of triangles: every order, large products, and estimates where four columns tell too little."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluating import Array, answer
from honesty import assert_covered, assert_honest
from matfn_kernels.linalg import probes
from matfn_kernels.linalg.products import large_product
from matfn_kernels.linalg.triangles import invert_lower


def _inverse(t: Array) -> Array:
    """T^-1 of one lower triangle by substitution in extended precision."""
    t = t.astype(np.longdouble)
    x = np.zeros_like(t)
    for i in range(len(t)):
        x[i] = ((np.arange(len(t)) == i) - t[i, :i] @ x[:i]) / t[i, i]
    return x


@pytest.mark.parametrize("order", [32, 48])
@pytest.mark.parametrize("scale", ["rows", "columns", "none"])
def test_inverses_of_nearly_singular_triangles_are_within_their_estimates(order: int, scale: str) -> None:
    """Of Gaussian triangles, whose inverses and their errors lie in a few columns each."""
    rng = np.random.default_rng(1)
    t = np.tril(rng.standard_normal((150, order, order)))
    size = 10 ** rng.uniform(-6, 0, (150, order))
    t *= {"rows": size[:, :, None], "columns": size[:, None, :], "none": np.ones((1, 1, 1))}[scale]
    t = t.astype("float32")

    found = answer("tri_inv", {"t": t}, on_failure="nan")

    exact = [_inverse(one) for one in t]
    errors = [
        np.linalg.norm((x - y).astype(float)) / np.linalg.norm(y.astype(float))
        for x, y in zip(found.outputs[0], exact, strict=True)
    ]
    assert_covered(errors, found.certificates)


@pytest.mark.parametrize("order", [1, 15, 16, 17, 31, 33, 64, 65, 100, 130, 515])
def test_triangles_of_every_order_are_inverted(order: int) -> None:
    """Blocks that do not fill the last doubling are made up by ones, which the answer does not show."""
    rng = np.random.default_rng(order)
    t = np.tril(rng.standard_normal((2, order, order)), -1) / order**0.5 + np.eye(order)

    found = invert_lower(torch.from_numpy(t)).numpy()

    assert found.shape == t.shape
    np.testing.assert_array_equal(found, np.tril(found))
    np.testing.assert_allclose(found @ t, np.broadcast_to(np.eye(order), t.shape), atol=1e-12)


def test_large_products_do_not_depend_on_how_their_factors_are_stored() -> None:
    """Slices and transposes are multiplied as their copies are, and no slower by orders of magnitude."""
    rng = np.random.default_rng(0)
    whole = torch.from_numpy(rng.standard_normal((2, 512, 512))).float()
    x, y = whole[:, 256:, :256], whole.mT[:, :256, 256:]

    found = large_product(x, y)

    torch.testing.assert_close(found, large_product(x.contiguous(), y.contiguous()), rtol=0, atol=0)
    torch.testing.assert_close(found.double(), x.double() @ y.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("function", ["tri_solve", "dplr_solve"])
@pytest.mark.parametrize("columns", [100, 400])
def test_error_in_one_column_and_norm_in_another_are_both_seen(function: str, columns: int) -> None:
    """An exact column that is most of X hides nothing of the error in another, however the probes weigh them."""
    rng, order = np.random.default_rng(0), 20
    t = (np.tril(rng.standard_normal((order, order)), -1) + np.diag(rng.uniform(0.3, 1, order))).astype(np.float32)
    weights = torch.linalg.vector_norm(probes.gaussian(torch.zeros(1, order, columns), columns)[0], dim=-1)
    wrong, exact = int(weights.argmin()), int(weights.argmax())
    b = np.zeros((order, columns), np.float32)
    b[:, wrong] = t @ rng.standard_normal(order).astype(np.float32)
    size = 30 * np.linalg.norm(np.linalg.solve(t.astype(float), b[:, wrong]))
    b[-1, exact] = t[-1, -1] * 2 ** np.round(np.log2(size))
    inputs = (
        {"t": t[None]} if function == "tri_solve" else {"diag": t.diagonal()[None].copy(), "q": np.tril(t, -1)[None]}
    )
    others = {} if function == "tri_solve" else {"k": np.eye(order, dtype=np.float32)[None]}

    found = answer(function, {**inputs, **others, "b": b[None]}, precision="fp32")

    x = np.linalg.solve(t.astype(float), b.astype(float))
    assert_honest(found, x)
