"""Hints name what is wrong with the matrix that was sent, and what would help."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import matfn
from evaluating import answer

_EYE = np.eye(2)
_SEMIDEFINITE = np.diag([1.0, 0.0])
_INDEFINITE = np.diag([1.0, -1.0])
_MEANS = np.zeros(2)


@pytest.mark.parametrize(
    ("function", "inputs", "keywords", "code", "words"),
    [
        ("inv_root", {"a": np.zeros((2, 2))}, {"r": 2, "damping": "range"}, "singular", "the matrix is zero"),
        ("inv_root", {"a": np.zeros((2, 2))}, {"r": 2, "damping": 0.1}, "singular", "the matrix is zero"),
        ("inv_root", {"a": _SEMIDEFINITE}, {"r": 2, "damping": 0.0}, "singular", 'damping="range"'),
        ("inv_root", {"a": _SEMIDEFINITE}, {"r": 2, "structure": "general"}, "singular", "damping > 0"),
        ("root", {"a": np.eye(2, k=1)}, {"r": 2, "structure": "general"}, "not_positive", "principal root"),
        ("root", {"a": _INDEFINITE}, {"r": 2}, "not_positive", "eig_clip"),
        ("geometric_mean", {"a": _EYE, "b": _SEMIDEFINITE}, {}, "not_positive", "b has an eigenvalue that is 0"),
        ("geometric_mean", {"a": _INDEFINITE, "b": _EYE}, {}, "not_positive", "a has an eigenvalue"),
        (
            "frechet_distance",
            {"mu1": _MEANS, "s1": _EYE, "mu2": _MEANS, "s2": _INDEFINITE},
            {},
            "not_positive",
            "eig_clip(s2",
        ),
        ("solve_sylvester", {"a": _EYE, "b": -_EYE, "q": _EYE}, {}, "singular", "an eigenvalue of A and one of -B"),
        ("solve_lyapunov", {"a": _INDEFINITE, "q": _EYE}, {}, "singular", "in a Lyapunov equation B = A^H"),
        ("tri_inv", {"t": _SEMIDEFINITE}, {}, "singular", "every diagonal entry nonzero"),
        ("root", {"a": np.array([[1.7e308]])}, {"r": 1, "s": 3}, "out_of_range", "too large for float64"),
        ("tri_inv", {"t": 1e-310 * _EYE}, {}, "out_of_range", "too large for float64"),
        ("max_logit", {"q": np.full((1, 2, 2), 1e200), "k": np.full((1, 2, 2), 1e200)}, {}, "out_of_range", "large"),
        ("tri_inv", {"t": np.float32(1e-42) * np.eye(2, dtype="float32")}, {}, "out_of_range", "for float32"),
    ],
)
def test_a_failure_names_its_cause(
    function: str, inputs: dict[str, np.ndarray], keywords: dict[str, object], code: str, words: str
) -> None:
    """Code and hint of matrices without an answer."""
    certificate = answer(function, inputs, on_failure="nan", **keywords).certificates[0]

    assert certificate.outcome == "failed"
    assert certificate.code == code
    assert words in (certificate.hint or "")


@pytest.mark.parametrize(
    ("solve", "words"),
    [
        (lambda client: client.solve_sylvester(_EYE, -_EYE, _EYE), "the equation is singular (an eigenvalue of A"),
        (lambda client: client.solve_lyapunov(_INDEFINITE, _EYE), "the equation is singular (an eigenvalue of A"),
        (lambda client: client.solve_care(_EYE, _EYE, _EYE, 0 * _EYE), "the equation is singular (R has no inverse"),
        (lambda client: client.inv_root(_SEMIDEFINITE, 2, damping=0), "the matrix is singular (an eigenvalue is 0"),
    ],
)
def test_an_error_says_what_is_singular(solve: Any, words: str) -> None:
    """The equation, and of which matrices, or the one matrix of a function."""
    with pytest.raises(matfn.Singular) as caught:
        solve(matfn.LocalClient(device="cpu"))

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("m", "steps", "words"),
    [
        (np.diag([1.0, 0.5]), 1, "estimated relative error [0-9.e-]+ is above the tolerance [0-9.e-]+$"),
        (np.diag([1.0, 1e-9]), 2, "no error estimate is known, so that the tolerance [0-9.e-]+ cannot be vouched for$"),
    ],
)
def test_a_missed_tolerance_is_told_with_its_figures(m: np.ndarray, steps: int, words: str) -> None:
    """The warning has estimate and tolerance, or says that there is no estimate."""
    with pytest.warns(matfn.ApproximateWarning, match=words):
        matfn.LocalClient(device="cpu").msign(m, steps=steps)
