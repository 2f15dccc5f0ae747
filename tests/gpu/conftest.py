"""Tests of what runs on a GPU.

On a GPU, all of them (`make test-gpu`). Elsewhere those of the Triton kernels alone, on Triton's interpreter, which has
to be chosen before Triton is imported: they run in a process of their own (`tests/kernels/test_triton.py`), so that no
other test sees it.
"""

from __future__ import annotations

import os

import pytest
import torch

from devices import device

__all__ = ["anyio_backend", "device"]


@pytest.fixture
def anyio_backend() -> str:
    """The service runs on asyncio alone."""
    return "asyncio"


if os.environ.get("TRITON_INTERPRET") == "1":
    collect_ignore_glob = ["test_cuda_*.py"]
else:
    collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
