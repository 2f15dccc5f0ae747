"""Which of two libraries computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from matfn_kernels import blas

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def forced_blas() -> None:
    """None: here it is asked which one is chosen."""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What the environment said is asked anew, before and after."""
    blas._is_faster.cache_clear()
    yield
    blas._is_faster.cache_clear()


@pytest.mark.parametrize(
    "threads", [{}, {"OPENBLAS_NUM_THREADS": "2"}, {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}]
)
def test_openblas_does_not_serve_on_several_threads(monkeypatch: pytest.MonkeyPatch, threads: dict[str, str]) -> None:
    """Its threads would wait for each other beside torch's: it is left out unless it was told to use one."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in threads.items():
        monkeypatch.setenv(name, value)

    assert not blas.multiplies(torch.eye(512)[None])
    assert not blas.decomposes(torch.eye(512)[None])
