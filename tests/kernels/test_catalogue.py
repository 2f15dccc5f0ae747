"""What an entry of the catalogue says of its function is true of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from bit_cases import cases
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
    """Equations have an estimate, functions of eigenvalues a bound; signs, means, intervals and attention nothing."""
    by_kind = {kind: {f.name for f in FUNCTIONS.values() if f.verifiability == kind} for kind in ("estimate", "none")}

    equations = {name for name in FUNCTIONS if name.startswith("solve_")}
    assert by_kind["estimate"] == equations
    assert by_kind["none"] == {
        *("mcsgn", "spectral_projector", "frechet_distance", "geometric_mean", "eigenbasis"),
        *("norm2", "cond"),
        *("max_logit", "qk_clip", "delta_rule"),
    }
    assert {function.verifiability for function in FUNCTIONS.values()} == {"bound", *by_kind}


def _width(dtype: torch.dtype, kind: str) -> int:
    """Bytes of a number of an output of this kind."""
    real = dtype if kind == "same" else dtype.to_real()
    return max(4, real.itemsize) if kind == "index" else real.itemsize


@pytest.mark.parametrize("combination", CASES, ids=lambda combination: combination.case.name)
def test_outputs_have_the_shapes_that_are_stated(combination: Combination) -> None:
    """Each output has as many numbers a matrix as its entry says, and there are as many outputs."""
    case, function = combination.case, FUNCTIONS[combination.case.function].packed(combination.case.keywords)
    inputs = case.inputs(("well",))
    sizes = {
        label: size
        for entry in function.inputs
        if entry.name in inputs
        for label, size in zip(entry.shape, inputs[entry.name].shape[1:], strict=True)
    }

    (row,) = combination.rows(["well"])
    kinds = function.kinds or ("same",) * len(function.outputs)
    widths = [_width(parsed(case, inputs).dtype, kind) for kind in kinds]
    found = [len(output) // width for output, width in zip(row.outputs.values(), widths, strict=True)]

    assert found == list(function.output_elements(sizes, case.keywords))


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
def test_a_function_of_real_numbers_refuses_complex_ones(function: str) -> None:
    """The hint names the functions that refuse them, and proposes no embedding in real matrices."""
    shapes = {entry.name: (2,) * len(entry.shape) for entry in FUNCTIONS[function].inputs if not entry.optional}
    inputs = {name: torch.ones(shape, dtype=torch.complex64) for name, shape in shapes.items()}

    with pytest.raises(Rejection) as refused:
        parse_call(function, inputs, {}, {}, Limits())

    assert refused.value.code == "unsupported_dtype"
    assert function in str(refused.value.hint)
    assert "embedding" not in str(refused.value.hint)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("function", [name for name, entry in FUNCTIONS.items() if entry.complex_ok])
def test_outputs_of_complex_inputs_are_complex_or_named_as_real(function: str, dtype: str) -> None:
    """Of matrices with an answer, without one, and with no entry."""
    entry = FUNCTIONS[function]
    case = next(case for case in cases() if (case.function, case.dtype) == (function, dtype))
    given = [case.inputs(("other",)), {name: x * torch.nan for name, x in case.inputs(("other",)).items()}]
    given += [{name: x[..., :0, :0] if x.dim() > 2 else x[..., :0] for name, x in given[0].items()}]

    for inputs in given:
        outputs, _ = compute(function, inputs, case.keywords, {"on_failure": "nan"}, profile=Profile.nominal())
        kinds = [output.dtype.is_complex for output in outputs]
        assert kinds == [name not in entry.real_outputs for name in entry.outputs]
        assert {torch.finfo(output.dtype).eps for output in outputs} == {torch.finfo(getattr(torch, dtype)).eps}
