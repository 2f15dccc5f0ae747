"""Claimed answers: right ones of other libraries are accepted, and wrong ones are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import scipy.linalg
import torch

from evaluating import answer, parsed
from matfn_kernels import ENTRIES, FUNCTIONS, batch_of, evaluate, load_profile, make_plan, reference
from matfn_kernels.contract.certificate import Certificate, Outcome, Residual
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.programs.verification import Verification
from matfn_kernels.running.proving import proved
from verified_cases import INPUTS, general, named, spd, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.proofs import Bounds

    Array = NDArray[Any]

VERIFIED: Final = [entry for entry in ENTRIES.values() if entry.claims]


def right(function: str) -> tuple[tuple[Array, ...], dict[str, Array], dict[str, object]]:
    """A call with its answer by definition."""
    inputs, keywords = INPUTS[function]
    parameters = {item.name: item.default for item in FUNCTIONS[function].parameters} | keywords
    batch = {name: array[None] for name, array in inputs.items()}
    return tuple(value[0] for value in reference.value(function, batch, parameters)), inputs, keywords


def test_every_verification_has_a_case() -> None:
    """The cases cover all functions whose answers can be verified."""
    assert {entry.subject for entry in VERIFIED} == set(INPUTS)


@pytest.mark.parametrize("function", INPUTS)
def test_right_answers_are_accepted(function: str) -> None:
    """The answer by definition is converged, with an estimate."""
    claims, inputs, keywords = right(function)

    certificate = verified(function, claims, inputs, **keywords)

    assert certificate.outcome is Outcome.CONVERGED, certificate
    assert certificate.error_estimate is not None


@pytest.mark.parametrize("function", INPUTS)
@pytest.mark.parametrize("size", [1e-9, 1e-4, 1.0])
def test_estimate_covers_a_perturbation(function: str, size: float) -> None:
    """An answer that is off by a known amount is never said to be nearer than that, and is not converged."""
    claims, inputs, keywords = right(function)
    noise = np.random.default_rng(5).standard_normal(claims[0].shape)
    wrong = claims[0] + size * np.linalg.norm(claims[0]) / np.linalg.norm(noise) * noise

    certificate = verified(function, (wrong, *claims[1:]), inputs, **keywords)

    assert certificate.outcome is Outcome.APPROXIMATE
    assert certificate.error_estimate is None or certificate.error_estimate >= 0.99 * size


WRONG: Final[dict[str, Callable[[Array], Array]]] = {
    "sign": np.negative,
    "zero": np.zeros_like,
    "scaled": lambda x: 1.001 * x,
    "reversed": lambda x: x[..., ::-1],
}


@pytest.mark.parametrize("function", INPUTS)
@pytest.mark.parametrize("kind", WRONG)
def test_planted_errors_are_rejected(function: str, kind: str) -> None:
    """No answer with another sign, size or order of columns or values is converged."""
    claims, inputs, keywords = right(function)

    certificate = verified(function, (WRONG[kind](claims[0]).copy(), *claims[1:]), inputs, **keywords)

    assert certificate.outcome is Outcome.APPROXIMATE


@pytest.mark.parametrize("certify", ["estimate", "proved"])
@pytest.mark.parametrize("function", INPUTS)
def test_wrong_claims_are_measured_once(monkeypatch: pytest.MonkeyPatch, function: str, certify: str) -> None:
    """A claim that no better answer could accept takes one computation and one proof, and no fallback."""
    claims, inputs, keywords = right(function)
    kind = type(
        make_plan(parsed(f"verify/{function}", named(function, claims, inputs), keywords), load_profile()).program
    )
    runs: list[object] = []
    proofs: list[object] = []

    def counted(program: Any, given: Mapping[str, torch.Tensor]) -> Findings:
        runs.append(program)
        findings: Findings = honest(program, given)
        return findings

    def proved_too(*arguments: Any) -> Bounds | None:
        proofs.append(arguments)
        return proved(*arguments)

    honest = kind.run
    monkeypatch.setattr(kind, "run", counted)
    monkeypatch.setattr("matfn_kernels.running.evaluation.proved", proved_too)
    for wrong in (-claims[0], 0 * claims[0], (1 + 1e-4) * claims[0]):
        del runs[:], proofs[:]
        certificate = verified(function, (wrong, *claims[1:]), inputs, certify=certify, **keywords)

        assert certificate.outcome is Outcome.APPROXIMATE
        assert (len(runs), len(proofs)) == (1, 1)


@pytest.mark.parametrize(
    ("distance", "estimate", "bound", "is_rejected"),
    [
        (3e-6, 3.1e-6, None, True),
        (0.6e-6, 1.2e-6, None, False),
        (1e-9, 2e-6, None, False),
        (1.0, None, None, True),
        (None, None, None, False),
        (3e-6, 3.1e-6, 0.9e-6, False),
        (0.6e-6, 1.2e-6, 1.1e-6, True),
    ],
)
def test_claims_are_rejected_for_certain(
    distance: float | None, estimate: float | None, bound: float | None, *, is_rejected: bool
) -> None:
    """Only a distance that the error of the computed answer does not explain, or a bound, rejects a claim."""
    program = make_plan(parsed("verify/tri_inv", {"x": np.eye(3), "t": np.eye(3)}, {}), load_profile()).program
    residual = None if distance is None else Residual("distance", distance)
    certificate = Certificate(Outcome.APPROXIMATE, residual, estimate, 1.0, "any", "fp64", 0, error_bound=bound)

    assert isinstance(program, Verification)
    assert program.rejects(certificate, 1e-6) is is_rejected


def test_wrong_power_is_rejected() -> None:
    """A^(-1/2) sent for A^(-1/4) is not converged, though both are inverse roots."""
    a = spd(20, 100.0)

    certificate = verified("inv_root", (np.linalg.inv(scipy.linalg.sqrtm(a)).real,), {"a": a}, r=4)

    assert certificate.outcome is Outcome.APPROXIMATE
    assert certificate.code == "not_converged"


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_other_dtypes(dtype: type) -> None:
    """An answer by numpy is accepted in single precision and for complex matrices."""
    a: Array = spd(20, 50.0, dtype=np.complex128 if dtype is np.complex128 else np.float64).astype(dtype)
    w, v = np.linalg.eigh(a)

    certificate = verified("inv_root", ((v * w**-0.5) @ v.conj().T,), {"a": a}, r=2)

    assert certificate.outcome is Outcome.CONVERGED


def test_explicit_tolerance_that_is_missed_is_no_error() -> None:
    """The verdict on a claimed answer is its certificate, also where on_failure is raise."""
    a = spd(20, 100.0)
    w, v = np.linalg.eigh(a)

    certificate = verified("inv_root", ((v * w**-0.25) @ v.T,), {"a": a}, r=4, tol=1e-15)

    assert (certificate.outcome, certificate.code) == (Outcome.APPROXIMATE, "not_converged")


def test_claims_of_empty_sums_are_compared() -> None:
    """Without generators the answer is that of the diagonal, and any other claim is rejected."""
    inputs = {"diag": np.full(4, 2.0), "q": np.zeros((4, 0)), "k": np.zeros((4, 0)), "b": np.ones((4, 2))}

    found = [verified("dplr_solve", (claim,), inputs) for claim in (np.full((4, 2), 0.5), np.full((4, 2), 0.4))]

    assert [certificate.outcome for certificate in found] == [Outcome.CONVERGED, Outcome.APPROXIMATE]


@pytest.mark.parametrize(
    ("claim", "code"),
    [
        (np.ones((3, 4)), "invalid_shape"),
        (np.full((4, 4), np.nan), "not_finite"),
        (np.ones((4, 4), np.int64), "unsupported_dtype"),
    ],
)
def test_unfit_claims_are_refused(claim: Array, code: str) -> None:
    """A claim of another shape, of whole numbers, or one that is not finite, is refused like an input."""
    with pytest.raises(Rejection) as refused:
        verified("inv_root", (claim,), {"a": np.eye(4)}, r=2)

    assert refused.value.code == code


def test_claims_do_not_change_with_the_batch() -> None:
    """A claimed answer has the same certificate alone and beside others, right and wrong ones."""
    a = np.stack([spd(8, 100.0, seed) for seed in range(5)])
    x = np.stack([np.linalg.inv(scipy.linalg.sqrtm(one)).real for one in a])
    x[3] *= 1.1

    call = parsed("verify/inv_root", {"x": x, "a": a}, {"r": 2})
    plan = make_plan(call, load_profile())
    together = evaluate(plan.program, batch_of(call), plan.backends).certificates
    alone = tuple(verified("inv_root", (x[i],), {"a": a[i]}, r=2) for i in range(5))

    assert together == alone
    assert [one.outcome is Outcome.CONVERGED for one in together] == [True, True, True, False, True]


def test_larger_and_smaller_than_any_square() -> None:
    """Scales whose squares over- or underflow are compared as well."""
    for scale in (1e-300, 1e300):
        claims = (np.eye(3), scale * np.eye(3))
        assert verified("polar", claims, {"m": scale * np.eye(3)}).outcome is Outcome.CONVERGED
        assert verified("polar", (claims[0], 1.5 * claims[1]), {"m": scale * np.eye(3)}).outcome is Outcome.APPROXIMATE


@pytest.mark.parametrize(
    ("function", "claim", "inputs", "keywords"),
    [
        ("msign", [[1.5e308 * (1 + 1j)]], {"m": [[1 + 0j]]}, {}),
        ("msign", [[1.5e308 * (1 + 1j), 0], [0, 1]], {"m": [[1 + 0j, 0], [0, 1]]}, {}),
        ("eig_clip", [[1.4e308 * (1 + 1j)]], {"a": [[1 + 0j]]}, {"lo": 0.0}),
        ("root", [[0.0]], {"a": [[1e-290]]}, {"r": 1, "s": 3}),
        ("inv_root", [[0.0]], {"a": [[1e290]]}, {"r": 1, "s": 2}),
        ("solve_sylvester", [[0.0]], {"a": [[1e300]], "b": [[1e300]], "q": [[1e-300]]}, {}),
        ("solve_lyapunov", [[0.0]], {"a": [[1e300]], "q": [[1e-300]]}, {}),
        ("polar", [[1.0]], {"m": [[1e-300]], "y": [[0.0]]}, {}),
    ],
)
def test_claims_beyond_the_range_of_numbers_are_compared(
    function: str, claim: list[list[complex]], inputs: dict[str, list[list[complex]]], keywords: dict[str, object]
) -> None:
    """A claim whose modulus overflows, and a claim of 0 for a value that underflows, are rejected."""
    arrays = {name: np.array(array) for name, array in inputs.items()}
    claims = (np.array(claim), arrays.pop("y")) if "y" in arrays else (np.array(claim),)

    assert verified(function, claims, arrays, **keywords).outcome is Outcome.APPROXIMATE


@pytest.mark.parametrize("certify", ["estimate", "proved"])
@pytest.mark.parametrize(
    ("function", "claim", "inputs"),
    [
        ("inv_root", (0, 0), {"a": (0, 0)}),
        ("inv_root", (0, 2), {"a": (2, 2), "g": (0, 2)}),
        ("msign", (0, 3), {"m": (0, 3)}),
        ("msign", (3, 0), {"m": (3, 0)}),
        ("tri_solve", (2, 0), {"t": (2, 2), "b": (2, 0)}),
    ],
)
def test_empty_claims_are_right(
    function: str, claim: tuple[int, int], inputs: dict[str, tuple[int, int]], certify: str
) -> None:
    """A claim without entries is the answer."""
    arrays = {name: np.eye(*shape) for name, shape in inputs.items()}
    keywords: dict[str, object] = {"r": 2} if function == "inv_root" else {}

    assert verified(function, (np.zeros(claim),), arrays, certify=certify, **keywords).outcome is Outcome.CONVERGED


def test_wrong_claim_without_a_proof_is_not_converged() -> None:
    """The code tells a wrong claim, for which there is no proof, from a right answer that has none."""
    a = spd(6, 10.0)
    x = np.linalg.inv(scipy.linalg.sqrtm(a)).real

    wrong = verified("inv_root", (-x,), {"a": a}, r=2, certify="proved")
    unproved = verified("solve_lyapunov", right("solve_lyapunov")[0], INPUTS["solve_lyapunov"][0], certify="proved")

    assert (wrong.code, wrong.error_bound) == ("not_converged", None)
    assert (unproved.code, unproved.error_bound) == (None, None)


def test_verification_has_no_outputs() -> None:
    """Only certificates come back."""
    call = parsed("verify/tri_inv", {"x": np.eye(3), "t": np.eye(3)}, {})

    assert evaluate(make_plan(call, load_profile()).program, batch_of(call)).outputs == ()
    assert isinstance(call.inputs["x"], torch.Tensor)


def on_the_range(power: float, order: int, rank: int) -> tuple[Array, Array]:
    """A matrix of low rank, and its power that is 0 on the null space."""
    v = np.linalg.qr(general(order, rank))[0]
    w = np.geomspace(0.1, 1, rank)
    a = (v * w) @ v.T
    return (a + a.T) / 2, (v * w**power) @ v.T


@pytest.mark.parametrize("order", [12, 60])
@pytest.mark.parametrize("rank", [1, 6])
@pytest.mark.parametrize(
    ("function", "parameters", "powers"),
    [
        ("inv_root", {"r": 2}, (-1 / 2,)),
        ("inv_root", {"r": 4, "s": 3}, (-3 / 4,)),
        ("root", {"r": 3}, (1 / 3,)),
        ("sqrt_pair", {}, (1 / 2, -1 / 2)),
    ],
)
def test_claims_on_the_range_are_judged_by_the_range(
    function: str, parameters: dict[str, object], powers: tuple[float, ...], order: int, rank: int
) -> None:
    """A pseudo-inverse power has the tolerance of its own condition, not of an infinite one, claimed or computed."""
    a = on_the_range(1, order, rank)[0]
    claims = tuple(on_the_range(power, order, rank)[1] for power in powers)
    noise = general(order, order, 3)
    wrong = (claims[0] + 1e-4 * np.linalg.norm(claims[0]) / np.linalg.norm(noise) * noise, *claims[1:])
    keywords = {**parameters, "damping": "range"}

    accepted = verified(function, claims, {"a": a}, **keywords)
    rejected = verified(function, wrong, {"a": a}, **keywords)
    (computed,) = answer(function, {"a": a}, **keywords).certificates

    assert accepted.outcome is computed.outcome is Outcome.CONVERGED
    assert accepted.error_estimate is not None
    assert accepted.error_estimate < 1e-12
    assert accepted.condition == pytest.approx(computed.condition, rel=1e-12)
    assert computed.condition is not None
    assert computed.condition < 100
    assert (rejected.outcome, rejected.code) == (Outcome.APPROXIMATE, "not_converged")


def test_zero_matrix_on_the_range() -> None:
    """The power of a matrix without a range has the condition 1."""
    (certificate,) = answer("root", {"a": np.zeros((4, 4))}, r=2, damping="range").certificates

    assert certificate.condition == 1
