"""What a call is charged covers what it makes the service allocate, and follows from shapes alone."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from matfn import wire
from matfn.triangles import in_triangle
from matfn_kernels import Limits, make_plan, outline_call
from matfn_kernels.programs.profile import Profile
from matfn_service.cost import Cost, decoding_bytes
from matfn_service.ledger import Kind
from matfn_service.tensors import layout_of

MSGPACK, JSON = wire.Media.MSGPACK, wire.Media.JSON


def tensor(*shape: int) -> wire.Tensor:
    """Numbers in the memory of a body."""
    return wire.Tensor("float64", shape, memoryview(np.ones(shape).tobytes()))


def halves(*shape: int) -> wire.Tensor:
    """Numbers in half precision in the memory of a body."""
    return wire.Tensor("float16", shape, memoryview(np.ones(shape, np.float16).tobytes()))


def cost(
    function: str, inputs: dict[str, wire.Tensor], allowed: int = 0, options: dict[str, wire.Value] | None = None
) -> Cost:
    """The cost of a call."""
    sent = wire.Call(function, inputs, {"r": 2} if function == "root" else {}, options or {})
    layouts = {name: layout_of(one) for name, one in inputs.items()}
    call = outline_call(function, layouts, sent.params, sent.options, Limits())
    return Cost.of(sent, call, make_plan(call, Profile.nominal()), allowed)


def test_numbers_that_stay_in_the_body_are_not_charged_again() -> None:
    """A call whose inputs are used where they lie is charged its outputs."""
    found = cost("msign", {"m": tensor(5, 4, 6)})

    assert (found.copied, found.answered, found.items) == (0, 5 * 4 * 6 * 8, 5)
    assert found.computed >= found.answered


@pytest.mark.parametrize(
    ("function", "inputs", "copied"),
    [
        ("tri_solve", {"t": tensor(2, 1, 3, 3), "b": tensor(1, 50, 3, 0)}, 100 * 9 * 8),
        ("tri_solve", {"t": tensor(3, 3), "b": tensor(50, 3, 1)}, 50 * 9 * 8),
        ("solve_sylvester", {"a": tensor(2, 2), "b": tensor(7, 3, 3), "q": tensor(2, 3)}, 7 * (4 + 6) * 8),
        ("root", {"a": in_triangle(wire.Tensor("float64", (4, 3, 3), np.ones((4, 3, 3)).tobytes()), "L")}, 4 * 9 * 8),
        ("msign", {"m": wire.Tensor("float64", (4, 3), np.ones((4, 3)).tobytes())}, 12 * 8),
        ("tri_solve", {"t": tensor(3, 3), "b": halves(3, 5)}, 15 * 8),
        ("tri_solve", {"t": halves(3, 3), "b": tensor(7, 3, 5)}, 7 * 9 * 8),
    ],
    ids=["both", "one of many", "two inputs", "triangles", "text", "promoted", "promoted and broadcast"],
)
def test_inputs_that_are_copied_are_charged(function: str, inputs: dict[str, wire.Tensor], copied: int) -> None:
    """Inputs that are broadcast, promoted, completed or read from text are charged as large as they become."""
    assert cost(function, inputs).copied == copied


def test_replacing_flawed_matrices_is_charged() -> None:
    """Where flawed matrices are replaced, all inputs may be copied."""
    assert cost("msign", {"m": tensor(5, 4, 6)}, options={"on_failure": "nan"}).copied == 5 * 4 * 6 * 8


@pytest.mark.parametrize(
    ("inputs", "numbers"),
    [
        ({"q": tensor(50, 60, 1, 0), "k": tensor(1, 60, 1, 0)}, 3000),
        ({"q": tensor(7, 9, 0, 0), "k": tensor(9, 0, 0)}, 63),
        ({"q": tensor(0, 9, 1, 0), "k": tensor(9, 1, 0)}, 0),
    ],
)
def test_outputs_of_empty_inputs_are_charged(inputs: dict[str, wire.Tensor], numbers: int) -> None:
    """Outputs count, whatever the inputs hold, once more for each copy in the answer."""
    found = cost("max_logit", inputs)

    assert found.answered == numbers * 8
    assert found.charges(4)[Kind.ANSWERS] == 4 * numbers * 8
    assert found.charges(0)[Kind.OUTPUTS] >= numbers * 8


def test_working_memory_counts_beyond_what_workers_have() -> None:
    """A matrix is charged the memory that a worker needs for it alone, less what every worker has."""
    assert cost("msign", {"m": tensor(100, 100)}).working == 8 * 8 * 100 * 100
    assert cost("mcsgn", {"a": tensor(2, 100, 100)}).working == 14 * 8 * 100 * 100
    assert cost("mcsgn", {"a": tensor(2, 100, 100)}, 14 * 8 * 100 * 100).working == 0


def test_an_outline_takes_no_memory() -> None:
    """Gigabytes after broadcasting are planned and charged without a copy of one number."""
    t, b = tensor(2, 1, 60, 60), tensor(1, 32768, 60, 0)
    tracemalloc.start()
    try:
        found = cost("tri_solve", {"t": t, "b": b})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    call = outline_call("tri_solve", {"t": layout_of(t), "b": layout_of(b)}, {}, {}, Limits())

    assert found.copied == 65536 * 3600 * 8
    assert {name: tuple(one.shape) for name, one in call.inputs.items()} == {"t": (65536, 60, 60), "b": (65536, 60, 0)}
    assert all(one.untyped_storage().nbytes() <= torch.float64.itemsize for one in call.inputs.values())


@pytest.mark.parametrize("entry", [b"0", b"0.5", b"[]", b"0.12345678901234567", b"-1e9", b"null"])
def test_text_is_charged_its_values(entry: bytes) -> None:
    """Values of a body in JSON take several times its bytes; numbers in msgpack stay where they are."""
    text = memoryview(b'{"inputs":{"m":[[' + (entry + b",") * 100_000 + entry + b"]]}}")
    tracemalloc.start()
    try:
        wire.decode_call(text, JSON, "msign")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak <= decoding_bytes(text, JSON) <= 4 * peak
    assert decoding_bytes(text, MSGPACK) == 0
