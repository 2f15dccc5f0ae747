"""The planner: pure, printable, and led by tolerance and measured cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from evaluating import parsed
from matfn_kernels import ENTRIES
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.kernel_prices import Tunable
from matfn_kernels.programs.profile import Profile
from matfn_kernels.running.plan import Plan, explain, make_plan
from spectra import positive


def _plan(function: str, name: str, shape: tuple[int, ...], dtype: torch.dtype, **keywords: object) -> Plan:
    call = parsed(function, {name: torch.eye(shape[-2], shape[-1], dtype=dtype).expand(shape)}, keywords)
    return make_plan(call, Profile.nominal())


def test_content_decides_nothing() -> None:
    """Two matrices of one shape get equal plans, however different they are."""
    easy = parsed("inv_root", {"a": np.eye(40)}, {"r": 4})
    hard = parsed("inv_root", {"a": positive(40, condition=1e14)[0]}, {"r": 4})

    assert make_plan(easy, Profile.nominal()) == make_plan(hard, Profile.nominal())


def test_batch_size_decides_nothing() -> None:
    """A matrix alone and a thousand of them run the same program."""
    one = _plan("inv_root", "a", (1, 64, 64), torch.float32, r=4)
    many = _plan("inv_root", "a", (1000, 64, 64), torch.float32, r=4)

    assert one == many


def test_cheapest_method_wins() -> None:
    """Where products are cheap the iteration is chosen, where eigh is cheap eigh is."""
    call = parsed("inv_root", {"a": np.eye(64, dtype=np.float32)}, {"r": 4})
    slow_eigh = Profile(
        "", tuple((o, p, n, s * (100 if o == "eigh" else 1)) for o, p, n, s in Profile.nominal().seconds)
    )
    slow_gemm = Profile(
        "", tuple((o, p, n, s * (100 if o == "gemm" else 1)) for o, p, n, s in Profile.nominal().seconds)
    )

    assert make_plan(call, slow_eigh).program.method == "engine"
    assert make_plan(call, slow_gemm).program.method == "eigh"


def _gpu(**factors: float) -> Profile:
    """The made-up machine with the operations of a GPU, each so many times the price of a GEMM, eigh far dearer."""
    rows = [(o, p, n, s * (1000 if o in {"eigh", "svd"} else 1)) for o, p, n, s in Profile.nominal().seconds]
    extra = [(name, p, n, s * factor) for name, factor in factors.items() for o, p, n, s in rows if o == "gemm"]
    return Profile("", tuple(rows + extra))


GPU_CALLS = [("inv_root", "a", {"r": 4}), ("msign", "m", {}), ("tri_inv", "t", {})]


@pytest.mark.parametrize(
    ("factors", "kernels"),
    [
        (
            {"symmetric_gemm": 0.5, "small": 0.9, "leaf": 0.1, "substitution": 0.2},
            ["symmetric", "symmetric", "one launch"],
        ),
        (
            {"symmetric_gemm": 0.9, "small": 0.5, "leaf": 0.2, "substitution": 0.1},
            ["one launch", "one launch", "library"],
        ),
        ({"symmetric_gemm": 2.0, "small": 2.0}, ["library", "library", "library"]),
        ({}, ["library", "library", "library"]),
    ],
)
def test_fastest_kernels_are_chosen(factors: dict[str, float], kernels: list[str]) -> None:
    """Whose kernels a program runs is led by measured cost; unmeasured ones are never chosen."""
    calls = [parsed(function, {name: np.eye(64, dtype=np.float32)}, keywords) for function, name, keywords in GPU_CALLS]

    programs = [make_plan(call, _gpu(**factors)).program for call in calls]

    assert [program.kernel for program in programs if isinstance(program, Tunable)] == kernels


@pytest.mark.parametrize("order", [16, 64, 128, 512])
@pytest.mark.parametrize("keywords", [{}, {"damping": 0.0}, {"damping": 1e-3}, {"shift": 1e-3}])
def test_a_gpu_is_never_given_the_kernels_in_c(keywords: dict[str, float], order: int) -> None:
    """Neither the program nor any that may follow it computes in C, by a profile without its prices."""
    plan = make_plan(parsed("inv_root", {"a": np.eye(order, dtype=np.float32)}, {"r": 4, **keywords}), _gpu())

    programs = (plan.program, *plan.program.fallbacks())
    assert Kernel.NATIVE not in {getattr(program, "kernel", None) for program in programs}


def test_one_launch_is_for_small_orders() -> None:
    """However cheap it is measured to be, an iteration in one launch is not offered for large matrices."""
    call = parsed("msign", {"m": np.ones((129, 16), dtype=np.float32)}, {})

    program = make_plan(call, _gpu(small=0.01)).program

    assert isinstance(program, Tunable)
    assert program.kernel is Kernel.LIBRARY


def test_complex_matrices_are_left_to_the_library() -> None:
    """No kernel of ours computes on complex numbers."""
    call = parsed("msign", {"m": np.eye(64, dtype=np.complex64)}, {"steps": 5})

    program = make_plan(call, _gpu(symmetric_gemm=0.1, small=0.1)).program

    assert isinstance(program, Tunable)
    assert program.kernel is Kernel.LIBRARY


def test_tight_tolerance_rules_out_single_precision() -> None:
    """A tolerance that the fp32 iteration can't meet leaves it out of the candidates."""
    loose = _plan("inv_root", "a", (16, 16), torch.float32, r=4)
    tight = _plan("inv_root", "a", (16, 16), torch.float32, r=4, tol=1e-6)

    assert "engine" in {loose.program.method, *(program.method for program, _ in loose.considered)}
    assert tight.program.precision is Precision.FP64
    assert not tight.considered


