"""The definitions in float64: every function has one, and the kernels' answers are as close to it as they certify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bit_cases import COMPLEX, REAL, Case, cases
from evaluating import answer, truth
from honesty import assert_covered, reference_errors
from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.reference import DEFINITIONS, errors, value
from spectra import positive

if TYPE_CHECKING:
    from collections.abc import Iterator


def _chosen() -> Iterator[Case]:
    """One case, of medium size, for each choice of a function's parameters and inputs and each dtype that numpy has."""
    sizes: dict[str, list[Case]] = {}
    for case in cases():
        if case.dtype in (*REAL, *COMPLEX) and case.keywords.keys().isdisjoint({"tol", "precision"}):
            given = sorted(case.inputs(("well",)))
            sizes.setdefault(f"{case.function} {case.keywords} {given} {case.dtype}", []).append(case)
    return (found[len(found) // 2] for found in sizes.values())


CASES = list(_chosen())


def test_every_function_has_a_definition() -> None:
    """The catalogue's entries name the definitions, all of them and no others."""
    assert {entry.reference for entry in FUNCTIONS.values()} == DEFINITIONS.keys()


def test_every_function_is_compared() -> None:
    """There are real cases of each function, and complex ones of those that take complex matrices."""
    assert {case.function for case in CASES if case.dtype in REAL} == FUNCTIONS.keys()
    taken = {name for name, entry in FUNCTIONS.items() if entry.complex_ok}
    assert {case.function for case in CASES if case.dtype in COMPLEX} == taken


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_are_within_their_estimates_of_the_definition(case: Case) -> None:
    """For every function, parameter and dtype: the certificate's estimate and the definition's rounding cover it."""
    inputs = {name: tensor.numpy() for name, tensor in case.inputs(("other",)).items()}

    found = answer(case.function, inputs, **case.keywords)

    exact = truth(case.function, inputs, found.certificates, **case.keywords)
    assert [x.shape for x in exact] == [x.shape for x in found.outputs]
    worst = errors(case.function, inputs, found.outputs, exact)
    assert_covered(worst, found.certificates, slack=reference_errors(found.certificates))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_leading_dimensions_are_taken(function: str) -> None:
    """A single matrix and a batch of batches have the values of the batch."""
    case = next(case for case in CASES if case.function == function and case.dtype == "float64")
    inputs = {name: tensor.numpy() for name, tensor in case.inputs(("well", "other")).items()}
    batch = value(function, inputs, case.keywords)

    single = value(function, {name: array[0] for name, array in inputs.items()}, case.keywords)
    nested = value(function, {name: array[:, None] for name, array in inputs.items()}, case.keywords)

    for one, other, all_of_them in zip(single, nested, batch, strict=True):
        np.testing.assert_allclose(one, all_of_them[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(other[:, 0], all_of_them, rtol=1e-12, atol=1e-12)


def test_shift_is_one_for_all_or_one_each() -> None:
    """Each matrix is shifted by its own number."""
    a, shift = positive(6, items=2), np.array([0.5, 2.0])

    (both,) = value("inv_root", {"a": a}, {"r": 2}, shift)

    for one, exact, number in zip(a, both, shift, strict=True):
        np.testing.assert_allclose(exact @ exact @ (one + number * np.eye(6)), np.eye(6), atol=1e-12)
    np.testing.assert_array_equal(both[0], value("inv_root", {"a": a}, {"r": 2}, 0.5)[0][0])
