"""Half precision up to its largest number: what float16 can hold is answered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluating import answer


@pytest.mark.parametrize("largest", [20000.0, 32768.0, 40000.0, 65504.0])
@pytest.mark.parametrize(
    ("function", "name", "keywords", "output"),
    [
        ("eig_clip", "a", {"lo": 0.0}, 0),
        ("root", "a", {"r": 1}, 0),
        ("mclip", "m", {"hi": None}, 0),
        ("polar", "m", {}, 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_largest_numbers_are_answered(
    function: str, name: str, keywords: dict[str, float | None], output: int, largest: float
) -> None:
    """A function whose value is the matrix itself gives it back, though 2^16 is no float16."""
    given = np.diag([largest, 1.0]).astype("float16")[None]

    found = answer(function, {name: given}, **keywords)

    assert found.certificates[0].outcome == "converged"
    assert np.array_equal(found.outputs[output], given)


def test_what_float16_cannot_hold_is_said() -> None:
    """The square of 300 is beyond float16: the hint says so."""
    found = answer("root", {"a": np.diag([300.0, 1.0]).astype("float16")[None]}, r=1, s=2, on_failure="nan")

    assert found.certificates[0].outcome == "failed"
    assert "float16" in str(found.certificates[0].hint)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("function", "a", "keywords"),
    [
        ("power", [[1.0, 0.2], [0.2, 1.0]], {"p": 33.3}),
        ("power", [[1.0, 0.2], [0.2, 1.0]], {"p": 32}),
        ("power", [[1.2]], {"p": 33.3, "structure": "general"}),
        ("power", [[0.8]], {"p": -40.0}),
        ("root", [[1.2]], {"r": 1, "s": 33}),
    ],
)
def test_high_powers_are_rounded_once(function: str, a: list[list[float]], keywords: Any, dtype: str) -> None:
    """A power of what is scaled near 1 may be tiny before the scale is put back: it is rounded after that."""
    given = np.array(a, dtype)
    w, v = np.linalg.eigh(given.astype(float))
    truth = (v * w ** (keywords.get("p") or keywords["s"])) @ v.T

    found = answer(function, {"a": given[None]}, **keywords)

    assert found.certificates[0].outcome == "converged"
    np.testing.assert_allclose(found.outputs[0][0].astype(float), truth, rtol=float(np.finfo(dtype).eps))
