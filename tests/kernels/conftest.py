"""Fixtures of the kernels' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices import device
from matfn_kernels.linalg import native_kernels as native
from variants import VARIANTS, instructions

if TYPE_CHECKING:
    import pytest

__all__ = ["device", "instructions", "pytest_generate_tests"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of the kernels in C runs by every instruction set, or by the one that was asked for."""
    if "instructions" in metafunc.fixturenames:
        names = (native.variant(),) if metafunc.config.getoption("--kernels") else VARIANTS
        metafunc.parametrize("instructions", names, indirect=True)
