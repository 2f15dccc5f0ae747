"""The instruction sets that the kernels in C are compiled for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.native.library import library

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VARIANTS", "instructions", "use"]

VARIANTS = ("amx", "avx512", "avx2", "baseline")


def use(name: str) -> bool:
    """Whether this processor has the instruction set, which is in use then."""
    found = library()
    assert found is not None
    return bool(found.matfn_native_use(name.encode()) == 0)


@pytest.fixture
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set in turn, or the one that was asked for: the conftest beside the tests names them."""
    usual = native.variant()
    if not use(request.param):
        pytest.skip(f"this processor has no {request.param}")
    yield request.param
    use(usual)
