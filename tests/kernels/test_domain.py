"""What lies outside a function's domain is refused in words, and what lies at its edge has a defined answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch

from evaluating import EPS, Array, answer, parsed
from matfn_kernels.contract.functions import ENTRIES, FUNCTIONS
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.contract.schema import VERIFY, VJP
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.validation import Limits, parse_call
from matfn_kernels.reference import power, relative_error
from matfn_kernels.running.evaluation import batch_of, evaluate, settle
from matfn_kernels.running.plan import make_plan
from spectra import orthogonal, positive, rectangular
from verified_cases import INPUTS

if TYPE_CHECKING:
    from collections.abc import Callable

EYE = np.eye(3)
LOWER = np.tril(np.ones((3, 3)))


def _rejected(function: str, inputs: dict[str, Any], **keywords: object) -> Rejection:
    with pytest.raises(Rejection) as caught:
        answer(function, inputs, **keywords)
    return caught.value


@pytest.mark.parametrize(
    ("function", "inputs", "keywords", "code"),
    [
        ("inv_root", {"a": np.zeros((3, 4))}, {"r": 2}, "invalid_shape"),
        ("inv_root", {"a": np.zeros(3)}, {"r": 2}, "invalid_shape"),
        ("root", {"a": EYE, "g": np.ones((2, 4))}, {"r": 2}, "invalid_shape"),
        ("tri_solve", {"t": LOWER, "b": np.ones((4, 1))}, {}, "invalid_shape"),
        ("root", {"a": np.ones((2, 3, 3)), "g": np.ones((5, 1, 3))}, {"r": 2}, "invalid_shape"),
        ("msign", {"m": np.ones((9000, 1))}, {}, "invalid_shape"),
        ("msign", {"m": np.ones((70000, 1, 1))}, {}, "invalid_shape"),
        ("msign", {"m": np.ones((70000, 0, 0))}, {}, "invalid_shape"),
        (
            "dplr_inv",
            {"diag": np.ones((100, 8000)), "q": np.ones((8000, 1)), "k": np.ones((8000, 1))},
            {},
            "invalid_shape",
        ),
        ("inv_root", {"a": EYE}, {}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 0}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 65}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2.5}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": True}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 10**400}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": -(10**4000)}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": math.inf}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2, "damping": 10**400}, "invalid_parameter"),
        ("delta_rule", {"q": EYE, "k": EYE, "v": EYE}, {"chunk": 10**309}, "invalid_parameter"),
        ("msign", {"m": EYE}, {"coefficients": [[10**400, 0, 0]]}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2, "q": 1}, "invalid_parameter"),
        ("inv_root", {"a": EYE, "z": EYE}, {"r": 2}, "invalid_parameter"),
        ("inv_root", {}, {"r": 2}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2, "structure": "banded"}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2, "damping": -1e-3}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2, "damping": float("nan")}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2, "damping": "some"}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2, "tol": 1e-17}, "invalid_parameter"),
        ("inv_root", {"a": EYE}, {"r": 2, "precision": "fp16"}, "invalid_parameter"),
        ("mclip", {"m": EYE}, {"lo": 2.0, "hi": 1.0}, "invalid_parameter"),
        ("mclip", {"m": EYE}, {"lo": -1.0}, "invalid_parameter"),
        ("mclip", {"m": EYE}, {"hi": float("inf")}, "invalid_parameter"),
        ("msign", {"m": EYE}, {"method": "magic"}, "invalid_parameter"),
        ("msign", {"m": EYE}, {"method": "svd", "steps": 3}, "invalid_parameter"),
        ("msign", {"m": EYE}, {"coefficients": []}, "invalid_parameter"),
        ("msign", {"m": EYE}, {"coefficients": [(1, 2)]}, "invalid_parameter"),
        ("msign", {"m": EYE}, {"coefficients": [(1, 2, float("inf"))]}, "invalid_parameter"),
        ("tri_inv", {"t": LOWER}, {"precision": "bf16"}, "invalid_parameter"),
        ("delta_rule", {"q": EYE, "k": EYE, "v": EYE.astype(complex)}, {}, "unsupported_dtype"),
        ("inv_root", {"a": EYE.astype(np.int64)}, {"r": 2}, "unsupported_dtype"),
        ("root", {"a": EYE, "g": EYE.astype(np.int64)}, {"r": 2}, "unsupported_dtype"),
        ("inv_root", {"a": np.full((3, 3), np.nan)}, {"r": 2}, "not_finite"),
        ("mclip", {"m": np.full((3, 3), np.inf)}, {}, "not_finite"),
        ("inv_root", {"a": LOWER}, {"r": 2}, "not_symmetric"),
        ("root", {"a": np.diag([1.0, -1.0])}, {"r": 2}, "not_positive"),
        ("root", {"a": -EYE}, {"r": 2}, "not_positive"),
        ("inv_root", {"a": np.zeros((3, 3))}, {"r": 2}, "singular"),
        ("sqrt_pair", {"a": np.zeros((3, 3))}, {}, "singular"),
        ("inv_root", {"a": np.diag([1.0, 0.0])}, {"r": 2, "damping": 0.0}, "singular"),
        ("tri_inv", {"t": np.diag([1.0, 0.0])}, {}, "singular"),
        ("dplr_solve", {"diag": np.zeros(2), "q": EYE[:2], "k": EYE[:2], "b": EYE[:2]}, {}, "singular"),
        ("inv_root", {"a": positive(40, condition=1e15)[0]}, {"r": 1, "tol": 1e-12}, "not_converged"),
        ("no_such", {"a": EYE}, {}, "unknown_function"),
    ],
)
def test_refusals_name_their_code(function: str, inputs: dict[str, Array], keywords: dict[str, Any], code: str) -> None:
    """Each kind of bad input has its own code and says what was given."""
    rejection = _rejected(function, inputs, **keywords)

    assert rejection.code == code
    assert len(rejection.detail) > 10


@pytest.mark.parametrize(
    ("function", "names", "keywords"),
    [
        ("root", ("a", "g"), {"r": 2}),
        ("tri_solve", ("t", "b"), {}),
        ("geometric_mean", ("a", "b"), {}),
        ("vjp/inv_root", ("x", "a"), {"r": 2}),
    ],
)
@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float64),
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float16, torch.float64, torch.float64),
    ],
)
def test_inputs_of_several_dtypes_are_promoted(
    function: str,
    names: tuple[str, str],
    keywords: dict[str, Any],
    first: torch.dtype,
    second: torch.dtype,
    common: torch.dtype,
) -> None:
    """The answer has the dtype that holds the numbers of all inputs, and the bits of inputs that were cast to it."""
    values = positive(5), np.eye(5)[None]
    given = [torch.from_numpy(x).to(dtype) for x, dtype in zip(values, (first, second), strict=True)]
    mixed = dict(zip(names, given, strict=True))
    cast = {name: x.to(common) for name, x in mixed.items()}

    calls = [parse_call(function, inputs, keywords, {}, Limits()) for inputs in (mixed, cast)]

    assert [call.dtype for call in calls] == [common, common]
    for name in names:
        assert torch.equal(calls[0].inputs[name], calls[1].inputs[name])
    assert make_plan(calls[0], Profile.nominal()) == make_plan(calls[1], Profile.nominal())


@pytest.mark.parametrize("dimensions", [31, 33, 61, 62])
@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        ("msign", {"m": (EYE, 2)}),
        ("tri_solve", {"t": (LOWER, 2), "b": (np.ones((3, 1)), 1)}),
        ("frechet_distance", {"mu1": (np.ones(3), 2), "s1": (EYE, 2), "mu2": (np.zeros(3), 1), "s2": (EYE, 1)}),
    ],
)
def test_many_leading_dimensions_broadcast(
    function: str, inputs: dict[str, tuple[Array, int]], dimensions: int
) -> None:
    """Inputs of up to 64 dimensions have the answer of the same inputs with few."""
    few = {name: np.stack([x] * items) for name, (x, items) in inputs.items()}
    many = {name: x.reshape(len(x), *[1] * (dimensions - 1), *x.shape[1:]) for name, x in few.items()}

    exact, found = answer(function, few), answer(function, many)

    assert parsed(function, many, {}).lead == (2, *[1] * (dimensions - 1))
    assert found.certificates == exact.certificates
    assert [x.tobytes() for x in found.outputs] == [x.tobytes() for x in exact.outputs]


@pytest.mark.parametrize("dimensions", [2, 40])
def test_leading_dimensions_that_do_not_broadcast_are_told(dimensions: int) -> None:
    """The rejection names the inputs and their leading dimensions."""
    ones = [1] * dimensions
    rejection = _rejected("tri_solve", {"t": np.ones((2, *ones, 3, 3)), "b": np.ones((3, *ones, 3, 1))})

    assert rejection.code == "invalid_shape"
    assert "do not broadcast" in rejection.detail


@pytest.mark.parametrize(
    ("function", "inputs", "keywords", "name"),
    [
        ("inv_root", {"a": np.zeros((3, 4))}, {"r": 2}, "a"),
        ("solve_sylvester", {"a": EYE, "b": np.zeros((5, 2, 1)), "q": np.zeros((3, 2))}, {}, "b"),
        ("tri_solve", {"t": np.zeros((0, 2)), "b": np.zeros((2, 2))}, {}, "t"),
        ("frechet_distance", {"mu1": np.ones(3), "s1": np.zeros((4, 3)), "mu2": np.ones(3), "s2": EYE}, {}, "s1"),
    ],
)
def test_a_matrix_that_is_not_square_is_told_so(
    function: str, inputs: dict[str, Array], keywords: dict[str, Any], name: str
) -> None:
    """The detail has the shape that was given, the hint the one that is allowed."""
    rejection = _rejected(function, inputs, **keywords)

    assert rejection.code == "invalid_shape"
    assert rejection.detail.startswith(f"{name} has shape {inputs[name].shape}; its last two sizes must be equal")
    assert rejection.hint is not None
    assert rejection.hint.startswith(f"{name} must be (*, ")


def _with(inputs: dict[str, Array], name: str, change: Callable[[Array], Array]) -> dict[str, Array]:
    """Two matrices of each input, the second of one input changed."""
    stacks = {key: np.stack([x, x]).astype(float) for key, x in inputs.items()}
    stacks[name][1] = change(stacks[name][1])
    return stacks


def _with_entry(number: float) -> Callable[[Array], Array]:
    """Changes the first entry."""

    def change(x: Array) -> Array:
        out = np.array(x)
        out.flat[0] = number
        return out

    return change


FORWARD: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    **INPUTS,
    "mcsgn": ({"a": EYE}, {}),
    "spectral_projector": ({"a": EYE}, {}),
    "geometric_mean": ({"a": EYE, "b": EYE}, {}),
    "eigh": ({"a": EYE}, {}),
    "norm2": ({"m": EYE}, {}),
    "cond": ({"m": EYE}, {}),
    "eigenbasis": ({"a": EYE, "q": EYE}, {}),
    "frechet_distance": ({"mu1": np.ones(3), "s1": EYE, "mu2": np.ones(3), "s2": EYE}, {}),
    "delta_rule": (
        {"q": EYE, "k": EYE, "v": EYE, "beta": np.ones(3), "log_gate": -np.ones(3), "initial_state": EYE},
        {},
    ),
    "max_logit": ({"q": EYE[None], "k": EYE[None]}, {}),
    "qk_clip": ({"w_q": EYE[None], "w_k": EYE[None], "max_logit": np.ones(1)}, {}),
}


def _beside(prefix: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Calls of the entries with a prefix: the outputs of the function, as claims or cotangents, beside its inputs."""
    found = {}
    for name, (inputs, keywords) in FORWARD.items():
        if prefix + name in ENTRIES:
            outputs = dict(zip(FUNCTIONS[name].outputs, answer(name, inputs, **keywords).outputs, strict=True))
            found[prefix + name] = ({**outputs, **inputs}, keywords)
    return found


