"""The option `method`: what a certificate names can be asked for, and then no other method answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.programs.profile_loading import load_profile
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.validation import Limits, parse_call
from matfn_kernels.running.evaluation import batch_of, evaluate
from matfn_kernels.running.plan import make_plan
from spectra import positive

if TYPE_CHECKING:
    from matfn_kernels.running.evaluation import Evaluation

SERVED = [
    (function.name, method, dtype)
    for function in FUNCTIONS.values()
    for method in function.methods
    for dtype in (torch.float32, torch.float64)
    if (method, dtype) != ("gram", torch.float64)
]


def _positive(n: int) -> Any:
    return positive(n, condition=30.0)[0]


def _inputs(function: str, n: int = 20) -> dict[str, Any]:
    """Inputs that every method of the function has an answer for."""
    random = np.random.default_rng(n)
    noise = random.standard_normal((n, n))
    shifted = noise / n + 2 * np.eye(n)
    generators = random.standard_normal((n, 2)) / n
    given: dict[str, dict[str, Any]] = {
        "msign": {"m": noise},
        "mclip": {"m": noise},
        "polar": {"m": noise},
        "mcsgn": {"a": shifted},
        "spectral_projector": {"a": shifted},
        "solve_sylvester": {"a": shifted, "b": shifted, "q": noise},
        "solve_lyapunov": {"a": shifted, "q": noise},
        "solve_care": {"a": noise / n, "b": np.eye(n), "q": np.eye(n), "r": np.eye(n)},
        "tri_inv": {"t": np.tril(shifted)},
        "tri_solve": {"t": np.tril(shifted), "b": noise},
        "dplr_inv": {"diag": np.full(n, 2.0), "q": generators, "k": generators},
        "dplr_solve": {"diag": np.full(n, 2.0), "q": generators, "k": generators, "b": noise},
        "frechet_distance": {"mu1": np.ones(n), "s1": _positive(n), "mu2": np.zeros(n), "s2": np.eye(n)},
        "geometric_mean": {"a": _positive(n), "b": np.eye(n)},
        "max_logit": {"q": noise[None], "k": noise[None]},
        "qk_clip": {"w_q": noise[None], "w_k": noise[None], "max_logit": np.array([200.0])},
        "delta_rule": {"q": generators, "k": generators, "v": generators},
    }
    return given.get(function, {"a": _positive(n)})


def _params(function: str, method: str) -> dict[str, Any]:
    takes = any(one.name == "structure" for one in FUNCTIONS[function].parameters)
    general = {"structure": "general"} if takes and method in {"schur", "scaling_squaring", "squaring"} else {}
    p = -3.0 if method == "squaring" else 0.7
    exponents: dict[str, dict[str, Any]] = {"root": {"r": 2}, "inv_root": {"r": 2}, "power": {"p": p}}
    return {**exponents.get(function, {}), **general}


def _evaluated(
    function: str, params: dict[str, Any], dtype: torch.dtype, inputs: dict[str, Any] | None = None, **options: Any
) -> Evaluation:
    sent = {name: torch.as_tensor(value).to(dtype) for name, value in (inputs or _inputs(function)).items()}
    call = screen(parse_call(function, sent, params, options, Limits()))
    return evaluate(make_plan(call, load_profile()).program, batch_of(call))


@pytest.mark.parametrize(("function", "method", "dtype"), SERVED)
def test_method_answers_by_its_name(function: str, method: str, dtype: torch.dtype) -> None:
    """A listed method gives a certificate of that name."""
    (certificate,) = _evaluated(function, _params(function, method), dtype, method=method).certificates

    assert (certificate.method, certificate.fallback) == (method, None)
    assert certificate.outcome != "failed"


@pytest.mark.parametrize("function", ["msign", "mclip"])
def test_gram_matrix_needs_spare_digits(function: str) -> None:
    """In float64 the Gram matrix has lost what its method would need, which the refusal says."""
    with pytest.raises(Rejection) as refused:
        _evaluated(function, {}, torch.float64, method="gram")

    assert (refused.value.code, refused.value.hint) == (
        "invalid_parameter",
        "methods that serve it: svd, newton_schulz",
    )


@pytest.mark.parametrize("order", [16, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", ["root", "inv_root", "sqrt_pair", "msign", "mclip", "mcsgn", "spectral_projector"])
def test_pinning_what_auto_chose_changes_no_bit(function: str, dtype: torch.dtype, order: int) -> None:
    """Asked for the method that the certificate of auto names, the answer and what is known of it are the same."""
    inputs = _inputs(function, order)
    usual = _evaluated(function, _params(function, ""), dtype, inputs)
    (certificate,) = usual.certificates

    pinned = _evaluated(function, _params(function, ""), dtype, inputs, method=certificate.method)

    assert pinned.certificates == (certificate._replace(fallback=None),)
    assert all(torch.equal(*pair) for pair in zip(pinned.outputs, usual.outputs, strict=True))


def test_pinning_a_fallback_changes_no_bit() -> None:
    """The method that answered in another's place gives the same numbers when it is asked for."""
    m = positive(96, condition=1e12)[0].astype(np.float32)  # on every machine products are tried first, and miss
    usual = _evaluated("msign", {}, torch.float32, {"m": m})

    pinned = _evaluated("msign", {}, torch.float32, {"m": m}, method="svd")

    assert usual.certificates[0].method == "svd"
    assert usual.certificates[0].fallback is not None
    assert torch.equal(pinned.outputs[0], usual.outputs[0])


