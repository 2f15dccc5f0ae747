"""Rigorous error bounds of claimed answers."""

from matfn_kernels.proofs.bounds import Bounds, bound

__all__ = ["Bounds", "bound"]