CALLS: Final = {**_beside(VERIFY), **FORWARD, **_beside(VJP)}


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize(("function", "name"), [(f, name) for f, (inputs, _) in CALLS.items() for name in inputs])
def test_refusal_of_what_is_not_finite_names_the_input(function: str, name: str, number: float) -> None:
    """Of all inputs, claims and cotangents among them, the one that holds NaN or infinity is named with the matrix."""
    inputs, keywords = CALLS[function]

    rejection = _rejected(function, _with(inputs, name, _with_entry(number)), **keywords)

    assert (rejection.code, rejection.index) == ("not_finite", 1)
    assert rejection.detail == f"matrix 1 of {name} holds NaN or infinity"


def test_every_input_is_asked_for_finiteness() -> None:
    """The calls have every function, verification and vector-Jacobian product, and every input that is not optional."""
    assert set(CALLS) == set(ENTRIES)
    assert all(entry.optional or entry.name in CALLS[name][0] for name in ENTRIES for entry in ENTRIES[name].inputs)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (function, entry.name)
        for function in CALLS
        for entry in ENTRIES[function].inputs
        if entry.symmetric and entry.name in CALLS[function][0]
    ],
)
def test_refusal_of_what_is_not_symmetric_names_the_input(function: str, name: str) -> None:
    """The input that is not symmetric is named with the matrix."""
    inputs, keywords = CALLS[function]

    rejection = _rejected(function, _with(inputs, name, lambda x: x + np.triu(np.ones_like(x), 1)), **keywords)

    assert (rejection.code, rejection.index) == ("not_symmetric", 1)
    assert rejection.detail.startswith(f"matrix 1 of {name}:")


