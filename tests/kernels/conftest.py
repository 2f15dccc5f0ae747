"""Fixtures of the kernels' tests."""

from devices import device
from variants import variant

__all__ = ["device", "variant"]
