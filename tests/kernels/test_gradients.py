"""Vector-Jacobian products: right to their estimates wherever there is a derivative, and the same bits in any batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import mpmath as mp
import numpy as np
import pytest
import torch

from differences import clip, frechet, gradient, mean, power, singular
from evaluating import answer
from honesty import assert_covered
from matfn_kernels import ENTRIES, Outcome, Rejection
from matfn_kernels.reference import relative_error
from spectra import orthogonal

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Answer, Array

RNG: Final = np.random.default_rng(7)


def _orthogonal(order: int) -> Array:
    return orthogonal(np.random.default_rng(order), order, order)


def _symmetric(*values: float) -> Array:
    """A symmetric matrix with these eigenvalues."""
    q = _orthogonal(len(values))
    found: Array = (q * np.array(values)) @ q.T
    return found


def _of_singular_values(rows: int, columns: int, *values: float) -> Array:
    u, v = _orthogonal(rows), _orthogonal(columns)
    found: Array = (u[:, : len(values)] * np.array(values)) @ v[:, : len(values)].T
    return found


def _one(sigma: Any) -> Any:
    """The function of singular values that a polar factor is."""
    return mp.mpf(1) if sigma else sigma


def _cotangent(*shape: int) -> Array:
    return RNG.standard_normal(shape)


@dataclass(frozen=True)
class Case:
    """A call of a vector-Jacobian product, and what it differentiates in 60 digits."""

    function: str
    inputs: dict[str, Array]
    cotangents: tuple[Array | None, ...]
    keywords: dict[str, Any]
    definition: Callable[[Any], tuple[Any, ...]]
    symmetric: tuple[str, ...] = ()
    accuracy: float = 1e-12
    outcome: Outcome = Outcome.CONVERGED
    label: str = field(default="")

    def __str__(self) -> str:
        return f"{self.function}-{self.label}"


def _power(label: str, a: Array, exponent: Any, *, g: Array | None = None, **more: Any) -> Case:
    keywords = more.pop("keywords")
    shape, rank, accuracy = more.pop("shift", 0.0), more.pop("rank", None), more.pop("accuracy", 1e-12)
    f, inverse = power(abs(exponent), shift=shape, rank=rank), power(-abs(exponent), shift=shape, rank=rank)
    chosen = inverse if exponent < 0 else f
    return Case(
        "inv_root" if exponent < 0 else "root",
        {"a": a} if g is None else {"a": a, "g": g},
        (_cotangent(*(a if g is None else g).shape),),
        keywords,
        (lambda m: (chosen(m["a"]),)) if g is None else (lambda m: (m["g"] * chosen(m["a"]),)),
        ("a",),
        accuracy,
        more.pop("outcome", Outcome.CONVERGED),
        label,
    )


def _pair(label: str, a: Array, *, x: bool, y: bool) -> Case:
    root, inverse = power(mp.mpf(1) / 2), power(-mp.mpf(1) / 2)
    cotangents = (_cotangent(*a.shape) if x else None, _cotangent(*a.shape) if y else None)
    return Case(
        "sqrt_pair", {"a": a}, cotangents, {}, lambda m: (root(m["a"]), inverse(m["a"])), ("a",), 1e-12, label=label
    )


def _singular(function: str, label: str, m: Array, f: Callable[[Any], Any], **more: Any) -> Case:
    mapped = singular(f, more.pop("rank", None))
    accuracy, outcome = more.pop("accuracy", 1e-12), more.pop("outcome", Outcome.CONVERGED)
    inputs, cotangents = {"m": m}, (_cotangent(*m.shape),)
    return Case(
        function, inputs, cotangents, more, lambda given: (mapped(given["m"]),), (), accuracy, outcome, label=label
    )


def _clip(label: str, a: Array, lo: float, hi: float) -> Case:
    clipped, bounds = clip(lo, hi), {"lo": lo, "hi": hi}
    keywords = {name: bound for name, bound in bounds.items() if np.isfinite(bound)}
    return Case(
        "eig_clip", {"a": a}, (_cotangent(*a.shape),), keywords, lambda m: (clipped(m["a"]),), ("a",), label=label
    )


def _solution(function: str, label: str, inputs: dict[str, Array], **more: Any) -> Case:
    """A case whose answer solves equations that mpmath solves."""
    solve, shape = more.pop("solve"), inputs["b" if "b" in inputs and function != "solve_sylvester" else "q"].shape
    accuracy = more.pop("accuracy", 1e-12)
    return Case(function, inputs, (_cotangent(*shape),), more, lambda m: (solve(m),), (), accuracy, label=label)


def _triangle(t: Any, *, lower: bool, unit: bool) -> Any:
    """The triangle of a matrix of mpmath that is read."""
    found = mp.zeros(t.rows, t.cols)
    for i, j in np.ndindex(t.rows, t.cols):
        if i == j:
            found[i, j] = 1 if unit else t[i, j]
        elif (j < i) is lower:
            found[i, j] = t[i, j]
    return found


def _triangular(label: str, t: Array, b: Array | None = None, **keywords: Any) -> Case:
    lower, unit = keywords.get("lower", True), keywords.get("unit_diagonal", False)

    def solve(m: Any) -> Any:
        read = _triangle(m["t"], lower=lower, unit=unit)
        inverse = (read.T if keywords.get("transpose") else read) ** -1
        return inverse if b is None else inverse * m["b"]

    if b is None:
        cotangents = (_cotangent(*t.shape),)
        return Case("tri_inv", {"t": t}, cotangents, keywords, lambda m: (solve(m),), (), 1e-12, label=label)
    return _solution("tri_solve", label, {"t": t, "b": b}, solve=solve, **keywords)


def _low_rank(label: str, diag: Array, q: Array, k: Array, b: Array, **keywords: Any) -> Case:
    def solve(m: Any) -> Any:
        t = _triangle(m["q"] * m["k"].T, lower=True, unit=False)
        for i in range(t.rows):
            t[i, i] = m["diag"][i]
        return (t.T if keywords.get("transpose") else t) ** -1 * m["b"]

    return _solution("dplr_solve", label, {"diag": diag, "q": q, "k": k, "b": b}, solve=solve, **keywords)


def _kronecker(left: Any, right: Any) -> Any:
    found = mp.zeros(left.rows * right.rows, left.cols * right.cols)
    for i, j in np.ndindex(left.rows, left.cols):
        for k, l in np.ndindex(right.rows, right.cols):
            found[i * right.rows + k, j * right.cols + l] = left[i, j] * right[k, l]
    return found


def _equation(m: Any) -> Any:
    """The solution of A X + X B = Q, B = A^T if there is none, by Kronecker products."""
    a, q = m["a"], m["q"]
    b = m.get("b", a.T)
    operator = _kronecker(a, mp.eye(b.rows)) + _kronecker(mp.eye(a.rows), b.T)
    flat = mp.lu_solve(operator, mp.matrix([q[i, j] for i in range(q.rows) for j in range(q.cols)]))
    return mp.matrix([[flat[i * q.cols + j] for j in range(q.cols)] for i in range(q.rows)])


def _mean(label: str, a: Array, b: Array, accuracy: float = 1e-12) -> Case:
    cotangents = (_cotangent(*a.shape),)
    definition: Callable[[Any], tuple[Any, ...]] = lambda m: (mean(m["a"], m["b"]),)  # noqa: E731
    return Case("geometric_mean", {"a": a, "b": b}, cotangents, {}, definition, ("a", "b"), accuracy, label=label)


def _distance(label: str, s1: Array, s2: Array) -> Case:
    order = len(s1)
    inputs = {"mu1": _cotangent(order), "s1": s1, "mu2": _cotangent(order), "s2": s2}
    definition: Callable[[Any], tuple[Any, ...]] = lambda m: (frechet(m["mu1"], m["s1"], m["mu2"], m["s2"]),)  # noqa: E731
    return Case("frechet_distance", inputs, (np.array([[1.5]]),), {}, definition, ("s1", "s2"), 1e-12, label=label)


WELL: Final = _symmetric(0.5, 1.0, 3.0)
REPEATED: Final = _symmetric(1.0, 1.0, 4.0)
CLOSE: Final = _symmetric(1.0, 1.0 + 1e-9, 2.0)
GRADED: Final = _symmetric(1e-6, 1e-3, 1.0)
SINGULAR: Final = _symmetric(0.0, 1.0, 2.0)
HALF, THIRD = mp.mpf(1) / 2, mp.mpf(1) / 3

CASES: Final = [
    _power("well", WELL, HALF, keywords={"r": 2}),
    _power("with g", WELL, mp.mpf(3) / 2, g=_cotangent(2, 3), keywords={"r": 2, "s": 3}),
    _power("identity", np.eye(3), THIRD, keywords={"r": 3}),
    _power("square of a singular matrix", SINGULAR, 2, keywords={"r": 1, "s": 2}),
    _power("close eigenvalues", CLOSE, mp.mpf(4) / 6, keywords={"r": 6, "s": 4}),
    _power("range", SINGULAR, HALF, rank=2, keywords={"r": 2, "damping": "range"}),
    _power("well", WELL, -mp.mpf(1) / 4, keywords={"r": 4}),
    _power("inverse", WELL, -1, keywords={"r": 1}),
    _power("identity, with g", np.eye(3), -HALF, g=_cotangent(5, 3), keywords={"r": 2}),
    _power("repeated", REPEATED, -HALF, keywords={"r": 2}),
    _power("graded", GRADED, -HALF, keywords={"r": 2}, accuracy=1e-9),
    _power("damped", SINGULAR, -mp.mpf(1) / 4, shift=0.25, keywords={"r": 4, "shift": 0.25}),
    _power("range", SINGULAR, -mp.mpf(1) / 4, rank=2, keywords={"r": 4, "damping": "range"}),
    _pair("both", WELL, x=True, y=True),
    _pair("the root alone, identity", np.eye(3), x=True, y=False),
    _pair("the inverse alone, repeated", REPEATED, x=False, y=True),
    _singular("msign", "square", _of_singular_values(3, 3, 3.0, 1.0, 0.4), _one),
    _singular("msign", "orthogonal", _orthogonal(3), _one),
    _singular("msign", "tall", _of_singular_values(4, 2, 1.0, 1.0), _one),
    _singular("msign", "wide", _of_singular_values(2, 3, 3.0, 0.1), _one),
    _singular("msign", "one tiny", _of_singular_values(3, 3, 2.0, 1.0, 1e-9), _one, accuracy=1e-5),
    _singular("msign", "tall, one tiny", _of_singular_values(3, 2, 2.0, 1e-7), _one, accuracy=1e-7),
    _singular("msign", "two tiny", _of_singular_values(3, 3, 2.0, 1e-6, 1e-6), _one, accuracy=1e-8),
    _singular("mclip", "square", _of_singular_values(3, 3, 3.0, 1.0, 0.4), lambda s: min(s, mp.mpf(1.5)), hi=1.5),
    _singular("mclip", "tall", _of_singular_values(3, 2, 3.0, 1.0), lambda s: min(s, mp.mpf(2)), hi=2.0),
    _singular(
        "mclip", "wide", _of_singular_values(2, 3, 3.0, 0.2), lambda s: min(max(s, mp.mpf(0.5)), 2), lo=0.5, hi=2.0
    ),
    _singular("mclip", "rank one", _of_singular_values(3, 2, 3.0), lambda s: min(s, mp.mpf(1)), hi=1.0),
    _clip("both sides", _symmetric(-2.0, 0.5, 3.0), -1.0, 1.0),
    _clip("repeated", _symmetric(-1.0, -1.0, 2.0), 0.0, np.inf),
    _clip("nothing", WELL, 0.0, 9.0),
    _triangular("lower", np.tril(_cotangent(3, 3)) + 2 * np.eye(3)),
    _triangular("upper, unit", _cotangent(3, 3), lower=False, unit_diagonal=True),
    _triangular("lower", np.tril(_cotangent(3, 3)) + 2 * np.eye(3), _cotangent(3, 2)),
    _triangular("upper, transposed", _cotangent(3, 3) + 2 * np.eye(3), _cotangent(3, 2), lower=False, transpose=True),
    _triangular("unit, transposed", _cotangent(3, 3), _cotangent(3, 1), unit_diagonal=True, transpose=True),
    _low_rank("plain", np.array([1.0, 2.0, 0.5]), _cotangent(3, 2), _cotangent(3, 2), _cotangent(3, 2)),
    _low_rank(
        "transposed", np.array([1.0, 2.0, 0.5]), _cotangent(3, 1), _cotangent(3, 1), _cotangent(3, 2), transpose=True
    ),
    _solution(
        "solve_sylvester",
        "rectangular",
        {"a": _cotangent(2, 2) + 3 * np.eye(2), "b": np.array([[4.0]]), "q": _cotangent(2, 1)},
        solve=_equation,
    ),
    _solution(
        "solve_lyapunov", "plain", {"a": _cotangent(2, 2) + 3 * np.eye(2), "q": _cotangent(2, 2)}, solve=_equation
    ),
    _solution("solve_lyapunov", "symmetric", {"a": _symmetric(1.0, 1.0), "q": np.eye(2)}, solve=_equation),
    _mean("plain", _symmetric(1.0, 3.0), _symmetric(0.2, 1.0) + np.array([[0.5, 0.3], [0.3, 0.5]])),
    _mean("of one matrix", _symmetric(1.0, 2.0), _symmetric(1.0, 2.0)),
    _mean("of identities", np.eye(2), np.eye(2)),
    _mean("ill-conditioned", _symmetric(1e-6, 1.0), np.array([[2.0, 0.5], [0.5, 1.0]]), 1e-8),
    _distance("plain", _symmetric(1.0, 3.0), np.array([[2.0, 0.5], [0.5, 1.0]])),
    _distance("identity", np.eye(2), _symmetric(1.0, 4.0)),
]


def _found(case: Case) -> tuple[Answer, dict[str, Array]]:
    """The answer, and the gradients in it by input."""
    entry = ENTRIES[f"vjp/{case.function}"]
    rank = {item.name: len(item.shape) for item in entry.inputs}
    named = zip(entry.cotangents, case.cotangents, strict=True)
    inputs = {**{name: x if rank[name] else x[0, 0] for name, x in named if x is not None}, **case.inputs}
    found = answer(f"vjp/{case.function}", inputs, **case.keywords)
    outputs = dict(zip(entry.outputs_of(inputs), found.outputs, strict=True))
    return found, {name: outputs[name] for name in entry.gradients if name in case.inputs}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_is_the_derivative(case: Case) -> None:
    """Gradients agree with central differences in 60 digits as well as their estimates say, and closely."""
    found, gradients = _found(case)

    truths = {
        name: gradient(case.definition, case.inputs, case.cotangents, name, symmetric=name in case.symmetric)
        for name in gradients
    }
    error = max(float(relative_error(*map(np.atleast_2d, (gradients[name], truths[name])))) for name in truths)
    assert_covered(error, found.certificates)
    assert error <= case.accuracy
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


def test_value_on_a_bound_counts_as_inside() -> None:
    """A clip has no derivative on its bound; the gradient is that of the inside, and said to be approximate."""
    x = _cotangent(3, 3)

    found = answer("vjp/eig_clip", {"x": x, "a": np.eye(3)}, hi=1.0)

    np.testing.assert_allclose(found.outputs[1], (x + x.T) / 2, atol=1e-15)
    assert found.certificates[0].outcome is Outcome.APPROXIMATE
    assert found.certificates[0].error_estimate is None
    assert "bound" in (found.certificates[0].hint or "")


def test_gradient_of_the_default_damping_holds_the_shift_constant() -> None:
    """A singular matrix that an inverse root damps has the gradient of A + shift I."""
    case = _power("damped by default", _symmetric(0.0, 1.0, 2.0), -HALF, keywords={"r": 2})
    found, gradients = _found(case)
    shift = found.certificates[0].shift
    shifted = power(-HALF, shift=shift)

    truth = gradient(lambda m: (shifted(m["a"]),), case.inputs, case.cotangents, "a", symmetric=True)

    assert shift > 0
    assert found.certificates[0].outcome is Outcome.APPROXIMATE
    assert_covered(float(relative_error(gradients["a"], truth)), found.certificates, estimated=range(2))


def test_distance_of_singular_covariances_has_the_gradient_of_features() -> None:
    """Covariances of few features have gradients that are right for the features, and are said to be approximate."""
    features, s2 = RNG.standard_normal((2, 3)), _symmetric(1.0, 2.0, 3.0)
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
    s = _symmetric(1.0, 2.0, 5.0)

    found = answer("vjp/frechet_distance", {"x": np.array(1.0), "mu1": np.ones(3), "s1": s, "mu2": np.ones(3), "s2": s})

    assert all(np.abs(gradient).max() < 1e-14 for gradient in found.outputs[1:])
    assert found.certificates[0].outcome is Outcome.CONVERGED


def test_zero_cotangent_has_zero_gradients() -> None:
    """The gradient of nothing is exactly 0, with an estimate."""
    found = answer("vjp/inv_root", {"x": np.zeros((3, 3)), "a": np.diag([1.0, 2.0, 3.0])}, r=2)

    assert not found.outputs[1].any()
    assert found.certificates[0].outcome is Outcome.CONVERGED


@pytest.mark.parametrize(
    ("function", "inputs", "keywords", "code", "words"),
    [
        ("vjp/polar", {"x": np.eye(2), "m": np.eye(2)}, {}, "unknown_function", "vjp/msign"),
        ("vjp/root", {"a": np.eye(2)}, {"r": 2}, "invalid_parameter", "needs the input 'x'"),
        ("vjp/sqrt_pair", {"a": np.eye(2)}, {}, "invalid_parameter", "cotangents: x, y"),
        ("vjp/msign", {"x": np.eye(3), "m": np.eye(2)}, {}, "invalid_shape", "x has shape (3, 3)"),
        ("vjp/msign", {"x": np.eye(2, dtype=np.float32), "m": np.eye(2)}, {}, "unsupported_dtype", "x: float32"),
        (
            "vjp/root",
            {"x": np.eye(2), "a": np.eye(2)},
            {"r": 2, "structure": "general"},
            "invalid_parameter",
            "symmetric",
        ),
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