def test_several_flaws_name_the_first_input() -> None:
    """Where several inputs are not finite, the first is named."""
    nan = np.full((3, 3), np.nan)

    assert "of x " in _rejected("verify/root", {"x": nan, "a": nan}, r=2).detail
    assert "of a " in _rejected("verify/root", {"x": EYE, "a": nan}, r=2).detail


@pytest.mark.parametrize(
    ("function", "inputs", "words"),
    [
        ("tri_inv", {"t": np.diag([1.0, 0.0])}, "matrix 0 of t has a zero on its diagonal"),
        ("dplr_inv", {"diag": np.zeros(2), "q": EYE[:2], "k": EYE[:2]}, "matrix 0 of diag has a zero"),
        ("tri_solve", {"t": np.ones((2, 3, 3)), "b": np.ones((5, 3, 1))}, "(t: (2,), b: (5,))"),
        ("delta_rule", {"q": EYE, "k": EYE, "v": EYE.astype(complex)}, "v has complex128"),
        ("tri_solve", {"t": LOWER, "b": EYE.astype(np.int64)}, "b has torch.int64"),
        ("tri_solve", {"t": LOWER, "b": np.ones((4, 1))}, "b has shape (4, 1)"),
        ("tri_solve", {"t": LOWER, "b": np.ones(3)}, "b has shape (3,)"),
    ],
)
def test_refusals_name_the_input(function: str, inputs: dict[str, Array], words: str) -> None:
    """Of several inputs the one at fault is named."""
    assert words in _rejected(function, inputs).detail


