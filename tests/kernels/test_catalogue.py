"""What an entry of the catalogue says of its function is true of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from matfn_kernels import Profile, compute
from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.methods.candidates import CANDIDATES
from matfn_kernels.programs.validation import Limits, parse_call
from same_answers import combinations, parsed

if TYPE_CHECKING:
    from same_answers import Combination

CASES = list({combination.case.name: combination for combination in combinations(brief=True)}.values())


def test_every_function_has_programs() -> None:
    """The table of methods serves the functions of the catalogue and no others."""
    assert CANDIDATES.keys() == FUNCTIONS.keys()


def test_verifiability_is_that_of_the_residual() -> None:
    """Equations have an estimate only, signs, means, distances and attention nothing, and all others a bound."""
    by_kind = {kind: {f.name for f in FUNCTIONS.values() if f.verifiability == kind} for kind in ("estimate", "none")}

    assert by_kind["estimate"] == {name for name in FUNCTIONS if name.startswith("solve_")}
    assert by_kind["none"] == {
        *("mcsgn", "spectral_projector", "frechet_distance", "geometric_mean"),
        *("max_logit", "qk_clip", "delta_rule"),
    }
    assert {function.verifiability for function in FUNCTIONS.values()} == {"bound", *by_kind}


@pytest.mark.parametrize("combination", CASES, ids=lambda combination: combination.case.name)
def test_outputs_have_the_shapes_that_are_stated(combination: Combination) -> None:
    """Each output has as many numbers a matrix as its entry says, and there are as many outputs."""
    case, function = combination.case, FUNCTIONS[combination.case.function]
    inputs = case.inputs(("well",))
    sizes = {
        label: size
        for entry in function.inputs
        if entry.name in inputs
        for label, size in zip(entry.shape, inputs[entry.name].shape[1:], strict=True)
    }

    (row,) = combination.rows(["well"])
    found = [len(output) // parsed(case, inputs).dtype.itemsize for output in row.outputs.values()]

    assert found == list(function.output_elements(sizes))


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        ("max_logit", {"q": (50, 60, 1, 0), "k": (50, 60, 1, 0)}),
        ("delta_rule", {"q": (40, 0, 64), "k": (40, 0, 64), "v": (40, 0, 64)}),
        ("tri_inv", {"t": (30, 20, 20)}),
        ("dplr_inv", {"diag": (9, 40), "q": (9, 40, 1), "k": (9, 40, 1)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_outputs_count_against_the_limit(function: str, inputs: dict[str, tuple[int, ...]]) -> None:
    """An output may hold more than the inputs, even where those are empty; what all hold is bounded."""
    tensors = {name: torch.ones(shape) for name, shape in inputs.items()}
    held = {"max_logit": 3000, "delta_rule": 40 * 64 * 64, "tri_inv": 12000, "dplr_inv": 9 * 1600}[function]

    parse_call(function, tensors, {}, {}, Limits(max_elements=held))
    with pytest.raises(Rejection, match=f"would hold {held} numbers"):
        parse_call(function, tensors, {}, {}, Limits(max_elements=held - 1))


@pytest.mark.parametrize("function", [name for name, entry in FUNCTIONS.items() if not entry.complex_ok])
def test_the_real_embedding_is_proposed_where_it_answers(function: str) -> None:
    """A triangle's embedding is none, and a distance counts each part twice: the hint names complex functions."""
    shapes = {entry.name: (2,) * len(entry.shape) for entry in FUNCTIONS[function].inputs}
    inputs = {name: torch.ones(shape, dtype=torch.complex64) for name, shape in shapes.items()}

    with pytest.raises(Rejection) as refused:
        parse_call(function, inputs, {}, {}, Limits())

    assert ("embedding" in str(refused.value.hint)) == (function in {"mcsgn", "spectral_projector"})


@pytest.mark.parametrize("function", ["mcsgn", "spectral_projector"])
def test_the_real_embedding_has_that_of_the_answer(function: str) -> None:
    """Following the hint gives the sign, or projector, of the complex matrix."""
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(5, 5, dtype=torch.complex128, generator=generator)
    w = torch.tensor([1.0, -2.0, 0.5 + 1j, -0.3 - 2j, 3j + 1], dtype=torch.complex128)
    a, sign = ((v * values) @ torch.linalg.inv(v) for values in (w, w.real.sign()))
    expected = sign if function == "mcsgn" else (sign + torch.eye(5)) / 2
    embedded = torch.cat([torch.cat([a.real, -a.imag], 1), torch.cat([a.imag, a.real], 1)])

    (found,), _ = compute(function, {"a": embedded}, {}, {}, profile=Profile.nominal())

    assert torch.allclose(torch.complex(found[:5, :5], found[5:, :5]), expected, atol=1e-9)
