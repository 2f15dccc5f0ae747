"""Each function of the library in C keeps to its memory and gives a matrix its answer, whatever it is called with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matfn_kernels.linalg.native import library as module
from matfn_kernels.linalg.native.library import is_built, library, variant
from native_calls import CASES, SHIFTS
from variants import VARIANTS, use

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTED = hasattr(library(), "matfn_arena_fail")
"""Whether the library is the one of `make sanitize`."""
HELPERS = {f"matfn_native_{name}" for name in ("use", "variant", "contract")} | {"matfn_lapack_take"}
HELPERS |= {"matfn_in_parts", "matfn_batch_in_parts"}  # which call the others
HELPERS |= {"matfn_half_polar_f32"}  # which one variant has: test_half_polar

pytestmark = [
    pytest.mark.skipif(not is_built(), reason="installed without a C compiler"),
    pytest.mark.timeout(600),
]


@pytest.fixture
def usual() -> Iterator[None]:
    """Takes the instruction set that was in use before the test again."""
    name = variant()
    yield
    use(name)


@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize("entry", CASES)
@settings(max_examples=200 if COUNTED else 25, deadline=None)
@given(data=st.data())
def test_any_call_keeps_to_its_memory(entry: str, data: st.DataObject) -> None:
    """Inputs and what lies beside arrays stay as they are, and a unit's result is the same bits anywhere and alone."""
    case = data.draw(CASES[entry])
    assert use(data.draw(st.sampled_from([name for name in VARIANTS if use(name)])))
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, case.units), max_size=3))))

    together = case.run(data.draw(SHIFTS))
    apart = case.run(data.draw(SHIFTS), byte=0x5A, cuts=cuts)

    assert (together.status, together.is_clean) == (0, True)
    assert apart == together


def test_every_function_is_called() -> None:
    """No function that the library exports is left out."""
    sources = "\n".join(path.read_text() for path in Path(module.__file__).parent.glob("*.c"))
    exported = set(re.findall(r"^EXPORTED [^(=]*?(matfn_\w+)\(", sources, re.MULTILINE))

    assert exported - HELPERS == set(CASES)