def test_refusal_names_the_matrix() -> None:
    """The index of the first offender comes with the refusal."""
    a = np.stack([EYE, EYE, -EYE, -EYE])

    assert _rejected("root", {"a": a}, r=2).index == 2


def test_failed_matrix_becomes_nan_on_request() -> None:
    """With on_failure="nan" the others are answered and the failed ones carry their code."""
    a = np.stack([EYE, -EYE, np.full((3, 3), np.nan), LOWER, np.zeros((3, 3))])

    found = answer("inv_root", {"a": a}, r=2, on_failure="nan")

    assert [c.code for c in found.certificates] == [None, "not_positive", "not_finite", "not_symmetric", "singular"]
    np.testing.assert_allclose(found.outputs[0][0], EYE, rtol=1e-14)
    assert np.isnan(found.outputs[0][1:]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_default_damping_lifts_the_smallest_eigenvalue(dtype: str) -> None:
    """A matrix with a rounding-negative eigenvalue is shifted so that the smallest becomes 8 eps of the largest."""
    eps = EPS[dtype]
    q = orthogonal(np.random.default_rng(0), 20, 20)
    values = np.linspace(0.5, 2.0, 20)
    values[0] = -3e-8 * 2 if dtype == "float32" else 0.0
    a = ((q * values) @ q.T).astype(dtype)
    a = (a + a.T) / 2
    exact = np.linalg.eigvalsh(a.astype(np.float64))

    found = answer("inv_root", {"a": a}, r=4)

    certificate = found.certificates[0]
    assert certificate.shift == pytest.approx(8 * eps * exact[-1] - exact[0], rel=0.01 if dtype == "float32" else 1.0)
    assert certificate.damping == pytest.approx(certificate.shift / exact[-1], rel=1e-6)
    assert certificate.outcome == "approximate"
    if dtype == "float32":
        assert relative_error(found.outputs[0], power(a, -0.25, certificate.shift)) < 1e-6


@pytest.mark.parametrize("condition", [1e2, 1e6])
def test_positive_definite_matrices_are_not_damped(condition: float) -> None:
    """Nothing is added to a matrix that is positive definite in its dtype."""
    found = answer("inv_root", {"a": positive(64, condition=condition).astype("float32")}, r=2)

    assert found.certificates[0].shift == 0.0
    assert found.certificates[0].outcome == "converged"


def test_explicit_damping_is_added() -> None:
    """damping=d answers for A + d lambda_max I and says so."""
    a = positive(20, condition=1e8)

    found = answer("inv_root", {"a": a}, r=2, damping=1e-3)

    assert found.certificates[0].shift == pytest.approx(1e-3, rel=0.01)
    assert relative_error(found.outputs[0], power(a, -0.5, found.certificates[0].shift)).max() < 1e-12
    assert found.certificates[0].outcome == "converged"


def _hankel_gram() -> Array:
    """Of [[1, 2, 3], [2, 3, 4], [3, 4, 5]]: singular, its null vector (1, -2, 1) / sqrt 6 known exactly."""
    hankel = np.arange(3)[:, None] + np.arange(1.0, 4)
    return np.asarray(hankel @ hankel)


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float64", "auto"), ("float64", "fp32"), ("float32", "auto"), ("float32", "fp32")]
)
@pytest.mark.parametrize("r", [1, 2, 16])
@pytest.mark.parametrize("damping", [1e-8, 1e-18])
def test_damping_below_rounding_is_the_smallest_eigenvalue(damping: float, r: int, precision: str, dtype: str) -> None:
    """A semidefinite matrix plus shift I has no eigenvalue below the shift, whatever eigh makes of them."""
    found = answer("inv_root", {"a": _hankel_gram().astype(dtype)}, r=r, damping=damping, precision=precision)

    certificate, null = found.certificates[0], np.array([1.0, -2, 1]) / np.sqrt(6)
    below_rounding = damping < 1e-15 or precision == "fp32"
    assert null @ found.outputs[0] @ null == pytest.approx(certificate.shift ** (-1 / r), rel=0.01)
    assert certificate.condition == pytest.approx(1 / damping, rel=0.01)
    assert certificate.outcome == ("approximate" if below_rounding else "converged")
    assert (certificate.error_estimate is None) == below_rounding
    assert ("not positive definite beyond rounding" in (certificate.hint or "")) == below_rounding


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("r", [1, 4])
def test_the_sign_of_a_rounded_eigenvalue_does_not_matter(sign: int, r: int) -> None:
    """Below rounding an eigenvalue counts as 0 before the shift, on whichever side of it a library left it."""
    found = answer("inv_root", {"a": np.diag([1.0, 0.5, sign * 1e-16])}, r=r, damping=1e-18)

    certificate = found.certificates[0]
    assert found.outputs[0][2, 2] == pytest.approx(certificate.shift ** (-1 / r), rel=1e-9)
    assert certificate.error_estimate is None


