"""Half precision up to its largest number: what float16 can hold is answered."""

from __future__ import annotations

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
