"""Under `make sanitize`: want of memory in the library in C, whose allocations are counted and may fail."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matfn_kernels.linalg import invariant, native_equations
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.native import library as module
from matfn_kernels.linalg.native import riccati, upper
from matfn_kernels.linalg.native.library import library
from matfn_kernels.linalg.native.structures import OUT_OF_MEMORY
from native_calls import CASES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.skipif(not hasattr(library(), "matfn_arena_fail"), reason="run by make sanitize"),
    pytest.mark.timeout(600),
]

SCHEDULES = native.Schedules(((1e-6, ((1.875, -1.25, 0.375),) * 3),))
POWERS = native.Powers((0, 1, 2), (1, 2), pair=False, floor=1e-6, bound=1e-6, schedules=SCHEDULES)
EYE = torch.eye(5).expand(3, 5, 5).contiguous()
WIDE = EYE.double()
RULES = native_equations.Rules(0.25, 1.0, 1e-6, 4.0, 4.0, 2.0**-63, 2.0**-72, 1e-11, 1e-2)
LIMITS = riccati.Limits(40, 1e-8, 1e-9, 2.0**-14, 1e100)
LOGARITHM = upper.UpperFunction(None, 0.25, 4.0, ((0.5, 1.0),), (0.2, 0.8), 13)
CALLS: dict[str, Callable[[], Any]] = {
    "powers": lambda: native.powers(POWERS, EYE),
    "triangular_inverses": lambda: native.triangular_inverses(WIDE, lower=True, unit=False),
    "triangular_solutions": lambda: native.triangular_solutions(
        WIDE, WIDE[..., :1].contiguous(), lower=True, unit=False, transpose=False
    ),
    "polar_factors": lambda: native.polar_factors(EYE, 1e-6, SCHEDULES),
    "grams": lambda: native.grams(EYE),
    "images": lambda: native.images(EYE, WIDE, WIDE[:, 0].contiguous()),
    "apply_low_rank": lambda: native.apply_low_rank(EYE[:, 0], EYE, EYE, EYE, transpose=False, inverse=False),
    "product": lambda: invariant.product(WIDE, WIDE),
    "solve_triangular": lambda: invariant.solve_triangular(WIDE, WIDE, upper=True),
    "cholesky": lambda: invariant.cholesky(WIDE),
    "eigh": lambda: invariant.eigh(WIDE),
    "svd": lambda: invariant.svd(WIDE),
    "inverse": lambda: invariant.inverse(WIDE),
    "real_schur_forms": lambda: native_equations.real_schur_forms(WIDE, turned=True),
    "solutions": lambda: native_equations.solutions(WIDE, None, WIDE, RULES),
    "schur_forms": lambda: upper.schur_forms(WIDE),
    "riccati": lambda: riccati.solutions((WIDE,) * 4, LIMITS, discrete=True, rounded=False, gain=True),
    "upper_functions": lambda: upper.functions(LOGARITHM, WIDE.to(torch.complex128)),
}
REDUCTIONS = ("sums", "norms", "peaks", "triangle_peaks", "symmetric_peaks", "multiples")
WITHOUT_MEMORY = {f"matfn_{name}_{suffix}" for name in (*REDUCTIONS, "unexplained") for suffix in ("f32", "f64")}
WITHOUT_MEMORY |= {"matfn_random_numbers"}


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """All that the library has allocated is given back, and no allocation is left to fail."""
    assert _pieces() == 0
    yield
    _fail(0)
    assert _pieces() == 0


def _pieces() -> int:
    """Pieces of memory that the library holds."""
    return int(library().matfn_arena_pieces())  # type: ignore[union-attr]


def _fail(which: int) -> None:
    """Lets an allocation fail, the first being 1; 0 for none."""
    library().matfn_arena_fail(which)  # type: ignore[union-attr]


@pytest.mark.parametrize("entry", CASES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_failed_allocation_is_told_and_nothing_is_written(entry: str, data: st.DataObject) -> None:
    """Whichever allocation fails, the function says so, has written nothing and holds no memory; the next succeeds."""
    case, failures = data.draw(CASES[entry]), 0
    _fail(1)
    while (outcome := case.run()).status:
        assert outcome.status == OUT_OF_MEMORY
        assert outcome.is_clean
        assert outcome.written == case.untouched()
        assert _pieces() == 0
        failures += 1
        _fail(failures + 1)
    _fail(0)

    assert outcome.is_clean
    assert failures == (entry not in WITHOUT_MEMORY)


@pytest.mark.parametrize("name", CALLS)
def test_failed_allocation_raises(name: str) -> None:
    """Python raises MemoryError, and the next call is answered."""
    torch.set_num_threads(1)
    _fail(1)

    with pytest.raises(MemoryError, match="no memory for"):
        CALLS[name]()
    CALLS[name]()


def test_sanitizer_ends_a_process_that_reads_beside_an_array() -> None:
    """The library is compiled with AddressSanitizer, which runs."""
    script = """if True:
        import ctypes, sys
        libc, kernels = ctypes.CDLL(None), ctypes.CDLL(sys.argv[1])
        libc.malloc.restype = ctypes.c_void_p
        x, out = (ctypes.c_void_p(libc.malloc(ctypes.c_size_t(32))) for _ in range(2))
        kernels.matfn_sums_f64(ctypes.c_int64(1), ctypes.c_int64(int(sys.argv[2])), x, out)
    """
    command = [sys.executable, "-c", script, str(module._PATH)]

    within, beyond = (subprocess.run([*command, n], capture_output=True, text=True, check=False) for n in ("4", "5"))

    assert within.returncode == 0
    assert beyond.returncode != 0
    assert "heap-buffer-overflow" in beyond.stderr