def test_damping_below_rounding_in_bf16() -> None:
    """An answer by an iteration is no larger than the shift allows either, and has no estimate."""
    found = answer("inv_root", {"a": _hankel_gram().astype("float32")}, r=2, damping=1e-8, precision="bf16")

    assert np.linalg.norm(found.outputs[0], 2) <= found.certificates[0].shift ** -0.5
    assert found.certificates[0].outcome == "approximate"
    assert found.certificates[0].error_estimate is None


@pytest.mark.parametrize("bottom", [-2e-9, -1e-9, -5e-10])
def test_damping_of_a_slightly_negative_matrix(bottom: float) -> None:
    """An eigenvalue that the shift makes positive is answered for; one that it does not counts as 0 before it."""
    a = np.stack([np.diag([1.0, bottom]), np.diag([1.0, 0.5])])

    found = answer("sqrt_pair", {"a": a}, damping=1e-9)

    lifted = bottom + 1e-9 if bottom > -1e-9 else 1e-9
    assert found.outputs[1][0, 1, 1] == pytest.approx(lifted**-0.5)
    assert found.certificates[0].condition == pytest.approx(1 / lifted)
    assert (found.certificates[0].error_estimate is None) == (bottom <= -1e-9)
    assert found.certificates[1].outcome == "converged"


