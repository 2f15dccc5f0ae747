"""Certificates' estimates against true errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from matfn_kernels.reference import relative_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from evaluating import Answer
    from matfn_kernels.contract.certificate import Certificate

__all__ = ["assert_covered", "assert_honest", "certified_error", "estimate_of", "least_size", "reference_errors"]

Array: TypeAlias = "NDArray[Any]"

_EPS = float(np.finfo(np.float64).eps)


def assert_honest(found: Answer, *truth: Array, estimated: int | range | None = None, slack: ArrayLike = 0.0) -> None:
    """Asserts that no output of a matrix is further from its true value than the matrix's estimate.

    Args:
        found: the answer.
        truth: the true value of each output, (batch, m, n) or (m, n).
        estimated: how many matrices have an estimate; None for all of them.
        slack: error of the true values, one for all matrices or one for each.
    """
    errors = [np.atleast_1d(relative_error(x, y)) for x, y in zip(found.outputs, truth, strict=True)]
    assert_covered(np.max(errors, axis=0), found.certificates, estimated=estimated, slack=slack)


def assert_covered(
    errors: ArrayLike,
    certificates: Sequence[Certificate],
    *,
    estimated: int | range | None = None,
    slack: ArrayLike = 0.0,
) -> None:
    """Asserts that each estimate is at least its error, and that the expected number of certificates has one.

    Args:
        errors: true relative errors, one a certificate.
        certificates: one a matrix.
        estimated: how many certificates have an estimate; None for all of them.
        slack: error of the true values, one for all or one for each.
    """
    estimates = [certificate.error_estimate for certificate in certificates]
    slacks = np.broadcast_to(np.asarray(slack, dtype=float), len(estimates))
    for error, estimate, extra in zip(np.atleast_1d(errors), estimates, slacks, strict=True):
        assert estimate is None or error <= estimate + extra
    count = sum(estimate is not None for estimate in estimates)
    wanted = len(estimates) if estimated is None else estimated
    assert count in (wanted if isinstance(wanted, range) else [wanted])


def estimate_of(found: Answer, item: int = 0) -> float:
    """The estimate of one matrix, which has one."""
    estimate = found.certificates[item].error_estimate
    assert estimate is not None
    return estimate


def reference_errors(certificates: Sequence[Certificate], units: float = 20) -> Array:
    """The error of a reference that was computed in float64: so many eps times each condition number."""
    return np.array([units * _EPS * (certificate.condition or 1) for certificate in certificates])


def least_size(a: Array, cotangents: Sequence[Array], outputs: Sequence[Array]) -> float:
    """The least norm that the error of a gradient in A is relative to: the sum of |cotangent| |X| / |A|."""
    products = (np.linalg.norm(c) * np.linalg.norm(x) for c, x in zip(cotangents, outputs, strict=True))
    size = float(np.linalg.norm(a))
    return float(sum(products)) / size if size else 0.0


def certified_error(gradient: Array, truth: Array, least: float) -> float:
    """||gradient - truth||_F / max(||truth||_F, the least size), 0 where nothing differs."""
    error = float(np.linalg.norm(gradient - truth))
    return error / max(float(np.linalg.norm(truth)), least) if error else 0.0
