"""A GPU of the service, on stand-ins for CUDA."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch

from matfn_service.cuda import IEEE, CudaDevice, demand_ieee

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _same_precision_afterwards() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("asked", ["high", "medium"])
def test_products_are_ieee(asked: str) -> None:
    """TF32 and emulation are off, whatever the process and its environment asked for."""
    torch.set_float32_matmul_precision(asked)
    environment = {"NVIDIA_TF32_OVERRIDE": "1", "CUBLAS_EMULATE_DOUBLE_PRECISION": "1", "HOME": "/root"}

    demand_ieee(environment)

    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert environment == {**IEEE, "HOME": "/root"}
    assert set(IEEE.values()) == {"0"}


def test_device_demands_ieee_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is set by the time that CUDA is first asked for something."""
    seen: list[str | None] = []
    for name in IEEE:
        monkeypatch.setenv(name, "1")

    def current_device() -> int:
        seen.extend(os.environ.get(name) for name in IEEE)
        return 3

    monkeypatch.setattr(torch.cuda, "current_device", current_device)
    monkeypatch.setattr(torch.cuda, "Stream", lambda name: name)

    assert CudaDevice().name == "cuda:3"
    assert seen == ["0"] * len(IEEE)
