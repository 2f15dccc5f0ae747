"""Float64 answers against 40-digit truth, where a float64 reference could not tell."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import EPS, candidates, run
from honesty import assert_covered
from matfn_kernels.reference import relative_error
from spectra import positive


def _power(a: np.ndarray[Any, Any], exponent: mpmath.mpf) -> np.ndarray[Any, Any]:
    values, vectors = mpmath.eigsy(mpmath.matrix(a.tolist()))
    powers = vectors * mpmath.diag([value**exponent for value in values]) * vectors.T
    order = a.shape[0]
    return np.array([[float(powers[i, j]) for j in range(order)] for i in range(order)])


@pytest.mark.parametrize("shape", ["geometric", "one_small", "many_small"])
@pytest.mark.parametrize("condition", [1e2, 1e6])
@pytest.mark.parametrize(("r", "s"), [(4, 1), (1, 1), (3, 2)])
def test_inverse_roots_to_forty_digits(r: int, s: int, condition: float, shape: str) -> None:
    """Both methods are within their own estimate and within 10 eps kappa of the exact answer."""
    a = positive(14, shape, condition)
    with mpmath.workdps(40):
        exact = _power(a[0], -mpmath.mpf(s) / r)

    for program, call in candidates("inv_root", {"a": a}, r=r, s=s):
        found = run(program, call)
        error = float(relative_error(found.outputs[0], exact[None])[0])

        assert_covered(error, found.certificates)
        assert error <= 10 * EPS["float64"] * condition
