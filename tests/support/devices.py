"""The device on which tests of the kernels make their tensors and compute."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["device"]


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device that was asked for, where new tensors are made."""
    name: str = request.config.getoption("--device")
    # torch makes them on the CPU anyway, and within its context every call costs several times as much
    with nullcontext() if name == "cpu" else torch.device(name):
        yield name
