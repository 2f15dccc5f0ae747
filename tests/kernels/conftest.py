"""Fixtures of the kernels' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices import device
from variants import VARIANTS, variant

if TYPE_CHECKING:
    import pytest

__all__ = ["device", "pytest_generate_tests", "variant"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of the kernels in C runs by every instruction set, or by the one that was asked for."""
    if "variant" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--kernels")
        metafunc.parametrize("variant", [asked] if asked else VARIANTS, indirect=True)
