"""Vector-Jacobian products: right to their estimates wherever there is a derivative, and the same bits in any batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch

from differences import frechet, gradient, power
from evaluating import answer
from gradient_cases import CASES, HALF, RNG, Case, cotangent, power_case, symmetric
from honesty import assert_covered, certified_error, least_size
from matfn_kernels import ENTRIES, Outcome, Rejection
from matfn_kernels.reference import relative_error

if TYPE_CHECKING:
    from evaluating import Answer, Array


def _found(case: Case) -> tuple[Answer, dict[str, Array]]:
    """The answer, and the gradients in it by input."""
    entry = ENTRIES[f"vjp/{case.function}"]
    rank = {item.name: len(item.shape) for item in entry.inputs}
    named = zip(entry.cotangents, case.cotangents, strict=True)
    inputs = {**{name: x if rank[name] else x[0, 0] for name, x in named if x is not None}, **case.inputs}
    found = answer(f"vjp/{case.function}", inputs, **case.keywords)
    outputs = dict(zip(entry.outputs_of(inputs, {}), found.outputs, strict=True))
    return found, {name: outputs[name] for name in entry.gradients if name in case.inputs}


def _error(found: Answer, case: Case, name: str, gradient: Array, truth: Array) -> float:
    """Error of a gradient as certificates measure it."""
    sent = [x for x in case.cotangents if x is not None]
    outputs = [x for x, c in zip(found.outputs, case.cotangents, strict=False) if c is not None]
    return certified_error(gradient, truth, least_size(case.inputs[name], sent, outputs))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_is_the_derivative(case: Case) -> None:
    """Gradients agree with central differences in 60 digits as well as their estimates say, and closely."""
    found, gradients = _found(case)

    truths = {
        name: gradient(case.definition, case.inputs, case.cotangents, name, symmetric=name in case.symmetric)
        for name in gradients
    }
    assert_covered(max(_error(found, case, name, gradients[name], truths[name]) for name in truths), found.certificates)
    for name, truth in truths.items():
        assert float(relative_error(*map(np.atleast_2d, (gradients[name], truth)))) <= case.accuracy
    assert found.certificates[0].outcome is case.outcome


FLAT: Final = [case for case in CASES if all(x.ndim == 2 for x in case.inputs.values())]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_batch_changes_no_bit(case: Case, dtype: type) -> None:
    """Outputs, gradients and certificates of a matrix are the same bits alone and between others."""
    entry = ENTRIES[f"vjp/{case.function}"]
    if dtype is np.complex128 and not entry.complex_ok:
        dtype = np.float64
    names = [name for name, x in zip(entry.cotangents, case.cotangents, strict=True) if x is not None]
    given = {**dict(zip(names, [x for x in case.cotangents if x is not None], strict=True)), **case.inputs}
    rank = {item.name: len(item.shape) for item in entry.inputs}
    alone: dict[str, Array] = {name: (x if rank[name] else x[0, 0]).astype(dtype) for name, x in given.items()}
    if dtype is np.complex128:
        alone |= {name: alone[name] * (1 + 0.5j) for name in names}
    stack = {name: np.stack([2 * x, x, 3 * x if name in names else x]) for name, x in alone.items()}

    single, several = (answer(entry.name, inputs, on_failure="nan", **case.keywords) for inputs in (alone, stack))

    assert several.certificates[1] == single.certificates[0]
    for one, many in zip(single.outputs, several.outputs, strict=True):
        assert one.tobytes() == many[1].tobytes()


def _composed(function: str, inputs: dict[str, torch.Tensor], exponent: float) -> torch.Tensor:
    """The function by torch's own decompositions, which torch differentiates."""
    if function in {"msign", "mclip"}:
        u, sigma, vh = torch.linalg.svd(inputs["m"], full_matrices=False)
        values = torch.ones_like(sigma) if function == "msign" else sigma.clamp(0.3, 1.5)
        polar: torch.Tensor = (u * values.to(u.dtype)) @ vh
        return polar
    a = (inputs["a"] + inputs["a"].mH) / 2
    w, v = torch.linalg.eigh(a)
    f = w.clamp(-1, 1) if function == "eig_clip" else w**exponent
    x: torch.Tensor = (v * f.to(v.dtype)) @ v.mH
    return inputs["g"] @ x if "g" in inputs else x


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(
    ("function", "keywords", "exponent"),
    [
        ("root", {"r": 3, "s": 2}, 2 / 3),
        ("inv_root", {"r": 4}, -1 / 4),
        ("eig_clip", {"lo": -1.0, "hi": 1.0}, 0.0),
        ("msign", {}, 0.0),
        ("mclip", {"lo": 0.3, "hi": 1.5}, 0.0),
    ],
)
def test_gradient_is_that_of_torch(
    function: str, keywords: dict[str, Any], exponent: float, dtype: torch.dtype
) -> None:
    """Where eigenvalues are apart, gradients are those of torch through its decompositions, complex ones too."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    b = normal(5, 5)
    if function in {"msign", "mclip"}:
        inputs = {"m": b}
    else:
        inputs = {"a": b + b.mH if function == "eig_clip" else b @ b.mH + torch.eye(5)}
        inputs |= {} if function == "eig_clip" else {"g": normal(3, 5)}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    x = _composed(function, leaves, exponent)
    cotangent = normal(*x.shape)
    truth = torch.autograd.grad(x, list(leaves.values()), cotangent)

    found = answer(f"vjp/{function}", {"x": cotangent, **inputs}, **keywords)

    assert float(relative_error(found.outputs[0], x.detach().numpy())) < 1e-12
    for mine, theirs in zip(found.outputs[1:], truth, strict=True):
        assert float(relative_error(mine, theirs.numpy())) < 1e-11


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradient_of_an_exponential_without_symmetry_is_that_of_torch(dtype: torch.dtype) -> None:
    """At defective and at general matrices."""
    generator = torch.Generator().manual_seed(4)
    some = torch.randn((4, 4), generator=generator, dtype=dtype)
    for a in (some, torch.diag_embed(torch.ones(3, dtype=dtype), offset=1)):
        leaf = a.clone().requires_grad_()
        (truth,) = torch.autograd.grad(torch.linalg.matrix_exp(leaf), leaf, some)

        found = answer("vjp/exp", {"x": some, "a": a}, structure="general")

        assert float(relative_error(found.outputs[1], truth.numpy())) < 1e-13
        assert found.certificates[0].outcome is Outcome.CONVERGED


@pytest.mark.parametrize(
    ("function", "keywords"), [("root", {"r": 2}), ("sqrt_pair", {}), ("log", {}), ("exp", {}), ("power", {"p": -1.5})]
)
def test_both_structures_have_one_gradient(function: str, keywords: dict[str, Any]) -> None:
    """Of a symmetric matrix, whichever is declared, also at equal eigenvalues."""
    for a in (2 * np.eye(3), symmetric(0.5, 1.0, 3.0)):
        e = cotangent(3, 3)
        inputs = {"x": e + e.T, "a": a} | ({"y": np.eye(3)} if function == "sqrt_pair" else {})

        one, other = (answer(f"vjp/{function}", inputs, structure=s, **keywords) for s in ("symmetric", "general"))

        assert float(relative_error(one.outputs[-1], other.outputs[-1])) < 1e-13
        assert other.certificates[0].outcome is Outcome.CONVERGED


def test_value_on_a_bound_counts_as_inside() -> None:
    """A clip has no derivative on its bound; the gradient is that of the inside, and said to be approximate."""
    x = cotangent(3, 3)

    found = answer("vjp/eig_clip", {"x": x, "a": np.eye(3)}, hi=1.0)

    np.testing.assert_allclose(found.outputs[1], (x + x.T) / 2, atol=1e-15)
    assert found.certificates[0].outcome is Outcome.APPROXIMATE
    assert found.certificates[0].error_estimate is None
    assert "bound" in (found.certificates[0].hint or "")


def test_gradient_of_the_default_damping_holds_the_shift_constant() -> None:
    """A singular matrix that an inverse root damps has the gradient of A + shift I."""
    case = power_case("damped by default", symmetric(0.0, 1.0, 2.0), -HALF, keywords={"r": 2})
    found, gradients = _found(case)
    shift = found.certificates[0].shift
    shifted = power(-HALF, shift=shift)

    truth = gradient(lambda m: (shifted(m["a"]),), case.inputs, case.cotangents, "a", symmetric=True)

    assert shift > 0
    assert found.certificates[0].outcome is Outcome.APPROXIMATE
    assert_covered(_error(found, case, "a", gradients["a"], truth), found.certificates, estimated=range(2))


def test_distance_of_singular_covariances_has_the_gradient_of_features() -> None:
    """Covariances of few features have gradients that are right for the features, and are said to be approximate."""
    features, s2 = RNG.standard_normal((2, 3)), symmetric(1.0, 2.0, 3.0)
    means = {"mu1": np.zeros(3), "mu2": np.zeros(3)}

    found = answer("vjp/frechet_distance", {"x": np.array(1.0), "s1": features.T @ features, "s2": s2, **means})

    def of_features(m: Any) -> tuple[Any, ...]:
        return (frechet(m["mu1"], m["s2"], m["mu2"], m["x"].T * m["x"]),)

    truth = gradient(of_features, {"x": features, "s2": s2, **means}, (np.array([[1.0]]),), "x")
    assert float(relative_error(2 * features @ found.outputs[2], truth)) < 1e-12
    assert found.certificates[0].outcome is Outcome.APPROXIMATE
    assert "full rank" in (found.certificates[0].hint or "")


def test_distance_of_equal_gaussians_has_gradients_near_zero() -> None:
    """Where the distance is least its gradients vanish; their errors are relative to the parts that cancel."""
    s = symmetric(1.0, 2.0, 5.0)

    found = answer("vjp/frechet_distance", {"x": np.array(1.0), "mu1": np.ones(3), "s1": s, "mu2": np.ones(3), "s2": s})

    assert all(np.abs(gradient).max() < 1e-14 for gradient in found.outputs[1:])
    assert found.certificates[0].outcome is Outcome.CONVERGED


@pytest.mark.parametrize("structure", ["symmetric", "general"])
def test_zero_cotangent_has_zero_gradients(structure: str) -> None:
    """The gradient of nothing is exactly 0, with an estimate."""
    a, g = np.diag([1.0, 2.0, 3.0]), np.ones((1, 3))

    found = answer("vjp/inv_root", {"x": 0 * g, "a": a, "g": g}, r=2, structure=structure)

    assert not found.outputs[1].any()
    assert not found.outputs[2].any()
    assert found.certificates[0].outcome is Outcome.CONVERGED


_GENERAL: Final = {"r": 2, "structure": "general"}


@pytest.mark.parametrize(
    ("function", "inputs", "keywords", "code", "words"),
    [
        ("vjp/mcsgn", {"x": np.eye(2), "a": np.eye(2)}, {}, "unknown_function", "vjp/msign"),
        ("vjp/root", {"a": np.eye(2)}, {"r": 2}, "invalid_parameter", "needs the input 'x'"),
        ("vjp/sqrt_pair", {"a": np.eye(2)}, {}, "invalid_parameter", "cotangents: x, y"),
        ("vjp/msign", {"x": np.eye(3), "m": np.eye(2)}, {}, "invalid_shape", "x has shape (3, 3)"),
        ("vjp/msign", {"x": np.eye(2, dtype=np.int64), "m": np.eye(2)}, {}, "unsupported_dtype", "x has torch.int64"),
        ("vjp/root", {"x": np.eye(2), "a": [[0.0, 1], [-1, 0]]}, {"r": 2}, "not_symmetric", 'structure="general"'),
        ("vjp/root", {"x": np.eye(2), "a": -np.eye(2)}, _GENERAL, "not_positive", "no principal root"),
        ("vjp/root", {"x": np.ones((2, 2)), "a": np.diag([0.0, 1])}, _GENERAL, "singular", "no derivative"),
        ("vjp/root", {"x": np.eye(2), "a": np.eye(2)}, {"r": 2, "precision": "fp32"}, "invalid_parameter", "fp64"),
        ("vjp/root", {"x": np.eye(2), "a": np.zeros((2, 2))}, {"r": 2}, "singular", "no derivative"),
        ("vjp/msign", {"x": np.eye(2), "m": np.eye(2)}, {"steps": 3}, "invalid_parameter", "takes no 'steps'"),
    ],
)
def test_refusals_say_what_to_change(
    function: str, inputs: dict[str, Array], keywords: dict[str, Any], code: str, words: str
) -> None:
    """What has no gradient is refused with a code, what was given and what is allowed."""
    with pytest.raises(Rejection) as caught:
        answer(function, inputs, **keywords)

    assert caught.value.code == code
    assert words in f"{caught.value.detail} {caught.value.hint}"


@pytest.mark.parametrize("function", [name for name in ENTRIES if name.startswith("vjp/")])
def test_empty_matrices_have_empty_gradients(function: str) -> None:
    """Where some dimension is zero, gradients have the shapes of their inputs."""
    entry = ENTRIES[function]
    keywords = {p.name: 2 for p in entry.parameters if p.required}
    inputs = {item.name: np.zeros((2, *(0 for _ in item.shape))) for item in entry.inputs}

    found = answer(function, inputs, **keywords)

    shapes = [output.shape for output in found.outputs[len(entry.cotangents) :]]
    assert shapes == [inputs[name].shape for name in entry.gradients]
