"""Tensors to a device and back through kept page-locked memory, by copies beside the computing.

One staging is one thread's. What it sends lies in its memory until the device has it, so the next batch waits for the
copies of the last; two stagings take turns, one sending while the other's batch computes. The order of things on the
device is kept by the device: computing waits for the copies to it, the copies from it wait for the computing, and the
host waits once, for its answers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Port", "Staging"]

_ALIGNMENT: Final = 64
_LEAST: Final = 1 << 20


class Port(Protocol):
    """A queue of copies of its own, beside the device's queue of computations."""

    def pinned(self, size: int) -> Tensor:
        """So many bytes of host memory that the device can copy from and to by itself."""

    def send(self, host: Tensor) -> Tensor:
        """Queues a copy to the device, and returns it."""

    def fetch(self, there: Tensor, host: Tensor) -> None:
        """Queues a copy from the device."""

    def compute_after_copies(self) -> None:
        """Makes later computations wait for the copies queued so far."""

    def copy_after_computing(self) -> None:
        """Makes later copies wait for the computations queued so far."""

    def finish(self) -> None:
        """Waits for the copies queued so far."""


class Staging:
    """Host memory for one batch on its way to a device, and for one on its way back."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self._outward = port.pinned(_LEAST)
        self._inward = port.pinned(_LEAST)

    def send(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors on the device, on their way; what is computed with them must wait (`compute_after_copies`)."""
        self.port.finish()
        self._outward = self._enough(self._outward, tensors)
        hosts = _places(self._outward, tensors)
        return [self.port.send(host.copy_(tensor)) for host, tensor in zip(hosts, tensors, strict=True)]

    def fetch(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors in host memory of their own, arrived; call `copy_after_computing` before."""
        self._inward = self._enough(self._inward, tensors)
        hosts = _places(self._inward, tensors)
        for there, host in zip(tensors, hosts, strict=True):
            self.port.fetch(there, host)
        self.port.finish()
        return [host.clone() for host in hosts]

    def _enough(self, memory: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        size = sum(map(_extent, tensors))
        return memory if size <= len(memory) else self.port.pinned(1 << (size - 1).bit_length())


def _extent(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def _places(memory: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Parts of the memory with the tensors' dtypes and shapes, side by side."""
    places: list[Tensor] = []
    start = 0
    for tensor in tensors:
        octets = memory[start : start + math.prod(tensor.shape) * tensor.itemsize]
        places.append(octets.view(tensor.dtype).reshape(tensor.shape))
        start += _extent(tensor)
    return places
