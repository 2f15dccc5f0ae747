"""Parameters of which each matrix has its own: an array of them gives what calls of single matrices give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from matfn_kernels import Limits, Profile, compute, make_plan, parse_call
from matfn_kernels.contract.functions import ENTRIES, FUNCTIONS
from matfn_kernels.contract.rejection import Rejection
from spectra import positive

if TYPE_CHECKING:
    from torch import Tensor

NOMINAL = Profile.nominal()
ORDER, ITEMS = 5, 6
PLACES = (0.5, 0.0, 1.0, 0.3, -2.0, 0.5)
EXPONENTS = (0.3, -1.5, 2.0, 0.3, 1.0, 0.0)
SHIFTS = (0.0, 1e-3, 1.0, 2.0, 1e-3, 0.5)
CASES: dict[str, tuple[str, str, tuple[float, ...], dict[str, Any]]] = {
    "power": ("power", "p", EXPONENTS, {}),
    "general power": ("power", "p", EXPONENTS, {"structure": "general"}),
    "exp": ("exp", "t", EXPONENTS, {}),
    "general exp": ("exp", "t", EXPONENTS, {"structure": "general"}),
    "geometric_mean": ("geometric_mean", "t", PLACES, {}),
    "shifted": ("inv_root", "shift", SHIFTS, {"r": 4}),
    "damped": ("log", "damping", SHIFTS, {}),
    "power's gradients": ("vjp/power", "p", EXPONENTS, {}),
    "exp's gradients": ("vjp/exp", "t", EXPONENTS, {}),
    "geometric_mean's gradients": ("vjp/geometric_mean", "t", PLACES, {}),
    "verified power": ("verify/power", "p", EXPONENTS, {}),
}


def _inputs(function: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Positive definite matrices, whose batch the last input lacks where it is optional."""
    entry = ENTRIES[function]
    found = {
        item.name: torch.from_numpy(positive(ORDER, seed=seed, items=ITEMS, is_complex=dtype.is_complex)).to(dtype)
        for seed, item in enumerate(entry.inputs)
    }
    return {name: x[0] if name == "g" else x for name, x in found.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_an_array_has_the_bits_of_single_calls(case: str, dtype: torch.dtype) -> None:
    """Outputs and certificates of each matrix are those of a call of itself with its own number."""
    function, name, numbers, others = CASES[case]
    inputs = _inputs(function, dtype)
    array = torch.tensor(numbers, dtype=torch.float64)

    outputs, certificates = compute(function, inputs, {**others, name: array}, {}, profile=NOMINAL)

    for i, number in enumerate(numbers):
        alone = {key: x if x.dim() == 2 else x[i] for key, x in inputs.items()}
        expected, (certificate,) = compute(function, alone, {**others, name: number}, {}, profile=NOMINAL)
        assert certificates[i] == certificate
        assert all(torch.equal(found[i], one) for found, one in zip(outputs, expected, strict=True))


def test_an_array_broadcasts_with_the_leading_dimensions() -> None:
    """As numpy's arrays do; an empty one gives an empty answer."""
    (a,) = _inputs("exp", torch.float64).values()

    (rows,), certificates = compute("exp", {"a": a}, {"t": torch.ones(2, 1)}, {}, profile=NOMINAL)
    (none,), nothing = compute("exp", {"a": a[0]}, {"t": torch.ones(0)}, {}, profile=NOMINAL)

    assert rows.shape == (2, ITEMS, ORDER, ORDER)
    assert len(certificates) == 2 * ITEMS
    assert (none.shape, nothing) == ((0, ORDER, ORDER), ())


def test_proofs_are_of_each_matrix_with_its_own_number() -> None:
    """A proved bound belongs to the shifted matrix that was answered."""
    (a,) = (x for name, x in _inputs("inv_root", torch.float64).items() if name == "a")
    array = torch.tensor(SHIFTS, dtype=torch.float64)

    _, found = compute("inv_root", {"a": a}, {"r": 2, "shift": array}, {"certify": "proved"}, profile=NOMINAL)

    assert all(one.error_bound is not None and one.error_bound < 1e-10 for one in found)
    assert [one.shift for one in found] == list(SHIFTS)


@pytest.mark.parametrize(
    ("given", "code", "index", "words"),
    [
        ({"p": torch.tensor([1.0, 65, 2, 2, 2, 2])}, "invalid_parameter", 1, "p of item 1 is 65"),
        ({"p": torch.tensor([1.0, 2, torch.nan, 2, 2, 2])}, "invalid_parameter", 2, "p of item 2 is nan"),
        ({"p": torch.ones(5)}, "invalid_shape", None, "p: (5,)"),
        ({"p": torch.ones(6, dtype=torch.complex64)}, "unsupported_dtype", None, "real numbers"),
        ({"p": 2.0, "structure": torch.ones(6)}, "invalid_parameter", None, "structure is an array"),
        ({"p": 2.0, "shift": torch.ones(6), "damping": 0.5}, "invalid_parameter", None, "are both given"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arrays_are_refused(given: dict[str, Any], code: str, index: int | None, words: str) -> None:
    """A number outside of its domain is named with its place."""
    (a,) = (x for name, x in _inputs("power", torch.float64).items() if name == "a")

    with pytest.raises(Rejection) as refused:
        compute("power", {"a": a}, given, {}, profile=NOMINAL)

    assert (refused.value.code, refused.value.index) == (code, index)
    assert words in refused.value.detail


def test_a_wrong_number_costs_the_other_matrices_nothing() -> None:
    """Under on_failure="nan" its matrix alone is NaN, with the code of the error."""
    (a,) = (x for name, x in _inputs("power", torch.float64).items() if name == "a")
    array = torch.tensor([1.0, 65, 2, 2, 2, 2])

    (x,), found = compute("power", {"a": a}, {"p": array}, {"on_failure": "nan"}, profile=NOMINAL)

    assert [one.code for one in found] == [None, "invalid_parameter", None, None, None, None]
    assert x.isnan().flatten(1).any(-1).tolist() == [False, True, False, False, False, False]


def test_a_named_method_serves_the_numbers_that_it_can() -> None:
    """Whole powers by squaring; another one beside them is refused, alone under on_failure="nan"."""
    (a,) = (x for name, x in _inputs("power", torch.float64).items() if name == "a")
    given = {"p": torch.tensor([2.0, 3, 2, 2, 2, 5]), "structure": "general"}
    mixed = given | {"p": torch.tensor([2.0, 0.5, 2, 2, 2, 5])}

    _, whole = compute("power", {"a": a}, given, {"method": "squaring"}, profile=NOMINAL)
    _, some = compute("power", {"a": a}, mixed, {"method": "squaring", "on_failure": "nan"}, profile=NOMINAL)

    assert {one.method for one in whole} == {"squaring"}
    assert [one.code for one in some] == [None, "invalid_parameter", None, None, None, None]
    with pytest.raises(Rejection) as refused:
        compute("power", {"a": a}, mixed, {"method": "squaring"}, profile=NOMINAL)
    assert (refused.value.code, refused.value.index) == ("invalid_parameter", 1)
    with pytest.raises(Rejection, match="does not serve"):
        compute("power", {"a": a}, {"p": given["p"]}, {"method": "squaring"}, profile=NOMINAL)


def test_a_number_of_parameters_is_no_part_of_a_plan() -> None:
    """Calls whose arrays differ in their numbers alone share their program, and so a batch."""
    (a,) = (x for name, x in _inputs("power", torch.float64).items() if name == "a")
    calls = [parse_call("power", {"a": a}, {"p": torch.full((6,), p)}, {}, Limits()) for p in (0.5, 3.0)]

    plans = [make_plan(call, NOMINAL) for call in calls]

    assert plans[0].program == plans[1].program


def test_no_array_has_the_name_of_an_input() -> None:
    """An array is an input by the parameter's name."""
    for function in FUNCTIONS.values():
        assert not {entry.name for entry in function.inputs} & {entry.name for entry in function.varying}
