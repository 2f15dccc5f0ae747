"""Proved bounds: never below the true error, whatever is claimed, and near it where the answer is good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from claims import Question, claims, definite, errors, power_of, proved

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
DTYPES = ("float16", "float32", "float64", "complex64", "complex128")
_LEFT_OPEN = 8 * float(np.finfo(np.longdouble).eps)
"""Error of the truth in units of the condition."""
CASES = (("spread", 1, 1.0), ("spread", 2, 1e2), ("clustered", 5, 1e4), ("half_small", 6, 1e9), ("one_small", 7, 1e12))
POWERS = [("inv_root", 1, 1), ("inv_root", 2, 1), ("inv_root", 3, 1), ("inv_root", 4, 1), ("inv_root", 3, 2)]
POWERS += [("inv_root", 2, 3), ("inv_root", 4, 2), ("root", 2, 1), ("root", 3, 1), ("root", 4, 3), ("root", 1, 2)]


def _assert_bounded(question: Question, dtype: str, rng: np.random.Generator) -> None:
    """The exact answer is bounded closely, and no claim below its error."""
    for number, outputs in enumerate(claims(question, dtype, rng)):
        error, found = errors(question, outputs), proved(question, outputs)
        assert np.all(error <= found.error.numpy() + question.uncertainty), (number, error, found)
        assert all(
            (reason is None) == np.isfinite(b) for reason, b in zip(found.reason, found.error.tolist(), strict=True)
        )


def _power(function: str, r: int, s: int, a: Array, kappa: float) -> Question:
    sign = -1 if function == "inv_root" else 1
    truth = power_of(a, sign * np.longdouble(s) / r)
    return Question(function, {"a": a}, (truth,), {"r": r, "s": s}, uncertainty=_LEFT_OPEN * kappa * max(1.0, s / r))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("function", "r", "s"), POWERS)
def test_no_claimed_power_is_bounded_below_its_error(function: str, r: int, s: int, dtype: str) -> None:
    """Right, perturbed and wrong answers of several spectra and conditions."""
    rng = np.random.default_rng([r, s, len(dtype)])
    for kind, n, kappa in CASES:
        _assert_bounded(_power(function, r, s, definite(rng, 3, n, kappa, dtype, kind), kappa), dtype, rng)