def test_range_damping_is_the_pseudo_inverse_power() -> None:
    """damping="range" answers 0 on the null space and the power elsewhere."""
    q = orthogonal(np.random.default_rng(0), 20, 12)
    values = np.linspace(1, 3, 12)
    a = (q * values) @ q.T

    found = answer("inv_root", {"a": a}, r=2, damping="range")

    assert relative_error(found.outputs[0], (q * values**-0.5) @ q.T) < 1e-13
    assert found.certificates[0].rank == 12
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1e35, "float32"), (1e-35, "float32"), (1e300, "float64"), (1e-300, "float64")]
)
@pytest.mark.parametrize("function", ["root", "inv_root", "msign", "mclip"])
def test_scale_costs_no_accuracy(function: str, scale: float, dtype: str) -> None:
    """Matrices near the dtype's limits have the same relative error as those near 1."""
    a = positive(20, condition=1e2).astype(dtype)
    big = (a * np.asarray(scale, dtype)).astype(dtype)
    keywords: dict[str, Any] = {"r": 4} if "root" in function else {}
    if function == "mclip":
        keywords = {"hi": 0.5 * scale}
    name = "a" if "root" in function else "m"

    found = answer(function, {name: big}, **keywords)

    w, v = np.linalg.eigh(big[0].astype(np.float64) / scale)
    factor = {"root": scale**0.25, "inv_root": scale**-0.25, "msign": 1.0, "mclip": scale}[function]
    image = {"root": w**0.25, "inv_root": w**-0.25, "msign": np.ones_like(w), "mclip": np.minimum(w, 0.5)}[function]
    expected = (v * image) @ v.T
    assert relative_error(found.outputs[0][0].astype(np.float64) / factor, expected) < 200 * EPS[dtype]


@pytest.mark.parametrize("rank", [1, 5, 16])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_polar_factor_is_zero_off_the_range(rank: int, dtype: str) -> None:
    """A matrix of low rank has the partial isometry on its range as polar factor, and its rank is reported."""
    rng = np.random.default_rng(rank)
    m = (rng.standard_normal((40, rank)) @ rng.standard_normal((rank, 30))).astype(dtype)

    found = answer("msign", {"m": m})

    assert found.certificates[0].rank == rank
    assert np.linalg.matrix_rank(found.outputs[0], tol=0.5) == rank
    assert np.linalg.norm(found.outputs[0]) == pytest.approx(np.sqrt(rank), rel=1e-5)


