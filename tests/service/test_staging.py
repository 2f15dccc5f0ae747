"""The way to a device and back, on a port that copies as late as it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from matfn_service.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class LatePort:
    """Copies are done when something waits for them, not before: memory that is reused too early shows."""

    def __init__(self) -> None:
        self.allocated: list[int] = []
        self.queued: list[Callable[[], object]] = []

    def pinned(self, size: int) -> Tensor:
        """Ordinary memory."""
        self.allocated.append(size)
        return torch.empty(size, dtype=torch.uint8)

    def send(self, host: Tensor) -> Tensor:
        """A tensor that is filled later."""
        there = torch.empty_like(host)
        self.queued.append(lambda: there.copy_(host))
        return there

    def fetch(self, there: Tensor, host: Tensor) -> None:
        """Fills the host's memory later."""
        self.queued.append(lambda: host.copy_(there))

    def compute_after_copies(self) -> None:
        """The computing begins here, so copies are due."""
        self.finish()

    def copy_after_computing(self) -> None:
        """The computing is done at once."""

    def finish(self) -> None:
        """Does what is queued."""
        for copy in self.queued:
            copy()
        self.queued.clear()


@pytest.fixture
def staging() -> Staging:
    """A staging whose copies are late."""
    return Staging(LatePort())


def _tensors(seed: int, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex128])
def test_tensors_arrive_and_return(staging: Staging, dtype: torch.dtype) -> None:
    """Tensors of any dtype and shape come back as they went."""
    tensors = _tensors(0, (3, 5, 5), (7,), (0, 4), (1, 2), dtype=dtype)

    there = staging.send(tensors)
    staging.port.compute_after_copies()
    back = staging.fetch(there)

    for tensor, found in zip(tensors, back, strict=True):
        assert found.dtype == dtype
        assert torch.equal(found, tensor)


def test_views_are_sent_as_they_look(staging: Staging) -> None:
    """A transposed or strided tensor arrives with its own entries."""
    (base,) = _tensors(0, (4, 6, 8))
    views = [base.mT, base[::2, 1:, ::3]]

    there = staging.send(views)
    staging.port.compute_after_copies()

    assert all(torch.equal(tensor, view) for tensor, view in zip(there, views, strict=True))


def test_memory_waits_for_its_copies(staging: Staging) -> None:
    """A second batch does not overwrite the first while that is still on its way."""
    first, second = _tensors(1, (4, 4)), _tensors(2, (4, 4))

    there = staging.send(first)
    staging.send(second)

    assert torch.equal(there[0], first[0])


def test_answers_outlive_the_next_batch(staging: Staging) -> None:
    """What was fetched lies in memory of its own."""
    first, second = _tensors(1, (4, 4)), _tensors(2, (4, 4))

    (kept,) = staging.fetch(first)
    staging.fetch(second)

    assert torch.equal(kept, first[0])


def test_memory_is_kept() -> None:
    """Batches of the usual size need no new page-locked memory; a larger one does, once."""
    port = LatePort()
    staging = Staging(port)
    usual, large = _tensors(0, (8, 64, 64)), _tensors(0, (8, 256, 256))

    for tensors in (usual, usual, large, usual, large):
        staging.fetch(staging.send(tensors))

    assert len(port.allocated) == 4
    assert sum(size >= large[0].nbytes for size in port.allocated) == 2
