"""Fixtures of the kernels' tests."""

from devices import device

__all__ = ["device"]
