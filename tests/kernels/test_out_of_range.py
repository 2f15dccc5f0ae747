"""A finite answer that the dtype of the output cannot hold is out_of_range, whatever the function and its method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
import torch

from matfn_kernels import Profile, compute
from matfn_kernels.contract.functions import ENTRIES, FUNCTIONS
from matfn_kernels.contract.rejection import Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

NOMINAL: Final = Profile.nominal()
DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
I2: Final = torch.eye(2, dtype=torch.float64)
A: Final = torch.tensor([[0.84, -0.24], [-0.24, 0.7]], dtype=torch.float64)  # positive definite, of norm about 1
M: Final = torch.tensor([[1.0, 1], [1, -1]], dtype=torch.float64)
UP: Final = torch.tensor([[1.0, 0.5], [0, 1]], dtype=torch.float64)
ONES: Final = torch.ones(2, dtype=torch.float64)
WITHIN: Final = {"msign", "norm2", "cond", "qk_clip", "sqrt_pair"}
"""Functions whose values no dtype is too small for."""


def _cases(dtype: torch.dtype) -> dict[str, tuple[str, Mapping[str, Tensor], Mapping[str, Any]]]:
    """Calls whose exact answers are finite and above the largest number, from inputs below it."""
    kind = torch.finfo(dtype)
    huge, small, least = 0.9 * kind.max, 64 * kind.tiny, 32 * kind.tiny * kind.eps
    half = huge**0.5
    return {
        "root": ("root", {"a": huge * A}, {"r": 1, "s": 2}),
        "root with g": ("root", {"a": huge * A, "g": huge * A}, {"r": 2}),
        "general root": ("root", {"a": huge * A @ UP / 2}, {"r": 1, "s": 2, "structure": "general"}),
        "inv_root": ("inv_root", {"a": least * (I2 + A)}, {"r": 1, "s": 3}),
        "general inv_root": ("inv_root", {"a": small * UP}, {"r": 1, "s": 3, "structure": "general"}),
        "inv_root with g": ("inv_root", {"a": A / half, "g": huge * A}, {"r": 1}),
        "power": ("power", {"a": huge * A}, {"p": 1.5}),
        "general power": ("power", {"a": huge * A @ UP / 2}, {"p": 1.5, "structure": "general"}),
        "exp": ("exp", {"a": 1e4 * A}, {}),
        "log of g": ("power", {"a": A, "g": huge * M}, {"p": -2.0}),
        "polar": ("polar", {"m": huge * M}, {}),
        "eigh": ("eigh", {"a": huge * torch.ones(2, 2, dtype=torch.float64)}, {}),
        "eigenbasis": ("eigenbasis", {"a": huge * torch.ones(2, 2, dtype=torch.float64), "q": I2}, {}),
        "geometric_mean": ("geometric_mean", {"a": least * (I2 + A), "b": huge * A}, {"t": 2.0}),
        "solve_sylvester": ("solve_sylvester", {"a": small * (I2 + A), "b": small * UP, "q": huge * M}, {}),
        "solve_lyapunov": ("solve_lyapunov", {"a": small * (I2 + A), "q": huge * A}, {}),
        "solve_discrete_lyapunov": ("solve_discrete_lyapunov", {"a": 0.9 * UP, "q": huge * A}, {}),
        "solve_care": ("solve_care", {"a": 3 * UP, "b": I2, "q": huge * I2, "r": huge * I2}, {}),
        "solve_care's gain": ("solve_care", {"a": 3 * UP, "b": I2, "q": huge * I2, "r": huge * I2}, {"gain": True}),
        "solve_dare": ("solve_dare", {"a": 3 * UP, "b": I2, "q": huge * I2, "r": huge * I2}, {}),
        "tri_inv": ("tri_inv", {"t": least * UP}, {"lower": False}),
        "tri_solve": ("tri_solve", {"t": small * UP, "b": huge * M}, {"lower": False}),
        "tri_solve, one column": ("tri_solve", {"t": small * UP, "b": huge * M[:, :1]}, {"lower": False}),
        "dplr_inv": ("dplr_inv", {"diag": least * ONES, "q": ONES[:, None], "k": least * ONES[:, None]}, {}),
        "dplr_solve": (
            "dplr_solve",
            {"diag": small * ONES, "q": ONES[:, None], "k": small * ONES[:, None], "b": huge * M},
            {},
        ),
        "frechet_distance": (
            "frechet_distance",
            {"mu1": huge * ONES, "mu2": -huge * ONES, "s1": I2, "s2": I2},
            {},
        ),
        "max_logit": ("max_logit", {"q": huge * M[None], "k": huge * M[None]}, {}),
        "delta_rule": ("delta_rule", {"q": huge * M, "k": I2, "v": huge * M}, {}),
        "gradient of power": ("vjp/power", {"x": huge * A, "a": huge * A}, {"p": 1.5}),
        "gradient of tri_inv": ("vjp/tri_inv", {"x": UP, "t": kind.tiny**0.5 / 8 * UP}, {"lower": False}),
        "gradient of tri_solve": ("vjp/tri_solve", {"x": M, "t": small * UP, "b": M}, {"lower": False}),
        "gradient of solve_lyapunov": ("vjp/solve_lyapunov", {"x": huge * I2, "a": small * (I2 + A), "q": A}, {}),
    }


@pytest.mark.parametrize("dtype", DTYPES[:-1], ids=str)
@pytest.mark.parametrize("function", ["mclip", "eig_clip"])
def test_a_bound_beyond_the_dtype_is_out_of_range(function: str, dtype: torch.dtype) -> None:
    """Bounds are numbers of float64, which a narrower output may not hold."""
    given = {ENTRIES[function].first.name: A.to(dtype)}

    _, (found,) = compute(function, given, {"lo": 1e39, "hi": None}, {"on_failure": "nan"}, profile=NOMINAL)

    assert (found.outcome, found.code) == ("failed", "out_of_range")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", _cases(torch.float32))
def test_an_answer_beyond_the_dtype_is_out_of_range(name: str, dtype: torch.dtype) -> None:
    """The matrix alone is NaN under on_failure="nan", and the hint names the dtype."""
    function, inputs, keywords = _cases(dtype)[name]
    inputs = {key: x.to(dtype) for key, x in inputs.items()}

    outputs, (certificate,) = compute(function, inputs, keywords, {"on_failure": "nan"}, profile=NOMINAL)

    assert all(x.isfinite().all() for x in inputs.values())
    assert (certificate.outcome, certificate.code) == ("failed", "out_of_range")
    assert str(dtype).removeprefix("torch.") in str(certificate.hint)
    assert all(bool(x.isnan().all()) for x in outputs)
    with pytest.raises(Rejection) as refused:
        compute(function, inputs, keywords, {}, profile=NOMINAL)
    assert refused.value.code == "out_of_range"


def test_every_function_that_may_leave_its_range_says_so() -> None:
    """The catalogue lists the code for the functions of the cases and their gradients, and for no other."""
    listed = {name for name, entry in FUNCTIONS.items() if "out_of_range" in entry.errors}

    assert listed == FUNCTIONS.keys() - WITHIN
    tried = {function for function, *_ in _cases(torch.float32).values()} | {"mclip", "eig_clip"}
    assert tried >= listed - {"log", "mcsgn", "spectral_projector"}
    assert all("out_of_range" in entry.errors for entry in ENTRIES.values() if entry.gradients)


@pytest.mark.parametrize("function", ["tri_inv", "tri_solve"])
def test_an_answer_that_leaves_the_range_on_the_way_is_found(function: str) -> None:
    """A norm whose square overflows costs no answer, and the other matrices keep their bits."""
    t = torch.stack([UP, torch.diag(torch.tensor([1e-308, 1e300], dtype=torch.float64)), UP])
    inputs = {"t": t} | ({"b": I2.expand(3, 2, 2)} if function == "tri_solve" else {})

    (x,), certificates = compute(function, inputs, {"lower": False}, {}, profile=NOMINAL)
    (alone,), _ = compute(function, {key: y[:1] for key, y in inputs.items()}, {"lower": False}, {}, profile=NOMINAL)

    torch.testing.assert_close(x[1].diagonal(), torch.tensor([1e308, 1e-300], dtype=torch.float64), rtol=1e-15, atol=0)
    assert torch.equal(x[0], alone[0])
    assert torch.equal(x[2], alone[0])
    assert {certificate.outcome for certificate in certificates} == {"converged"}