def test_lower_clip_acts_on_the_range_only() -> None:
    """A lower bound lifts small singular values and leaves the null space alone."""
    u, v = orthogonal(np.random.default_rng(0), 12, 3), orthogonal(np.random.default_rng(1), 8, 3)
    m = (u * [2.0, 0.5, 0.01]) @ v.T

    found = answer("mclip", {"m": m}, lo=0.1, hi=1.0)

    assert relative_error(found.outputs[0], (u * [1.0, 0.5, 0.1]) @ v.T) < 1e-12


@pytest.mark.parametrize(
    ("function", "inputs", "keywords", "shapes"),
    [
        ("inv_root", {"a": np.zeros((0, 3, 3))}, {"r": 2}, [(0, 3, 3)]),
        ("inv_root", {"a": np.zeros((2, 0, 0))}, {"r": 2}, [(2, 0, 0)]),
        ("sqrt_pair", {"a": np.zeros((2, 0, 0))}, {}, [(2, 0, 0), (2, 0, 0)]),
        ("msign", {"m": np.zeros((2, 0, 3))}, {}, [(2, 0, 3)]),
        ("tri_inv", {"t": np.zeros((0, 0))}, {}, [(0, 0)]),
        ("tri_inv", {"t": np.zeros((2, 0, 0), np.float32)}, {"unit_diagonal": True}, [(2, 0, 0)]),
        ("tri_solve", {"t": np.zeros((2, 0, 0)), "b": np.zeros((0, 3))}, {"lower": False}, [(2, 0, 3)]),
        ("verify/tri_inv", {"x": np.zeros((0, 0)), "t": np.zeros((0, 0))}, {}, []),
        ("tri_solve", {"t": LOWER, "b": np.zeros((3, 0))}, {}, [(3, 0)]),
        ("tri_inv", {"t": np.zeros((2, 0, 0))}, {}, [(2, 0, 0)]),
        ("dplr_inv", {"diag": np.zeros((4, 0)), "q": np.zeros((4, 0, 2)), "k": np.zeros((4, 0, 2))}, {}, [(4, 0, 0)]),
        ("root", {"a": np.zeros((0, 0)), "g": np.zeros((5, 0))}, {"r": 3}, [(5, 0)]),
    ],
)
def test_empty_matrices_have_empty_answers(
    function: str, inputs: dict[str, Array], keywords: dict[str, Any], shapes: list[tuple[int, ...]]
) -> None:
    """A dimension of zero is no error."""
    found = answer(function, inputs, **keywords)

    assert [output.shape for output in found.outputs] == shapes


def test_zero_rank_generators_leave_the_diagonal() -> None:
    """With d = 0 the matrix is its diagonal."""
    found = answer("dplr_inv", {"diag": np.array([2.0, 4.0]), "q": np.zeros((2, 0)), "k": np.zeros((2, 0))})

    np.testing.assert_allclose(found.outputs[0], np.diag([0.5, 0.25]))


def test_one_by_one_matrices_are_scalars() -> None:
    """Order 1 follows the scalar function."""
    assert answer("inv_root", {"a": np.array([[16.0]])}, r=4).outputs[0] == pytest.approx(0.5)
    assert answer("msign", {"m": np.array([[-3.0]])}).outputs[0] == pytest.approx(-1)
    assert answer("mclip", {"m": np.array([[-3.0]])}).outputs[0] == pytest.approx(-1)
    assert answer("tri_inv", {"t": np.array([[4.0]])}).outputs[0] == pytest.approx(0.25)


def test_zero_matrices_have_zero_answers() -> None:
    """The root, the polar factor and the clipping of zero are zero."""
    zero = np.zeros((3, 3))

    for found in (answer("root", {"a": zero}, r=2), answer("msign", {"m": zero}), answer("mclip", {"m": zero}, lo=0.5)):
        assert not found.outputs[0].any()
        assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("function", ["tri_inv", "tri_solve"])
