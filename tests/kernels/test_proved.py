"""Calls with certify="proved": the outcome rests on a proved bound of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from evaluating import answer
from matfn_kernels import FUNCTIONS, reference
from matfn_kernels.contract.certificate import Outcome
from verified_cases import INPUTS, spd, verified

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

UNPROVED: Final = [name for name in INPUTS if FUNCTIONS[name].verifiability == "estimate"]
"""Functions of which no proof is known."""
CASES: Final = {name: case for name, case in INPUTS.items() if name not in UNPROVED} | {
    "mclip": (INPUTS["mclip"][0], {"hi": 1.0})
}
"""Calls of every function whose error can be proved; of mclip only without a lower limit."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", CASES)
def test_bound_is_above_the_error_and_decides(function: str, dtype: type) -> None:
    """A well-conditioned answer is converged, and its bound is above the true error of each output."""
    given, keywords = CASES[function]
    inputs: dict[str, Array] = {name: array.astype(dtype) for name, array in given.items()}

    found = answer(function, inputs, certify="proved", **keywords)

    (certificate,) = found.certificates
    assert certificate.outcome is Outcome.CONVERGED, certificate
    assert certificate.error_bound is not None
    batch = {name: array[None] for name, array in inputs.items()}
    truth = reference.value(function, batch, keywords)
    errors = reference.errors(function, batch, [x[None] for x in found.outputs], truth)
    assert errors.item() <= certificate.error_bound + 1e-13


@pytest.mark.parametrize("function", UNPROVED)
def test_what_has_no_proof_is_approximate_and_says_why(function: str) -> None:
    """The estimate stays, the bound is None, and the hint has the reason."""
    inputs, keywords = INPUTS[function]

    (certificate,) = answer(function, inputs, certify="proved", **keywords).certificates

    assert (certificate.outcome, certificate.error_bound, certificate.code) == (Outcome.APPROXIMATE, None, None)
    assert certificate.error_estimate is not None
    assert "no proved bound" in (certificate.hint or "")


def test_answer_is_the_same_without_a_proof() -> None:
    """A proof changes the certificate and no bit of an answer that needs no fallback."""
    a = spd(16, 100.0)

    plain, proved = answer("inv_root", {"a": a}, r=4), answer("inv_root", {"a": a}, r=4, certify="proved")

    assert np.array_equal(plain.outputs[0], proved.outputs[0])
    assert plain.certificates[0].error_bound is None
    assert plain.certificates[0].error_estimate == proved.certificates[0].error_estimate


def test_bound_above_the_tolerance_is_not_converged() -> None:
    """A tolerance that is met by the estimate's standards and not proved is missed."""
    a = spd(40, 1e6).astype(np.float32)

    (certificate,) = answer(
        "inv_root",
        {"a": a},
        r=4,
        certify="proved",
        precision="fp32",
        tol=2e-7,
        on_failure="nan",
    ).certificates

    assert certificate.outcome is Outcome.APPROXIMATE
    assert certificate.error_bound is None or certificate.error_bound > 2e-7


@pytest.mark.parametrize("wrong", [False, True])
def test_claims_are_proved_too(wrong: bool) -> None:
    """A verification with a proof accepts a right answer by its bound and rejects a wrong one."""
    a = spd(12, 100.0)
    w, v = np.linalg.eigh(a)
    claim = (v * w ** (-0.5 if wrong else -0.25)) @ v.T

    certificate = verified("inv_root", (claim,), {"a": a}, r=4, certify="proved")

    assert certificate.outcome is (Outcome.APPROXIMATE if wrong else Outcome.CONVERGED)
    assert (certificate.error_bound is None) is wrong


def test_empty_matrices_are_proved() -> None:
    """Where some dimension is zero the answer is exact."""
    (certificate,) = answer("msign", {"m": np.zeros((0, 3))}, certify="proved").certificates

    assert (certificate.outcome, certificate.error_bound) == (Outcome.CONVERGED, 0.0)


def test_mixed_batch_proves_what_was_asked() -> None:
    """Proofs belong to single calls: one beside others has the certificate that it has alone."""
    stack = np.stack([spd(8, 100.0, seed) for seed in range(3)])

    together = answer("inv_root", {"a": stack}, r=2, certify="proved").certificates
    alone = [answer("inv_root", {"a": one}, r=2, certify="proved").certificates[0] for one in stack]

    assert list(together) == alone


@pytest.mark.parametrize("function", ["inv_root", "root", "sqrt_pair"])
@pytest.mark.parametrize("order", [12, 70])
def test_a_bound_is_the_same_beside_a_singular_matrix(function: str, order: int) -> None:
    """A proof of an answer without a shift does not depend on whether another answer has one, or none."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((order, order)))[0]
    a = (q * np.logspace(0, -2, order)) @ q.T
    a = ((a + a.T) / 2).astype(np.float32)
    singular = np.zeros_like(a)
    singular[0, 0] = 1
    keywords: dict[str, object] = {"certify": "proved", "on_failure": "nan"}
    keywords |= {} if function == "sqrt_pair" else {"r": 2}

    (alone,) = answer(function, {"a": a[None]}, **keywords).certificates
    beside = answer(function, {"a": np.stack([a, singular])}, **keywords).certificates[0]

    assert alone.error_bound is not None
    assert beside.error_bound == alone.error_bound
