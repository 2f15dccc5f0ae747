"""A GPU as the executor and its stagings see it: streams, events and page-locked memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from matfn_kernels import Findings, Program

__all__ = ["IEEE", "CudaDevice", "CudaPort", "demand_ieee"]

IEEE: Final = {
    "NVIDIA_TF32_OVERRIDE": "0",
    "CUBLAS_EMULATE_SINGLE_PRECISION": "0",
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "0",
}
"""Settings under which NVIDIA's libraries neither multiply in TF32 nor emulate fp32 and fp64 on tensor cores."""


def demand_ieee(environment: MutableMapping[str, str] = os.environ) -> None:
    """Makes products in fp32 and fp64 round as IEEE arithmetic does, on which certificates of a GPU stand.

    It has an effect before the first product, for which the libraries read the environment.
    """
    environment.update(IEEE)
    torch.set_float32_matmul_precision("highest")


class CudaDevice:
    """The current GPU, with one stream on which everything is computed."""

    def __init__(self) -> None:
        demand_ieee()
        self.name = f"cuda:{torch.cuda.current_device()}"
        self._stream = torch.cuda.Stream(self.name)  # type: ignore[no-untyped-call]

    def port(self) -> CudaPort:
        """A new stream of copies."""
        return CudaPort(self.name, self._stream)

    def computing(self) -> AbstractContextManager[object]:
        """A context in which kernels are launched on the computing stream."""
        return torch.cuda.stream(self._stream)

    def record(self, program: Program, inputs: Mapping[str, Tensor]) -> Callable[[], Findings]:
        """A graph of a program's run."""
        return record(program, inputs)

    def release(self) -> None:
        """Gives memory back that is kept for reuse."""
        torch.cuda.empty_cache()


class CudaPort:
    """Copies on a stream of their own, ordered against the computing stream by events."""

    def __init__(self, device: str, computing: torch.cuda.Stream) -> None:
        self._device = device
        self._computing = computing
        self._copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def pinned(self, size: int) -> Tensor:
        """Page-locked bytes."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def send(self, host: Tensor) -> Tensor:
        """A copy on the GPU, whose memory is not reused before the computing stream is done with it."""
        with torch.cuda.stream(self._copying):
            there = host.to(self._device, non_blocking=True)
        there.record_stream(self._computing)
        return there

    def fetch(self, there: Tensor, host: Tensor) -> None:
        """A copy to the host."""
        with torch.cuda.stream(self._copying):
            host.copy_(there, non_blocking=True)

    def compute_after_copies(self) -> None:
        """The computing stream waits for this one."""
        self._computing.wait_event(self._copying.record_event())

    def copy_after_computing(self) -> None:
        """This stream waits for the computing stream."""
        self._copying.wait_event(self._computing.record_event())

    def finish(self) -> None:
        """The host waits for this stream."""
        self._copying.synchronize()