@pytest.mark.parametrize(
    ("function", "inputs", "params", "method"),
    [
        ("inv_root", {"a": np.diag([1.0, 1e-12, 0.5])}, {"r": 2}, "engine"),
        ("msign", {"m": np.diag([1.0, 1e-9, 0.5])}, {}, "newton_schulz"),
        ("mcsgn", {"a": np.array([[0.0, 1.0], [-1.0, 0.0]])}, {}, "newton"),
    ],
)
def test_method_that_misses_stands_alone(
    function: str, inputs: dict[str, Any], params: dict[str, Any], method: str
) -> None:
    """Where the named method has no answer, none by another method is given in its name or in its place."""
    (certificate,) = _evaluated(
        function, params, torch.float32, inputs, method=method, tol=1e-5, on_failure="nan"
    ).certificates

    assert (certificate.method, certificate.code) == (method, "not_converged")
    assert set((certificate.fallback or method).split(", ")) == {method}  # in another precision, at most
    assert certificate.outcome != "converged"


@pytest.mark.parametrize(
    ("function", "params", "options", "hint"),
    [
        ("inv_root", {"r": 2}, {"method": "schur"}, "methods that serve it: eigh, engine"),
        ("inv_root", {"r": 2, "structure": "general"}, {"method": "eigh"}, "methods that serve it: schur"),
        ("inv_root", {"r": 2, "damping": "range"}, {"method": "engine"}, "methods that serve it: eigh"),
        ("inv_root", {"r": 2}, {"method": "eigh", "precision": "bf16"}, "methods that serve it: engine"),
        ("inv_root", {"r": 2}, {"method": "svd"}, "method must be one of auto, engine, eigh, schur or None"),
        ("msign", {"method": "gram"}, {"method": "svd"}, "name it in options"),
        ("tri_inv", {"method": "blocked"}, {}, "it takes lower, unit_diagonal; method is an option"),
    ],
)
def test_method_that_cannot_serve_is_refused(
    function: str, params: dict[str, Any], options: dict[str, Any], hint: str
) -> None:
    """The refusal names the methods that can."""
    with pytest.raises(Rejection) as refused:
        _evaluated(function, params, torch.float32, **options)

    assert (refused.value.code, refused.value.hint) == ("invalid_parameter", hint)


@pytest.mark.parametrize("named", [{}, {"method": None}, {"method": "auto"}])
def test_none_is_auto(named: dict[str, Any]) -> None:
    """No method, None and auto give the same answer, among the parameters of msign too."""
    expected = _evaluated("msign", {}, torch.float32)

    for found in (_evaluated("msign", {}, torch.float32, **named), _evaluated("msign", named, torch.float32)):
        assert found.certificates == expected.certificates
