"""Hints name what is wrong with the matrix that was sent, and what would help."""

from __future__ import annotations

import numpy as np
import pytest

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
        ("tri_inv", {"t": _SEMIDEFINITE}, {}, "singular", "every diagonal entry nonzero"),
        ("root", {"a": np.array([[1.7e308]])}, {"r": 1, "s": 3}, "not_converged", "too large for float64"),
        ("tri_inv", {"t": 1e-310 * _EYE}, {}, "not_converged", "too large for float64"),
        ("max_logit", {"q": np.full((1, 2, 2), 1e200), "k": np.full((1, 2, 2), 1e200)}, {}, "not_converged", "large"),
        ("tri_inv", {"t": np.float32(1e-42) * np.eye(2, dtype="float32")}, {}, "not_converged", "for float32"),
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