@pytest.mark.parametrize("function", ["inv_root", "msign"])
@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp64"])
def test_named_precision_is_not_exceeded(function: str, precision: str) -> None:
    """Every candidate and every fallback stays within the precision that was named."""
    keywords: dict[str, object] = {"r": 2} if function == "inv_root" else {}
    name = "a" if function == "inv_root" else "m"

    plan = _plan(function, name, (32, 32), torch.float32, precision=precision, **keywords)

    for program in (plan.program, *(program for program, _ in plan.considered)):
        assert program.precision == precision
        assert program.ceiling == precision


def test_calls_that_differ_do_not_share_a_key() -> None:
    """Another root, order, dtype or damping is another program."""
    base = _plan("inv_root", "a", (32, 32), torch.float32, r=4)
    others = [
        _plan("inv_root", "a", (32, 32), torch.float32, r=2),
        _plan("inv_root", "a", (33, 33), torch.float32, r=4),
        _plan("inv_root", "a", (32, 32), torch.float64, r=4),
        _plan("inv_root", "a", (32, 32), torch.float32, r=4, damping=1e-3),
        _plan("root", "a", (32, 32), torch.float32, r=4),
    ]

    assert len({base.program, *(plan.program for plan in others)}) == 6


def test_plan_explains_itself() -> None:
    """A plan says what it chose, at what price, and over what."""
    text = explain(_plan("msign", "m", (64, 64), torch.float32))

    assert "ms a matrix; instead of" in text
    assert "newton_schulz" in text


def test_cost_grows_with_order() -> None:
    """Predicted seconds rise with the order, within and beyond the measured range."""
    profile = Profile.nominal()
    costs = [profile.cost("eigh", Precision.FP64, order) for order in (1, 8, 16, 40, 64, 200, 256, 1000, 4000)]

    assert costs == sorted(costs)
    assert costs[-1] / costs[-2] == pytest.approx(64, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_proof_has_a_price(dtype: torch.dtype) -> None:
    """A call that is to be proved costs more, one of float64 more still; a function without proofs costs the same."""
    plain, proved = (_plan("inv_root", "a", (64, 64), dtype, r=4, certify=how) for how in ("estimate", "proved"))
    signs = [_plan("mcsgn", "a", (64, 64), dtype, certify=how) for how in ("estimate", "proved")]

    assert proved.seconds > plain.seconds
    assert proved.program == plain.program
    assert signs[0] == signs[1]


def _price(function: str, params: dict[str, object], **shapes: tuple[int, ...]) -> float:
    """Predicted seconds of a matrix of a call whose inputs have these shapes."""
    call = parsed(function, {name: torch.zeros(shape) for name, shape in shapes.items()}, params)
    return make_plan(call, Profile.nominal()).seconds


@pytest.mark.parametrize("heads", [1, 4, 16])
def test_thin_heads_cost_less_than_wide_ones(heads: int) -> None:
    """The price of the logits grows with the width, from one column on, by no more than the width does."""
    widths = [1, 2, 16, 64, 256]
    prices = [_price("max_logit", {}, q=(1, heads, 512, d), k=(1, 1, 512, d)) for d in widths]

    assert prices == sorted(prices)
    assert prices[-1] < widths[-1] * prices[0]


def test_logits_cost_at_least_a_pass() -> None:
    """Doubling queries and keys makes thin logits about four times as expensive."""
    few, many = (_price("max_logit", {}, q=(1, 8, t, 1), k=(1, 8, t, 1)) for t in (512, 1024))

    assert many == pytest.approx(4 * few, rel=0.1)


@pytest.mark.parametrize("chunk", [1, 4, 1024])
def test_chunks_of_odd_sizes_cost_more(chunk: int) -> None:
    """Single steps and one chunk for all steps cost more than chunks of 64."""
    shapes = {"q": (1, 1024, 64), "k": (1, 1024, 64), "v": (1, 1024, 64)}

    assert _price("delta_rule", {"chunk": chunk}, **shapes) > 2 * _price("delta_rule", {"chunk": 64}, **shapes)


@pytest.mark.parametrize("order", [2, 8, 32, 128])
def test_a_sign_costs_more_than_its_inverses(order: int) -> None:
    """The price of a sign covers ten inverses, at small orders too."""
    assert _price("mcsgn", {}, a=(1, order, order)) > 100 * Profile.nominal().cost("gemm", Precision.FP64, order)


@pytest.mark.parametrize("function", [name for name, entry in ENTRIES.items() if any(x.optional for x in entry.inputs)])
def test_calls_with_other_inputs_share_no_batch(function: str) -> None:
    """A batch holds the same inputs of every matrix: programs of calls that give different ones differ."""
    eye: dict[int, Any] = {0: np.ones(()), 1: np.ones(3), 2: np.eye(3)}
    entry = ENTRIES[function]
    whole = {item.name: -eye[len(item.shape)] if item.nonpositive else eye[len(item.shape)] for item in entry.inputs}
    whole = {name: x for name, x in whole.items() if name != "log_gate"}
    keywords = {item.name: 2 for item in entry.parameters if item.required}
    plans = []
    for left_out in (None, *(item.name for item in entry.inputs if item.optional)):
        inputs = {name: x for name, x in whole.items() if name != left_out}
        plans.append(make_plan(parsed(function, inputs, keywords), Profile.nominal()).program)

    given = 1 + sum(item.optional and item.name in whole for item in entry.inputs)
    assert len(set(plans)) == given