@pytest.mark.parametrize("lower", [True, False])
def test_other_triangle_is_never_read(function: str, *, lower: bool) -> None:
    """NaN in the other triangle, and on a unit diagonal, changes nothing."""
    t = np.tril(np.ones((40, 40))) if lower else np.triu(np.ones((40, 40)))
    np.fill_diagonal(t, np.nan)
    spoilt = t + np.where(t == 0, np.nan, 0)
    inputs = {"b": np.eye(40)[:, :2]} if function == "tri_solve" else {}

    clean = answer(function, {"t": t, **inputs}, lower=lower, unit_diagonal=True)
    dirty = answer(function, {"t": spoilt, **inputs}, lower=lower, unit_diagonal=True)

    np.testing.assert_array_equal(clean.outputs[0], dirty.outputs[0])
    assert np.isfinite(clean.outputs[0]).all()


def test_identical_keys_keep_their_digits() -> None:
    """Identical keys with beta = 1 ruin products of powers; block recursion is exact on them."""
    t = np.tril(np.ones((128, 128), np.float32))
    exact = np.eye(128) - np.eye(128, k=-1)

    assert relative_error(answer("tri_inv", {"t": t}).outputs[0], exact) < 1e-6


def test_inputs_are_never_written() -> None:
    """No function changes what it was given."""
    inputs: dict[str, dict[str, torch.Tensor]] = {
        "inv_root": {"a": torch.as_tensor(positive(12)[0])},
        "msign": {"m": torch.as_tensor(rectangular((12, 8))[0])},
        "mclip": {"m": torch.as_tensor(rectangular((12, 8))[0])},
        "tri_inv": {"t": torch.as_tensor(LOWER)},
        "dplr_inv": {"diag": torch.ones(3), "q": torch.ones(3, 1), "k": torch.ones(3, 1)},
    }
    for function, tensors in inputs.items():
        before = {name: tensor.clone() for name, tensor in tensors.items()}

        answer(function, tensors, **({"r": 2} if "root" in function else {}))

        assert all(torch.equal(before[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("function", ["inv_root", "msign", "mclip", "tri_inv"])
def test_half_precision_keeps_its_dtype(function: str, dtype: torch.dtype) -> None:
    """Half-precision inputs give half-precision outputs as good as their dtype."""
    a = torch.as_tensor(positive(16, condition=4.0)[0]).to(dtype)
    name = {"inv_root": "a", "tri_inv": "t"}.get(function, "m")
    call: dict[str, Any] = {"r": 2} if function == "inv_root" else {}

    found = _torch_answer(function, {name: a}, call)

    assert found.dtype == dtype
    exact = _torch_answer(function, {name: a.to(torch.float64)}, call)
    error = torch.linalg.matrix_norm(found.to(torch.float64) - exact) / torch.linalg.matrix_norm(exact)
    assert error < 2 * torch.finfo(dtype).eps


def _torch_answer(function: str, inputs: dict[str, torch.Tensor], keywords: dict[str, Any]) -> torch.Tensor:
    call = parsed(function, inputs, keywords)
    return settle(call, evaluate(make_plan(call, Profile.nominal()).program, batch_of(call)))[0]


@pytest.mark.parametrize(
    ("function", "inputs", "column"),
    [
        ("tri_solve", {"t": LOWER, "b": np.ones(3)}, "(3, 1)"),
        ("dplr_solve", {"diag": np.ones(2), "q": np.ones((2, 1)), "k": np.ones((2, 1)), "b": np.ones(2)}, "(2, 1)"),
        ("msign", {"m": np.ones(4)}, "(4, 1)"),
    ],
)
def test_vector_is_told_to_be_a_column(function: str, inputs: dict[str, Array], column: str) -> None:
    """Where a rectangular matrix is wanted, the hint says how a vector is sent."""
    with pytest.raises(Rejection) as caught:
        parsed(function, inputs, {})

    assert (caught.value.code, column in str(caught.value.hint)) == ("invalid_shape", True)
